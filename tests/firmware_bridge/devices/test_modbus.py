"""Modbus RTU: registers by a map file, against pymodbus and mbpoll too."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.devices import device, modbus
from firmware_bridge.devices.modbus import Decoder, crc16, framed, mapped, request
from firmware_bridge.devices.modbus_map import read_map
from firmware_bridge.emulators.emulated import emulator
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.modbus import Slave
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.errors import MapError
from firmware_bridge.link import Link
from firmware_bridge.types import LinkLost, Loss, Message, Numeric, Send, Sign, Validity

if TYPE_CHECKING:
    from collections.abc import Iterator

MAP = Path(__file__).with_name("modbus.toml").read_text("utf-8")
# The order of requests: holding 100-101, input 0-1, input 40-42.
ASK_HOLDING = "11 03 00 64 00 02 87 44"
ASK_INPUT = "11 04 00 00 00 02 73 5b"


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    (tmp_path / "map.toml").write_text(MAP)
    return tmp_path / "map.toml"


@pytest.fixture
def decoder(map_file: Path) -> Decoder:
    return Decoder(read_map(map_file))


def told(messages: list[Message]) -> dict[str, float | None]:
    return {m.channel: m.value for m in messages if isinstance(m, Numeric)}


def test_the_check_value_of_the_crc() -> None:
    assert crc16(b"123456789") == 0x4B37


def test_requests(map_file: Path) -> None:
    blocks = read_map(map_file).blocks()
    assert [request(17, b).hex(" ") for b in blocks[:2]] == [ASK_HOLDING, ASK_INPUT]
    assert [len(b) for b in blocks] == [1, 2, 2]


def test_answers_and_the_next_question(decoder: Decoder, map_file: Path) -> None:
    """Holding 100: 36.8 as a float whose low word comes first; input 0: 0x03CA = 97.0 %, 72."""
    blocks = read_map(map_file).blocks()
    first = decoder.feed(framed(bytes.fromhex("11 03 04 33 33 42 13")))
    assert told(first) == {"MDC_TEMP": pytest.approx(36.8, abs=1e-5)}
    assert first[-1] == Send(request(17, blocks[1]))
    second = decoder.feed(framed(bytes.fromhex("11 04 04 03 CA 00 48")))
    assert told(second) == {"MDC_PULS_OXIM_SAT_O2": 97.0, "MDC_PULS_OXIM_PULS_RATE": 72.0}
    assert second[-1] == Send(request(17, blocks[2]))
    third = decoder.feed(framed(bytes.fromhex("11 04 06 00 01 26 EC FF FF")))
    assert told(third) == {"MDC_PRESS_AIR_AMBIENT": 755.0, "MDC_RESP_RATE": None}
    assert not [m for m in third if isinstance(m, Send)]  # the cycle ends


def test_sentinels_and_impossible_values_are_no_numbers(decoder: Decoder) -> None:
    found = decoder.feed(framed(bytes.fromhex("11 04 04 05 78 FF FF")))
    spo2, pulse = (m for m in found if isinstance(m, Numeric))
    assert (spo2.value, spo2.validity) == (None, Validity.INVALID)  # 140 %
    assert (pulse.value, pulse.validity) == (None, Validity.UNAVAILABLE)
    (nan,) = told(decoder.feed(framed(bytes.fromhex("11 03 04 00 00 7F C0")))).values()
    assert nan is None


def test_another_slave_another_length_and_a_broken_crc_are_not_taken(decoder: Decoder) -> None:
    good = framed(bytes.fromhex("11 04 04 03 CA 00 48"))
    for bad in (
        framed(bytes.fromhex("12 04 04 03 CA 00 48")),
        framed(bytes.fromhex("11 04 02 03 CA")),
        good[:-1] + b"\0",
    ):
        assert not told(decoder.feed(bad + b"\0" * 260))
    assert told(decoder.feed(good))
    assert decoder.counters.resyncs == 1


@pytest.mark.parametrize(("code", "event"), [(2, "refused"), (4, "refused"), (6, "alive")])
def test_exceptions(decoder: Decoder, code: int, event: str) -> None:
    (sign,) = decoder.feed(framed(bytes((17, 0x84, code))))
    assert isinstance(sign, Sign) and sign.event.value == event


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("schema = 1", "schema = 2", "schema must be 1"),
        ("slave = 17", "slave = 0", "slave must lie in 1..247"),
        ("slave = 17", "slaves = 17", "unknown field `slaves`"),
        ("MDC_TEMP", "MDC_TEMPERATURE", "'MDC_TEMPERATURE' is no known measurement"),
        ('unit = "Cel"', 'unit = "[degF]"', "MDC_TEMP is measured in 'Cel'"),
        ("address = 1\n", "address = 0\n", "no two registers of a table may overlap"),
        ("address = 42", "address = 50", "blocks of a table must differ in length"),
        ("address = 42", "address = 70000", "addresses must lie in 0..65535"),
        ('type = "f32"', 'type = "f64"', "Invalid enum value 'f64'"),
        ("every_s = 0.5", "every_s = 0.0", "every_s must lie in"),
        ("scale = 0.1", "scale = 0.0", "scale must be a number other than 0"),
        ("scale = 0.1", "scale = nan", "scale must be a number other than 0"),
        ("missing = [-1]", "missing = [65535]", "no i16 holds the missing value 65535"),
    ],
)
def test_a_map_that_cannot_be_is_refused(map_file: Path, old: str, new: str, why: str) -> None:
    map_file.write_text(MAP.replace(old, new))
    with pytest.raises(MapError, match=why):
        mapped(map_file)


def test_a_map_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="cannot be used"):
        mapped(tmp_path / "none.toml")


@pytest.mark.parametrize("of", [device, emulator])
def test_a_map_is_for_those_that_need_one(of: Any, map_file: Path) -> None:
    assert of("modbus", str(map_file))
    with pytest.raises(MapError, match="'modbus' needs a map of its registers; name its file"):
        of("modbus")
    with pytest.raises(MapError, match="'cyton' takes no map; leave it out"):
        of("cyton", str(map_file))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("MDC_RESP_RATE", "MDC_ECG_AMPL_ST_V", "no emulated patient has MDC_ECG_AMPL_ST_V"),
        ("scale = 0.1", "scale = 0.001", "MDC_PULS_OXIM_SAT_O2 is about 97 %; .* no u16 holds"),
    ],
)
def test_a_map_that_no_patient_can_fill_is_not_emulated(
    map_file: Path, old: str, new: str, why: str
) -> None:
    text = MAP.replace(old, new)
    map_file.write_text(text.replace('"/min"\nmissing = [-1]', '"mm"') if "ST" in new else text)
    assert mapped(map_file)
    with pytest.raises(MapError, match=why):
        emulator("modbus", str(map_file))


def test_link_and_slave(map_file: Path, wire_to: Any) -> None:
    """All registers every half second; a lead off is unavailable in the next cycle."""
    scene = Scene(faults=(Fault(3.0, 2.0, Kind.LEAD_OFF),))
    wired = wire_to(mapped(map_file), Slave(scene, map_file))
    found = [m for m in wired.run(8.0) if isinstance(m, Numeric)]
    spo2 = [m.validity.value for m in found if m.channel == "MDC_PULS_OXIM_SAT_O2"]
    assert spo2.count("unavailable") == 4
    assert len(spo2) == 16
    assert {m.channel for m in found} == set(mapped(map_file).numerics)


def test_a_device_without_the_register_refuses(map_file: Path, wire_to: Any) -> None:
    other = map_file.with_name("other.toml")
    other.write_text(MAP.replace("address = 100", "address = 101"))
    wired = wire_to(mapped(map_file), Slave(Scene(), other))
    lost = [m for m in wired.run(1.0) if isinstance(m, LinkLost)]
    assert [m.reason for m in lost] == [Loss.REFUSED]
    assert "exception 2" in lost[0].detail


def test_silence_is_a_loss(map_file: Path, wire_to: Any) -> None:
    class Dead(Slave):
        def hear(self, data: bytes, t_s: float) -> list[bytes]:
            return []

    wired = wire_to(mapped(map_file), Dead(Scene(), map_file))
    lost = [m for m in wired.run(2.0) if isinstance(m, LinkLost)]
    assert [m.reason for m in lost] == [Loss.SILENT]


def test_cuts_change_nothing(map_file: Path, wire_to: Any) -> None:
    whole = wire_to(mapped(map_file), Slave(Scene(), map_file)).run(4.0)
    cut = wire_to(mapped(map_file), Slave(Scene(), map_file), 1).run(4.0)
    assert cut == whole


def damaged(seed: int, n: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(n):
        frame = bytearray(framed(bytes.fromhex("11 04 04") + rng.randbytes(4)))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        yield bytes(frame)


def test_no_frame_is_taken_that_its_crc_rejects(map_file: Path) -> None:
    """20,000 damaged answers, judged by pymodbus' own CRC."""
    framer = pytest.importorskip("pymodbus.framer.rtu", reason="the test extra brings pymodbus")
    map_ = read_map(map_file)
    for frame in damaged(1, 20_000):
        taken = bool(told(Decoder(map_).feed(frame)))
        good = framer.FramerRTU.compute_CRC(frame[:-2]) == int.from_bytes(frame[-2:], "big")
        assert not taken or good


def test_control_without_the_crc_damage_passes(
    map_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modbus, "crc16", lambda data: 0)
    map_ = read_map(map_file)
    assert sum(bool(told(Decoder(map_).feed(frame))) for frame in damaged(1, 1000)) > 100


SERVER = """
import sys
from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.datastore import ModbusDeviceContext
from pymodbus.framer import FramerType
from pymodbus.server import StartSerialServer
inputs = ModbusSequentialDataBlock(1, [970, 72] + [0] * 38 + [1, 0x26EC, 15] + [0] * 60)
holding = ModbusSequentialDataBlock(1, [0] * 100 + [0x3333, 0x4213] + [0] * 10)
context = ModbusServerContext(
    devices={17: ModbusDeviceContext(ir=inputs, hr=holding)}, single=False)
StartSerialServer(context, framer=FramerType.RTU, port=sys.argv[1], baudrate=19200)
"""


@contextmanager
def cable(folder: Path) -> Iterator[tuple[str, str]]:
    """Two serial ports that are each other's ends."""
    a, b = str(folder / "a"), str(folder / "b")
    ends = [f"pty,raw,echo=0,link={end}" for end in (a, b)]
    try:
        running = subprocess.Popen(["socat", *ends], stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("socat is not installed")
    with running:
        try:
            wait(lambda: os.path.exists(a) and os.path.exists(b))
            yield a, b
        finally:
            running.terminate()


def wait(done: Any, limit_s: float = 20.0) -> None:
    limit = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


@pytest.mark.integration
def test_pymodbus_answers_our_link(map_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("pymodbus", reason="the test extra brings pymodbus")
    pytest.importorskip("serial", reason="pyserial")
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(cable(tmp_path))
        server = stack.enter_context(subprocess.Popen([sys.executable, "-c", SERVER, theirs]))
        stack.callback(server.terminate)
        link = Link(mapped(map_file), ours)
        stack.callback(link.close)
        found: list[Any] = link.open(time.monotonic_ns())

        def all_there() -> bool:
            found.extend(link.poll(time.monotonic_ns()))
            return len(told(found)) == 5

        wait(all_there)
        assert told(found) == {
            "MDC_PULS_OXIM_SAT_O2": 97.0,
            "MDC_PULS_OXIM_PULS_RATE": 72.0,
            "MDC_TEMP": pytest.approx(36.8, abs=1e-5),
            "MDC_PRESS_AIR_AMBIENT": 755.0,
            "MDC_RESP_RATE": 15.0,
        }


@pytest.mark.integration
def test_mbpoll_reads_our_emulator(map_file: Path, tmp_path: Path) -> None:
    """libmodbus on the other end: input registers 0 and 1 of slave 17."""
    from firmware_bridge.address import Address
    from firmware_bridge.ports import open_serial

    with cable(tmp_path) as (ours, theirs):
        port = open_serial(Address("serial", path=ours), mapped(map_file).wire)
        slave = Slave(Scene(), map_file)
        command = ["mbpoll", "-m", "rtu", "-a", "17", "-b", "19200", "-P", "even", "-0",
                   "-t", "3", "-r", "0", "-c", "2", "-1", theirs]  # fmt: skip
        try:
            polling = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            pytest.skip("mbpoll is not installed")

        def answered() -> bool:
            for frame in slave.hear(port.read(), 0.0):
                port.write(frame)
            return polling.poll() is not None

        wait(answered)
        port.close()
        said = polling.communicate()[0]
    assert "[0]: \t970" in said and "[1]: \t72" in said


@pytest.mark.benchmark
def test_decodes_fifty_times_faster_than_the_line(map_file: Path) -> None:
    answer = framed(bytes.fromhex("11 04 04 03 CA 00 48"))
    decoder, data = Decoder(read_map(map_file)), answer * 20_000
    began_s = time.process_time()
    for at in range(0, len(data), 4096):
        decoder.feed(data[at : at + 4096])
    rate = len(data) / (time.process_time() - began_s)
    assert decoder.counters.frames == 20_000
    assert rate > 50 * mapped(map_file).wire.bytes_per_s
