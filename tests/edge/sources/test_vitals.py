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
