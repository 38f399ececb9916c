"""Silence of the trigger: a pause once, after a beat; asystole again while it lasts; none on bad
signal."""

from __future__ import annotations

from edge.bundle.manifest import Rhythm
from edge.pipeline.silence import Silence

RHYTHM = Rhythm(pause_ms=2000, asystole_ms=4000)


def events(silence: Silence, *searched_to: int) -> list[tuple[str, int, int]]:
    return [(s.name, s.start, s.end) for at in searched_to for s in silence.reached(at)]


def watching(at: int = 0) -> Silence:
    silence = Silence(RHYTHM, 100.0)
    silence.restart(at)
    return silence


def test_pause_then_asystole_after_a_beat() -> None:
    silence = watching()
    silence.beat(50)
    assert events(silence, 249) == []
    assert events(silence, 250, 300) == [("pause", 50, 250)]
    assert events(silence, 449, 450) == [("asystole", 50, 450)]
    assert events(silence, 849, 850) == [("asystole", 50, 850)]


def test_a_beat_ends_it() -> None:
    silence = watching()
    for beat in range(0, 1000, 150):
        silence.beat(beat)
        assert events(silence, beat + 149) == []


def test_no_pause_before_the_first_beat_but_asystole() -> None:
    assert events(watching(1000), 1399, 1400) == [("asystole", 1000, 1400)]


def test_how_far_each_look_goes_does_not_matter() -> None:
    steps, jump = watching(), watching()
    steps.beat(0)
    jump.beat(0)
    assert events(steps, *range(1300)) == events(jump, 1299)


def test_bad_signal_says_nothing() -> None:
    silence = watching()
    silence.beat(50)
    silence.stop()
    assert events(silence, 5000) == []
