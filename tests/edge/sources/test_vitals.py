"""Values of a device as rows: which count, when a row comes, and what a loss does."""

from __future__ import annotations

from typing import Any

import pytest

from edge.bundle.manifest import Features, Quantity
from edge.errors import StartError
from edge.sources.vitals import Vitals, VitalsOptions
from edge.types import Given, SourceLost
from firmware_bridge.devices import device
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Patient, Scene
from firmware_bridge.errors import LinkError
from firmware_bridge.mllp import framed
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Numeric, Validity

FEATURES = Features(
    columns=(
        Quantity("Pulse", "MDC_PULS_OXIM_PULS_RATE", "/min", 10.0, 300.0),
        Quantity("Sat", "MDC_PULS_OXIM_SAT_O2", "%", 20.0, 100.0),
        Quantity("Lactate", "LOINC 2524-7", "mmol/L", 0.1, 40.0),
    ),
    step_s=4.0,
)


class Memory:
    """A port that exists in memory, with an emulated oximeter at its end."""

    def __init__(self, *faults: Fault, device: str = "phd-oximeter") -> None:
        self.device = device
        self._device = emulated(device, Scene(Patient(), faults))
        self._inbox = b""
        self.t_s = 0.0
        self.there = True

    def at(self, now_ns: int) -> None:
        self.t_s = now_ns / NS_PER_S
        self._inbox += b"".join(self._device.say(self.t_s))

    def open(self, address: str, wire: Any) -> Memory:
        return self

    def fileno(self) -> int:
        return 7

    def read(self) -> bytes:
        if not self.there:
            raise LinkError("unplugged", "plug it in")
        data, self._inbox = self._inbox, b""
        return data

    def write(self, data: bytes) -> None:
        self._inbox += b"".join(self._device.hear(data, self.t_s))

    def close(self) -> None:
        pass


def run(port: Memory, seconds: float, settle: bool = True) -> list[Given | SourceLost]:
    vitals = Vitals(VitalsOptions(device=port.device, port="memory"), port)
    vitals.serve(FEATURES)
    vitals.open(0)
    found: list[Given | SourceLost] = []
    for tick in range(round(seconds * 20) + 1):
        for given in vitals.poll(tick * NS_PER_S // 20):
            found.append(given)
            if settle and isinstance(given, Given):
                vitals.settle("id", False)
    return found


def rows(found: list[Given | SourceLost]) -> list[dict[str, Any]]:
    return [dict(g.rows[0]) for g in found if isinstance(g, Given) and g.rows]


def test_a_course_begins_and_each_step_gives_the_means_of_its_values() -> None:
    found = run(Memory(), 12.0)
    assert [isinstance(g, Given) and g.begins for g in found] == [True, False, False, False]
    assert [g.t_ns for g in found] == [0, 4 * NS_PER_S, 8 * NS_PER_S, 12 * NS_PER_S]
    assert len({g.identity for g in found if isinstance(g, Given)}) == 4
    assert [set(row) for row in rows(found)] == [{"Pulse", "Sat"}] * 3
    assert rows(found)[1]["Pulse"] == 72.0
    assert rows(found)[1]["Sat"] == pytest.approx(97.0, abs=1.0)


def test_a_sensor_that_is_off_gives_rows_without_values() -> None:
    found = rows(run(Memory(Fault(4.0, 4.0, Kind.LEAD_OFF)), 12.0))
    assert [set(row) for row in found] == [{"Pulse", "Sat"}, set(), {"Pulse", "Sat"}]


class Doubtful(Memory):
    """An oximeter that prints numbers, and that its signal is poor, after 4 s and up to 8 s."""

    def read(self) -> bytes:
        line = super().read()
        return line.replace(b"EXC=000800", b"EXC=000C00") if 4 < self.t_s <= 8 else line


def test_a_questionable_value_is_in_no_row() -> None:
    found = rows(run(Doubtful(device="masimo-ascii1"), 12.0))
    assert [set(row) for row in found] == [{"Pulse", "Sat"}, set(), {"Pulse", "Sat"}]


def test_control_a_questionable_value_has_a_number() -> None:
    port = Doubtful(device="masimo-ascii1")
    port.at(6 * NS_PER_S)
    said = device("masimo-ascii1").decoder().feed(port.read())
    values = [m for m in said if isinstance(m, Numeric)]
    assert {m.validity for m in values} == {Validity.QUESTIONABLE}
    assert all(m.value is not None for m in values)


def test_rows_wait_for_the_one_before() -> None:
    found = run(Memory(), 20.0, settle=False)
    assert len(found) == 1


def test_a_lost_device_is_said_and_its_rows_are_empty() -> None:
    port = Memory()
    vitals = Vitals(VitalsOptions(device="phd-oximeter", port="memory"), port)
    vitals.serve(FEATURES)
    vitals.open(0)
    vitals.poll(0)
    vitals.settle("id", False)
    port.there = False
    (lost,) = vitals.poll(NS_PER_S)
    assert isinstance(lost, SourceLost) and "unplugged" in lost.cause
    (given,) = vitals.poll(4 * NS_PER_S)
    assert isinstance(given, Given) and given.rows == ({},)
    assert vitals.counters()["gaps"] == 1


def test_a_device_that_measures_nothing_of_it_is_refused() -> None:
    vitals = Vitals(VitalsOptions(device="phd-scale", port="memory"))
    with pytest.raises(StartError, match="measures nothing that the bundle takes"):
        vitals.serve(FEATURES)


def test_another_unit_is_refused() -> None:
    columns = (Quantity("Pulse", "MDC_PULS_OXIM_PULS_RATE", "Hz", 0.1, 5.0),)
    vitals = Vitals(VitalsOptions(device="phd-oximeter", port="memory"))
    with pytest.raises(StartError, match="delivers '/min'"):
        vitals.serve(Features(columns=columns, step_s=1.0))


def test_the_address_may_name_the_device() -> None:
    vitals = Vitals(VitalsOptions(port="tcp://127.0.0.1:6024?device=phd-oximeter"))
    vitals.serve(FEATURES)
    with pytest.raises(StartError, match="unknown device ''"):
        Vitals(VitalsOptions(port="/dev/ttyUSB0"))


def hl7(number: int, second: int, patient: str, rate: int, bed: str = "ICU^1") -> bytes:
    """A framed ORU^R01 of a heart rate."""
    clock = f"202611281{2 + second // 3600}{second // 60 % 60:02d}{second % 60:02d}+0000"
    rows = (
        f"MSH|^~\\&|GW|X|MEDGE|ICU|{clock}||ORU^R01^ORU_R01|{number}|P|2.6", f"PID|||{patient}",
        f"PV1||I|{bed}", f"OBR|1|||182777000^m^SCT|||{clock}",
        f"OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1|{rate}|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||F",
    )  # fmt: skip
    return framed("\r".join([*rows, ""]).encode())


class Gateway(Memory):
    """A port at which `inbox` comes."""

    def __init__(self) -> None:
        self.inbox = b""

    def at(self, now_ns: int) -> None:
        pass

    def read(self) -> bytes:
        data, self.inbox = self.inbox, b""
        return data

    def write(self, data: bytes) -> None:
        pass


def heard(said: dict[int, bytes], seconds: int, **options: Any) -> list[tuple[int, Any]]:
    """When rows came (their values; None: a course begins) and losses (their cause), one step a
    minute."""
    port, out = Gateway(), []
    vitals = Vitals(VitalsOptions(device="hl7-oru", port="x", **options), port)
    hr = Quantity("HR", "MDC_ECG_HEART_RATE", "/min", 10.0, 300.0)
    vitals.serve(Features(columns=(hr,), step_s=60.0))
    vitals.open(0)
    for second in range(seconds + 1):
        port.inbox += said.get(second, b"")
        for item in vitals.poll(second * NS_PER_S):
            if isinstance(item, Given):
                vitals.settle("id", False)
                out.append((second, None if item.begins else item.rows[0].get("HR", "-")))
            else:
                out.append((second, item.cause))
    return out


def test_a_new_patient_is_a_new_course_and_no_row_is_of_both() -> None:
    said = {s: hl7(s, s, *(("ANNA", 60) if s < 100 else ("BERT", 140))) for s in range(0, 300, 2)}
    assert heard(said, 240) == [
        (0, None), (60, 60.0), (114, "another: another patient"), (114, None), (174, 140.0),
        (234, 140.0),
    ]  # fmt: skip


def test_what_a_gateway_sends_after_an_outage_is_not_of_now() -> None:
    """Cut off from 120 s to an hour; then its queue comes at once, and the rate is another now."""
    said: dict[int, bytes] = {}
    for s in range(5, 3800, 60):
        at = s if s < 120 or s >= 3606 else 3606
        said[at] = said.get(at, b"") + hl7(s, s, "ANNA", 60 if s < 3600 else 140)
    rows = [(at, value) for at, value in heard(said, 3720) if isinstance(value, float)]
    assert rows == [(60, 60.0), (120, 60.0), (3660, 140.0), (3720, 140.0)]


def test_of_a_gateway_of_several_beds_one_can_be_named() -> None:
    said = {
        s: hl7(2 * s, s, "ANNA", 60) + hl7(2 * s + 1, s, "BERT", 140, "ICU^2")
        for s in range(0, 200, 10)
    }
    assert heard(said, 60)[1:] == [(60, 60.0)]  # the first that is heard
    assert heard(said, 60, place="ICU^2")[1:] == [(60, 140.0)]
    with pytest.raises(StartError, match="reports of one place only; leave `place` out"):
        Vitals(VitalsOptions(device="phd-oximeter", port="x", place="ICU^2"))
