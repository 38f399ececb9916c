"""The emulated Cyton over a real pty, read back by our own link, and its faults without a cable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge.devices import cyton
from firmware_bridge.emulators import faults as scripts
from firmware_bridge.emulators.cable import Cable
from firmware_bridge.emulators.faults import Fault, Kind, load_faults
from firmware_bridge.emulators.play import Player, plugged
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.errors import FaultScriptError, LinkError
from firmware_bridge.ports import open_port
from firmware_bridge.types import LinkLost, LinkMessage, LinkUp, Loss, SampleBlock

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_bridge.link import Link

RNG = np.random.default_rng(5)
SECONDS_4_MV = RNG.normal(0.0, 1.0, 1000)


def blocks(messages: list[LinkMessage]) -> list[SampleBlock]:
    return [m for m in messages if isinstance(m, SampleBlock)]


def samples_uv(messages: list[LinkMessage]) -> np.ndarray:
    return np.concatenate([b.samples for b in blocks(messages)] or [np.zeros((0, 8), np.float32)])


def frames(n: int) -> Any:
    return lambda _messages, link: link.counters.stream.frames >= n


def losses(messages: list[LinkMessage]) -> list[Loss]:
    return [m.reason for m in messages if isinstance(m, LinkLost)]


def test_every_sample_arrives_exactly(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, speed=8.0)
    messages, link = collect(board.link, frames(1000))
    expected = cyton.counts_to_uv(cyton.uv_to_counts(SECONDS_4_MV * 1000.0))
    assert np.array_equal(samples_uv(messages)[:, 0], expected)
    assert not np.array_equal(samples_uv(messages)[1:, 0], expected[:-1])  # control: one late
    c = link.counters.stream
    assert (c.frames, c.lost, c.skipped_bytes, c.duplicates) == (1000, 0, 0, 0)
    played = board.played()
    assert (played.sent_bytes, played.dropped_bytes) == (c.received_bytes, 0)
    assert played.frames == 1001  # and the banner


def test_drops_are_counted_exactly_and_seq_stays_true(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, speed=8.0, faults=[Fault(1.0, 0.4, Kind.DROP)])
    messages, link = collect(board.link, frames(900))
    assert link.counters.stream.lost == 100
    gap = next(b for b in blocks(messages) if b.lost)
    assert (gap.seq, gap.lost) == (349, 100)  # a sample is sent when its period is over
    last = blocks(messages)[-1]
    assert last.seq + len(last.samples) == 1000


def test_unplug_is_told_and_the_stream_comes_back(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, loop=True, speed=4.0, faults=[Fault(1.0, 2.0, Kind.UNPLUG)])

    def back(messages: list[LinkMessage], _link: Link) -> bool:
        ups = sum(isinstance(m, LinkUp) for m in messages)
        return ups == 2 and isinstance(messages[-1], SampleBlock)

    messages, link = collect(board.link, back)
    assert losses(messages) in ([Loss.UNPLUGGED], [Loss.UNPLUGGED, Loss.ABSENT])
    assert link.counters.reconnects == 1
    seqs = [b.seq for b in blocks(messages)]
    assert seqs == sorted(set(seqs))
    # The board streams on meanwhile: two packets just before its banner stay unconfirmed.
    assert link.counters.stream.skipped_bytes in (0, 33, 66)


def test_stall_is_silence(emulate: Any, collect: Any) -> None:
    script = [Fault(0.5, 1.6, Kind.STALL)]
    stalled = emulate(SECONDS_4_MV, loop=True, faults=script)
    messages, _ = collect(stalled.link, lambda m, _: bool(losses(m)))
    assert losses(messages) == [Loss.SILENT]
    assert len(samples_uv(messages)) == 124  # the next is due just when it hangs


def test_wrong_baud_is_garbage(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, loop=True, faults=[Fault(0.5, 9.0, Kind.WRONG_BAUD)])
    messages, link = collect(board.link, lambda m, _: bool(losses(m)))
    assert losses(messages) == [Loss.GARBAGE]
    assert link.counters.stream.frames == 124


def test_a_stream_already_running_can_be_joined(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, loop=True)
    port = open_port(str(board.link), cyton.WIRE)
    port.write(cyton.START)
    port.close()
    messages, link = collect(board.link, frames(50), join=True)
    assert isinstance(messages[0], LinkUp)
    assert link.counters.stream.text_bytes == 0
    assert link.counters.stream.lost == 0


def test_port_is_exclusive_and_says_so(emulate: Any, collect: Any) -> None:
    board = emulate(SECONDS_4_MV, loop=True)
    collect(board.link, frames(5))
    with pytest.raises(LinkError, match="close other programs"):
        open_port(str(board.link), cyton.WIRE)


def test_absent_port_is_a_link_error(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="cannot be opened"):
        open_port(str(tmp_path / "none"), cyton.WIRE)


def test_a_file_in_the_way_of_the_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cyton").write_text("precious")
    with pytest.raises(LinkError, match="choose another path"), plugged(Pty(tmp_path / "cyton")):
        pass
    assert (tmp_path / "cyton").read_text() == "precious"


class Sink:
    """A place that keeps what it is given."""

    plugged = True

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


@pytest.fixture
def played(make_board: Any) -> Any:
    """`played(faults, n, seed, batch)`: the bytes of `n` samples, looked for every `batch`."""

    def run(faults: list[Fault], n: int = 1000, seed: int = 0, batch: int = 1) -> bytes:
        board, sink = make_board(SECONDS_4_MV, faults, seed), Sink()
        board.hear(b"b", 0.0)
        player = Player(board, sink, Cable(faults, seed), None)
        for end in [*range(batch, n, batch), n]:
            player.advance(end / cyton.RATE_HZ)
        return sink.data

    return run


def channel_uv(data: bytes, channel: int = 1) -> np.ndarray:
    return samples_uv(list(cyton.Decoder().feed(data)))[:, channel - 1]


NOT_IN_THE_BYTES = (Kind.UNPLUG, Kind.SPLIT, Kind.ALARM, Kind.CLOCK_JUMP)


@pytest.mark.parametrize("kind", [k for k in Kind if k not in NOT_IN_THE_BYTES])
def test_a_script_is_deterministic_however_it_is_batched(kind: Kind, played: Any) -> None:
    script = [Fault(1.0, 1.0, kind)]
    assert played(script) == played(script, batch=32) != played([])


def test_random_faults_depend_on_the_seed(played: Any) -> None:
    script = [Fault(1.0, 1.0, Kind.BITFLIP)]
    assert played(script, seed=1) != played(script, seed=2)


def test_faults_of_the_electrode_change_only_their_channel_and_time(played: Any) -> None:
    clean = channel_uv(played([]))
    levels = {
        Kind.LEAD_OFF: lambda uv: np.all(uv == np.float32(cyton.RAIL_HIGH_UV)),
        Kind.FLAT: lambda uv: np.all(uv == clean[249]),
        Kind.SATURATE: lambda uv: np.abs(uv).max() == pytest.approx(1000.0, abs=0.02),
        Kind.ASYSTOLE: lambda uv: uv.std() == pytest.approx(20.0, rel=0.15),
    }
    for kind, holds in levels.items():
        data = played([Fault(1.0, 1.0, kind)])
        uv = channel_uv(data)
        assert holds(uv[250:500]), kind
        assert np.array_equal(np.delete(uv, np.s_[250:500]), np.delete(clean, np.s_[250:500]))
        assert not channel_uv(data, 2).any()


def test_stall_hides_its_gap_from_the_counter_and_drop_does_not(played: Any) -> None:
    for kind, lost in ((Kind.STALL, 0), (Kind.DROP, 25)):
        decoder = cyton.Decoder()
        decoder.feed(played([Fault(1.0, 0.1, kind)]))
        assert (decoder.counters.frames, decoder.counters.lost) == (975, lost)


def test_noise_among_packets_costs_only_those_left_alone(played: Any) -> None:
    """A packet with noise on either side cannot be trusted; all others arrive, at their seq."""
    clean = channel_uv(played([]))
    decoder = cyton.Decoder()
    messages = blocks(list(decoder.feed(played([Fault(1.0, 2.0, Kind.GARBAGE)]))))
    c = decoder.counters
    assert c.frames + c.lost == 1000
    assert c.lost < 30 < c.resyncs
    for block in messages:
        end = block.seq + len(block.samples)
        assert np.array_equal(block.samples[:, 0], clean[block.seq : end])


def test_board_answers_its_commands(make_board: Any) -> None:
    board = make_board(SECONDS_4_MV)
    for command in (b"v", b"d", b"?"):
        [reply] = board.hear(command, 0.0)
        assert reply.endswith(b"$$$")
    assert (board.next_s(), board.say(1.0)) == (None, [])
    assert board.hear(b"b", 1.0) == [] and board.streaming
    assert len(board.say(2.0)) == 250
    assert board.hear(b"s", 2.0) == [] and not board.streaming


def test_faults_load_from_toml(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(
        '[[fault]]\nat_s = 3\nduration_s = 0.5\nkind = "saturate"\nclip_mv = 2.0\nchannel = 2\n'
    )
    assert load_faults(script) == (Fault(3.0, 0.5, Kind.SATURATE, 2, 2.0),)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[[fault]]\nat_s=1\nduration_s=1\nkind='drop'\nat_ms=3", "unknown key 'at_ms'; use: at_s"),
        ("[[faults]]\nat_s=1", "unknown key 'faults'; use: fault"),
        ("[[fault]]\nat_s=1\nduration_s=1\nkind='explode'", "explode.*lead_off"),
        ("[[fault]]\nat_s=1\nkind='drop'", "duration_s"),
        ("[[fault]]\nat_s=-1\nduration_s=1\nkind='drop'", "at_s >= 0"),
        ("[[fault", "not a readable TOML"),
    ],
)
def test_a_wrong_script_is_refused(tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "faults.toml").write_text(toml)
    with pytest.raises(FaultScriptError, match=says):
        load_faults(tmp_path / "faults.toml")


def test_fault_script_module_needs_no_numpy() -> None:
    assert not hasattr(scripts, "np")
    assert sys.modules[scripts.__name__] is scripts
