"""A device's waves as a source: which channel, at which rate and time, and whose fault."""

from __future__ import annotations

import json
import select
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from edge.bundle.manifest import Channel, Signal, Step
from edge.errors import StartError
from edge.sources.monitor import Monitor, MonitorOptions
from edge.types import SourceLost, Waveform
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulated, emulator
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Patient, Scene
from firmware_bridge.errors import LinkError
from firmware_bridge.session import NS_PER_S, listening
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Counters,
    Device,
    Feed,
    Message,
    Priority,
    SampleBlock,
    Wire,
)

if TYPE_CHECKING:
    from pathlib import Path

ECG, PLETH = "MDC_ECG_ELEC_POTL_II", "MDC_PULS_OXIM_PLETH"
RATE_HZ = 500.0


class Decoder:
    """One byte is 50 samples: `s` of a sine of 5 Hz, `o` and `i` lead off and on, `A` and `a` an
    alarm about the patient that begins and ends; `h` is 25 samples at half the rate; `1` and `2`
    are 50 of which the device says that they are lead I, lead II."""

    def __init__(self) -> None:
        self._seq = 0
        self.counters = Counters()

    def feed(self, data: bytes) -> list[Message]:
        return [self._message(byte) for byte in data]

    def _message(self, byte: int) -> Message:
        if byte in b"oi":
            return Alert(
                "MDC_EVT_LEADS_OFF", AlertKind.TECHNICAL, Priority.LOW, byte == ord("o"), "", ECG
            )
        if byte in b"Aa":
            said = byte == ord("A")
            return Alert("two:7", AlertKind.OTHER, Priority.HIGH, said, "Jane Roe bradycardia", ECG)
        n, rate_hz = (25, RATE_HZ / 2) if byte == ord("h") else (50, RATE_HZ)
        channels = {ord("1"): (ECG[:-1], ""), ord("2"): (ECG, "")}.get(byte, ())
        at = self._seq + np.arange(n)
        self._seq += n
        wave = np.sin(2 * np.pi * 5.0 * (at - at[0]) / rate_hz).astype(np.float32)  # half a period
        if round((self._seq - n) / n) % 2:
            wave = -wave
        return SampleBlock(
            int(at[0]), 0, rate_hz, "mV", np.stack((wave, -wave), 1), "ecg", channels
        )


def made(**changes: Any) -> Device:
    feeds = (
        Feed("pleth", (PLETH,), 100.0, "1", 1.0, 0.0, 255.0),
        Feed("ecg", (ECG, "MDC_ECG_ELEC_POTL_V"), RATE_HZ, "mV", 0.001, -5.0, 5.0),
    )
    fields = {"name": "two", "title": "Two leads", "spec": "none", "wire": Wire(9600),
              "dialogue": listening(1.0), "decoder": Decoder, "feeds": feeds}  # fmt: skip
    return Device(**{**fields, **changes})


DEVICE = made()
ANALOGUE = made(feeds=(Feed("ecg", ("", ""), RATE_HZ, "mV", 3.2, 0.0, 3300.0),))
UNTOLD = made(
    feeds=(Feed("ecg", (ECG, "MDC_ECG_ELEC_POTL_V"), 0.0, "mV", 0.001, -5.0, 5.0),)
)  # its rate
UNWIRED = made(feeds=(Feed("ecg", ("", ""), RATE_HZ, "mV", 0.001, -5.0, 5.0),))


NEEDED = Signal(
    channel=Channel(mdc=ECG, unit="mV", low=-5.0, high=5.0), rate_hz=250.0, filters=(),
    trigger=Step(name="qrs"), before_ms=200.0, after_ms=400.0, max_age_ms=2000.0,
)  # fmt: skip


class Port:
    """Gives what a test puts in."""

    def __init__(self) -> None:
        self.inbox: list[bytes | LinkError] = []

    def at(self, now_ns: int) -> None:
        pass

    def open(self, address: str, wire: Wire) -> Port:
        return self

    def fileno(self) -> int:
        return 7

    def read(self) -> bytes:
        item = self.inbox.pop(0) if self.inbox else b""
        if isinstance(item, LinkError):
            raise item
        return item

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def monitor(port: Port, device: str = "DEVICE", **options: Any) -> Monitor:
    given = {"port": "x", "mdc": ECG, "unit": "mV", "device": f"two_leads:{device}", **options}
    return Monitor(MonitorOptions(**given), port)


@pytest.fixture(autouse=True)
def _own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices here are an operator's own, found by a module's name."""
    module = types.ModuleType("two_leads")
    module.__dict__.update(DEVICE=DEVICE, UNTOLD=UNTOLD, UNWIRED=UNWIRED, ANALOGUE=ANALOGUE)
    monkeypatch.setitem(sys.modules, "two_leads", module)


def hear(source: Monitor, port: Port, *data: bytes | LinkError) -> list[Waveform | SourceLost]:
    """Tenths of a second, one after the other."""
    source.open(0)
    out: list[Waveform | SourceLost] = []
    for i, item in enumerate(data, 1):
        port.inbox += [item] if item else []
        out += source.poll(i * NS_PER_S // 10)
    return out


def samples(found: list[Any]) -> np.ndarray:
    return np.concatenate([w.samples for w in found])


def test_the_channel_is_found_by_its_name() -> None:
    port = Port()
    found = hear(monitor(port, mdc="MDC_ECG_ELEC_POTL_V"), port, b"s", b"s")
    assert [w.seq for w in found if isinstance(w, Waveform)] == [0, 50]
    at = np.arange(100)
    np.testing.assert_allclose(samples(found), -np.sin(2 * np.pi * 5 * at / 500), atol=1e-6)


def test_what_is_wired_to_an_input_is_stated() -> None:
    port = Port()
    found = hear(monitor(port, "UNWIRED", channel=2), port, b"s")
    assert samples(found)[25] == pytest.approx(-1.0)
    with pytest.raises(StartError, match="has no channel 3; use 1 to 2"):
        monitor(Port(), "UNWIRED", channel=3)


def test_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(StartError, match=f"it has {PLETH}, {ECG}"):
        monitor(Port(), mdc="MDC_ECG_ELEC_POTL_AVR")


def test_another_rate_is_the_same_signal_at_the_same_time() -> None:
    """500 Hz brought to 250: each sample lies where the signal was at its own time."""
    port = Port()
    found = hear(monitor(port, rate_hz=250.0), port, *[b"s"] * 10)
    assert {w.rate_hz for w in found if isinstance(w, Waveform)} == {250.0}
    waves = [w for w in found if isinstance(w, Waveform)]
    ends = [w.seq + len(w.samples) for w in waves]
    assert [w.seq for w in waves[1:]] == ends[:-1]
    # Sample 49 of the first block arrived at 0.1 s, so sample 0 was taken at 0.002 s.
    began_s = 0.1 - 49 / RATE_HZ
    for wave in waves[2:]:
        t_s = wave.t_ns / NS_PER_S - began_s + np.arange(len(wave.samples)) / 250.0
        np.testing.assert_allclose(wave.samples, np.sin(2 * np.pi * 5 * t_s), atol=5e-3)


def test_a_device_that_changes_its_rate_keeps_its_time() -> None:
    """From 500 to 250 Hz, brought to 250: what is given goes on at 250 samples a second."""
    port = Port()
    found = hear(monitor(port, rate_hz=250.0), port, *[b"s"] * 10, *[b"h"] * 20)
    waves = [w for w in found if isinstance(w, Waveform) and w.t_ns > 1.1 * NS_PER_S]
    assert {w.rate_hz for w in waves} == {250.0}
    given_s = sum(len(w.samples) for w in waves) / 250.0
    assert given_s == pytest.approx((waves[-1].t_ns - waves[0].t_ns) / NS_PER_S + 0.1, abs=0.02)
    zeros = np.flatnonzero(np.diff(np.signbit(samples(waves))))
    assert np.diff(zeros).mean() == pytest.approx(25.0, abs=0.5)  # half a period of 5 Hz


def test_a_rate_that_cannot_be_given_is_refused_before_it_is_needed() -> None:
    for wanted in (-250.0, float("nan"), 123.456789):
        with pytest.raises(StartError, match="Hz"):
            monitor(Port(), rate_hz=wanted)
    with pytest.raises(StartError, match=f"delivers {ECG} at 500 Hz, the bundle needs .* 250 Hz"):
        monitor(Port()).serve(NEEDED)
    with pytest.raises(StartError, match="delivers 'mV', the bundle needs 'uV'"):
        monitor(Port(), rate_hz=250.0).serve(
            replace(NEEDED, channel=replace(NEEDED.channel, unit="uV"))
        )
    monitor(Port(), rate_hz=250.0).serve(NEEDED)


@pytest.mark.parametrize(("device", "wanted_hz"), [("DEVICE", 500.0), ("UNTOLD", 500.0)])
def test_a_rate_that_the_bundle_does_not_need_is_no_answer(device: str, wanted_hz: float) -> None:
    """The device goes from 500 to 250 Hz and back: between, nothing is given, and it is said."""
    port = Port()
    source = monitor(port, device)
    source.serve(replace(NEEDED, rate_hz=wanted_hz))
    found = hear(source, port, b"s", b"h", b"h", b"s")
    assert [type(item) for item in found] == [Waveform, SourceLost, Waveform]
    lost = found[1]
    assert isinstance(lost, SourceLost)
    assert lost.cause == "rate: 250 Hz come and 500 Hz are needed; set rate_hz = 500"
    assert source.counters()["received"] == 150


def test_a_loss_leaves_a_gap_at_another_rate_too() -> None:
    """By which the resampler begins anew: no sample of before is in one of after."""
    port = Port()
    gone = LinkError("gone", "plug")
    found = hear(monitor(port, rate_hz=250.0), port, b"s", gone, b"", b"", b"s", b"s")
    before, *after = (w for w in found if isinstance(w, Waveform))
    assert after[0].seq > before.seq + len(before.samples)
    assert len(before.samples) + len(after[0].samples) < 50  # each waits for what comes next


def test_a_lead_that_the_device_calls_off_is_off() -> None:
    port = Port()
    found = hear(monitor(port), port, b"s", b"os", b"s", b"is")
    assert [w.leads_off for w in found if isinstance(w, Waveform)] == [False, True, True, False]
    port = Port()
    other = hear(monitor(port, mdc="MDC_ECG_ELEC_POTL_V"), port, b"os")
    assert [w.leads_off for w in other if isinstance(w, Waveform)] == [False]  # not its lead


def test_another_lead_than_the_one_wanted_is_no_answer() -> None:
    """Chosen on the device: I, then II, then again I. Each loss is told once."""
    port = Port()
    found = hear(monitor(port), port, b"1", b"1", b"2", b"1")
    assert [type(item) for item in found] == [SourceLost, Waveform, SourceLost]
    assert isinstance(found[0], SourceLost)
    assert found[0].cause == f"channel: the device shows {ECG[:-1]}; choose {ECG} on it"


class Memory(Port):
    """An emulated device at the end of a port, told the time."""

    def __init__(self, name: str, scene: Scene) -> None:
        super().__init__()
        self._emulated = emulated(name, scene)
        self._t_s = 0.0

    def at(self, now_ns: int) -> None:
        self._t_s = now_ns / NS_PER_S
        self.inbox += self._emulated.say(self._t_s)

    def write(self, data: bytes) -> None:
        self.inbox += self._emulated.hear(data, self._t_s)


@pytest.mark.parametrize(
    ("device", "unit"), [("ge-s5", "mV"), ("philips-intellivue", "mV"), ("openview-ads1292r", "1")]
)
def test_every_ecg_that_says_lead_off_is_off(device: str, unit: str) -> None:
    """Whatever the device calls its ECG: by its lead, or without one (GE: "channel 1")."""
    port = Memory(device, Scene(faults=(Fault(4.0, 6.0, Kind.LEAD_OFF),)))
    source = Monitor(MonitorOptions(device=device, port="x", mdc=ECG, unit=unit), port)
    source.open(0)
    found = [w for n in range(1, 1400) for w in source.poll(n * NS_PER_S // 100)]
    waves = [w for w in found if isinstance(w, Waveform)]
    during = [w.leads_off for w in waves if 6.5 < w.t_ns / NS_PER_S < 9.5]
    around = [w.leads_off for w in waves if not 3.5 < w.t_ns / NS_PER_S < 13.0]
    assert during and all(during)
    assert around and not any(around)


def test_a_capture_of_a_device_that_wants_to_be_asked_is_heard_once(tmp_path: Path) -> None:
    data = b"".join(frame.data for frame in captured(emulator("cyton"), Scene(), 3.0)[0])
    (tmp_path / "night.bin").write_bytes(data)
    port = f"file://{tmp_path}/night.bin?device=cyton&pace=fast"
    source = Monitor(MonitorOptions(port=port, mdc=ECG, unit="mV"))
    source.open(0)
    found: list[Waveform | SourceLost] = []
    while not any(isinstance(item, SourceLost) for item in found):
        assert select.select([source.fileno()], [], [], 5)[0]
        found += source.poll(NS_PER_S)
    assert len(samples([w for w in found if isinstance(w, Waveform)])) > 700
    assert source.fileno() is None
    assert source.poll(60 * NS_PER_S) == []
    source.close()


def test_a_clock_outlives_its_link_and_goes_on_counting() -> None:
    """The device stands still for 0.8 s, as a clock that was set back does, and again after the
    plug was pulled."""
    port = Port()
    source = monitor(port, rate_hz=250.0)
    paused = [b"s"] * 5 + [b""] * 8 + [b"s"] * 30
    hear(source, port, *paused, LinkError("unplugged", "plug it in"))
    assert source.clock is not None and source.clock.restarts == 1
    before = source.clock
    port.inbox += [b""]
    source.poll(10 * NS_PER_S)
    assert source.clock == before
    for i, item in enumerate(paused):
        port.inbox += [item] if item else []
        source.poll((110 + i) * NS_PER_S // 10)
    assert source.clock.restarts == 2


def test_what_the_device_says_of_patient_and_fault_is_logged_without_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = Port()
    hear(monitor(port, name="says"), port, b"s", b"Ao", b"ai", b"s")
    said = capsys.readouterr().err
    assert "Jane" not in said
    alarm = {"source": "says", "code": "two:7", "channel": ECG, "priority": "high"}
    fault = {"source": "says", "code": "MDC_EVT_LEADS_OFF", "channel": ECG, "priority": "low"}
    lines = [json.loads(line) for line in said.splitlines()]
    assert all(line.pop("timestamp") for line in lines)
    assert lines == [
        {**alarm, "event": "device_alarm_began"},
        {**fault, "event": "condition_began"},
        {**alarm, "event": "device_alarm_ended"},
        {**fault, "event": "condition_ended"},
    ]


def test_after_a_loss_nothing_is_remembered() -> None:
    port = Port()
    source = monitor(port, rate_hz=250.0)
    found = hear(source, port, b"os", LinkError("unplugged", "plug it in"), b"", b"", b"s", b"s")
    lost = [i for i, item in enumerate(found) if isinstance(item, SourceLost)]
    assert len(lost) == 1
    after = [w for w in found[lost[0] :] if isinstance(w, Waveform)]
    assert after and not after[0].leads_off
    assert source.counters()["losses"] == 1


def test_counts_become_a_unit_by_a_stated_gain_alone() -> None:
    """A board whose sketch sends counts: 20,000 of them are a millivolt, at the other end too."""
    options = MonitorOptions(
        device="openview-ads1293", port="unused", mdc=ECG, unit="mV", gain=20_000.0
    )
    with pytest.raises(StartError, match=r"in counts of a converter.*; set gain to the counts in"):
        Monitor(replace(options, gain=1.0))
    source = Monitor(options, Memory("openview-ads1293", Scene()))
    source.open(0)
    found = [w for n in range(1, 300) for w in source.poll(n * NS_PER_S // 100)]
    expected_mv = Patient().wave(ECG, 0, len(samples(found)), 100.0)
    assert len(expected_mv) > 250
    np.testing.assert_allclose(samples(found), expected_mv, atol=1 / 20_000)


def test_what_a_sensor_does_is_undone() -> None:
    """An amplifier of 1100 around half the supply, as a BITalino's; the rail moves along."""
    port = Port()
    source = monitor(port, "ANALOGUE", mdc=ECG, offset=1650.0, gain=1100.0)
    (found,) = hear(source, port, b"s")
    at = np.arange(50)
    expected = (np.sin(2 * np.pi * 5 * at / 500) - 1650.0) / 1100.0
    assert isinstance(found, Waveform)
    np.testing.assert_allclose(found.samples, expected, atol=1e-6)
    assert found.rail == pytest.approx(1.5)
    with pytest.raises(StartError, match="gain 0"):
        monitor(Port(), "ANALOGUE", gain=0.0)
