"""Philips IntelliVue Data Export: remote operations, poll requests and results, and their values.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271): protocol commands,
poll actions, attribute data types. All integers are big-endian. Everything that has a length or a
count must be exactly as long as it says, and lie inside what holds it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from firmware_bridge.devices.big_endian import Malformed, Reader, absolute_ns
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Validity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SESSION = bytes.fromhex("e1000002")
ROIV, RORS, ROER, ROLRS = 1, 2, 3, 5
EVENT, CONFIRMED_EVENT, CONFIRMED_SET, ACTION = 0, 1, 5, 7
FIRST, MIDDLE, LAST = 1, 2, 3  # of linked results
MDS_CREATED = 0x0D06
SINGLE_POLL = 0x0C16
EXTENDED_POLL = 0xF13B
POLL_ACTIONS = (SINGLE_POLL, EXTENDED_POLL)

MONITOR, VALUES, WAVES, ALARM_MONITOR = 0x21, 0x06, 0x09, 0x36
OBJECT_PARTITION = 1
ALARM_GROUP = 0x0801

POLL_DURATION = 0xF13E
WAVE_PRIORITIES = 0xF23A
TICKS_PER_S = 8000  # relative times
REPLACE = 0

MAX_ITEMS = 512  # of one list
_ATTRIBUTE = struct.Struct(">HH")  # id, length

NAN, NOT_AT_RESOLUTION, PLUS_INFINITY, MINUS_INFINITY = 0x7FFFFF, 0x800000, 0x7FFFFE, 0x800002
SPECIAL = {
    NAN: Validity.UNAVAILABLE,
    NOT_AT_RESOLUTION: Validity.INVALID,
    0x800001: Validity.INVALID,  # reserved
    PLUS_INFINITY: Validity.OVER,
    MINUS_INFINITY: Validity.UNDER,
}

INVALID, QUESTIONABLE, UNAVAILABLE, CALIBRATING, TEST, DEMO = (
    0x8000, 0x4000, 0x2000, 0x1000, 0x0800, 0x0400,
)  # fmt: skip

ObjectId = tuple[int, int, int]  # class, context, handle
MONITOR_ID: ObjectId = (MONITOR, 0, 0)


@dataclass(frozen=True, slots=True)
class Operation:
    """One remote operation. `operation` is the type of its event or action, 0 for others."""

    kind: int
    invoke: int
    command: int
    target: ObjectId = MONITOR_ID
    operation: int = 0
    time: int = 0  # of an event, in ticks
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class PolledObject:
    """Attributes of one object, by their ids; unknown ones are kept as they came."""

    context: int
    handle: int
    attributes: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class PollResult:
    """What a poll brought. `ticks` is the monitor's relative time, `clock_ns` its calendar time as
    if UTC, None where it has none; `object_class` says what was asked for."""

    number: int
    ticks: int
    clock_ns: int | None
    object_class: int
    objects: tuple[PolledObject, ...]


def parse_operation(data: bytes) -> Operation:
    """A remote operation, without the session header. Raises `Malformed`."""
    reader = Reader(data)
    kind = reader.u16()
    if reader.u16() != reader.left:
        raise Malformed("length")
    if kind == ROLRS:
        reader.take(2)  # state and count: each part stands for itself
    invoke, command = reader.u16(), reader.u16()
    if reader.u16() != reader.left:
        raise Malformed("length")
    if kind == ROER:
        return Operation(kind, invoke, command, body=reader.rest())
    if kind not in (ROIV, RORS, ROLRS):
        raise Malformed("operation")
    target = (reader.u16(), reader.u16(), reader.u16())
    if command in (EVENT, CONFIRMED_EVENT):
        time = reader.u32()
    elif command == ACTION:
        time = 0
        reader.take(4 if kind == ROIV else 0)  # the scope of a request
    else:
        return Operation(kind, invoke, command, target, body=reader.rest())
    operation = reader.u16()
    if reader.u16() != reader.left:
        raise Malformed("length")
    return Operation(kind, invoke, command, target, operation, time, reader.rest())


def parse_message(data: bytes) -> Operation:
    """A remote operation with its session header. Raises `Malformed`."""
    if data[:2] != SESSION[:2]:  # the context that follows is what was negotiated
        raise Malformed("session")
    return parse_operation(data[4:])


def parse_poll(operation: Operation) -> PollResult:
    """The body of a poll result. Raises `Malformed`."""
    reader = Reader(operation.body)
    number = reader.u16()
    if operation.operation == EXTENDED_POLL:
        reader.u16()  # sequence number
    ticks, clock_ns = reader.u32(), absolute_ns(reader.take(8))
    reader.u16()  # partition
    object_class, _ = reader.u16(), reader.u16()
    objects: list[PolledObject] = []
    for context in reader.counted(MAX_ITEMS):
        context_id = context.u16()
        objects += [PolledObject(context_id, polled.u16(), attributes(polled))
                    for polled in context.counted(MAX_ITEMS)]  # fmt: skip
    reader.end()
    return PollResult(number, ticks, clock_ns, object_class, tuple(objects))


def attributes(reader: Reader) -> dict[int, bytes]:
    """An attribute list: id to value. Raises `Malformed`."""
    count, data = reader.u16(), reader.take(reader.u16())
    found: dict[int, bytes] = {}
    at = 0
    for _ in range(count):
        if at + 4 > len(data):
            raise Malformed("length")
        code, size = _ATTRIBUTE.unpack_from(data, at)
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size
    if at != len(data):
        raise Malformed("length")
    return found


def attribute_list(values: Mapping[int, bytes]) -> bytes:
    """The attribute list of ids and values."""
    items = b"".join(struct.pack(">HH", code, len(v)) + v for code, v in values.items())
    return struct.pack(">HH", len(values), len(items)) + items


def counted(items: Sequence[bytes]) -> bytes:
    """Count, length and items."""
    return struct.pack(">HH", len(items), sum(map(len, items))) + b"".join(items)


def items_of(data: bytes) -> Iterator[Reader]:
    """The items of a list that is all of `data`. Raises `Malformed`."""
    reader = Reader(data)
    yield from reader.counted(MAX_ITEMS)
    reader.end()


def message(kind: int, invoke: int, command: int, body: bytes) -> bytes:
    """A remote operation with its session header."""
    body = struct.pack(">HHH", invoke & 0xFFFF, command, len(body)) + body
    return SESSION + struct.pack(">HH", kind, len(body)) + body


def _target(target: ObjectId) -> bytes:
    return struct.pack(">HHH", *target)


def created(event: Operation) -> bytes:
    """The answer to the event by which the monitor introduces itself."""
    body = _target(event.target) + struct.pack(">IHH", event.time, MDS_CREATED, 0)
    return message(RORS, event.invoke, CONFIRMED_EVENT, body)


def extended_poll(
    object_class: int, invoke: int, duration_s: float, number: int = 1, group: int = 0
) -> bytes:
    """Ask for objects of a class again and again for `duration_s`; group 0 is all attributes."""
    duration = struct.pack(">I", round(duration_s * TICKS_PER_S))
    body = struct.pack(">HHHH", number, OBJECT_PARTITION, object_class, group)
    body += attribute_list({POLL_DURATION: duration})
    head = _target(MONITOR_ID) + struct.pack(">IHH", 0, EXTENDED_POLL, len(body))
    return message(ROIV, invoke, ACTION, head + body)


def set_wave_priorities(labels: Sequence[int], invoke: int) -> bytes:
    """Say which waves are wanted, by their labels."""
    wanted = counted([struct.pack(">I", label) for label in labels])
    entry = struct.pack(">HHH", REPLACE, WAVE_PRIORITIES, len(wanted)) + wanted
    return message(ROIV, invoke, CONFIRMED_SET, _target(MONITOR_ID) + bytes(4) + counted([entry]))


def encode_poll(
    result: PollResult, invoke: int, sequence: int = 0, group: int = 0, link: int = 0
) -> bytes:
    """An extended poll result; `link` makes it one of several (`FIRST`, `MIDDLE`, `LAST`)."""
    contexts: dict[int, list[bytes]] = {}
    for polled in result.objects:
        item = struct.pack(">H", polled.handle) + attribute_list(polled.attributes)
        contexts.setdefault(polled.context, []).append(item)
    polls = [struct.pack(">H", context) + counted(items) for context, items in contexts.items()]
    body = struct.pack(">HHI", result.number, sequence & 0xFFFF, result.ticks & 0xFFFFFFFF)
    body += calendar(result.clock_ns)
    body += struct.pack(">HHH", OBJECT_PARTITION, result.object_class, group) + counted(polls)
    body = _target(MONITOR_ID) + struct.pack(">HH", EXTENDED_POLL, len(body)) + body
    if not link:
        return message(RORS, invoke, ACTION, body)
    body = struct.pack(">BBHHH", link, 0, invoke & 0xFFFF, ACTION, len(body)) + body
    return SESSION + struct.pack(">HH", ROLRS, len(body)) + body


def float_value(data: bytes) -> tuple[float | None, Validity]:
    """A FLOAT: 8-bit exponent of ten and 24-bit mantissa."""
    mantissa = int.from_bytes(data[1:4], "big")
    if mantissa in SPECIAL:
        return None, SPECIAL[mantissa]
    mantissa -= (mantissa & 0x800000) << 1
    exponent = data[0] - (data[0] & 0x80) * 2
    # Dividing gives the nearest number to what is written: 975 and -1 are 97.5.
    scale = 10.0 ** abs(exponent)
    return (mantissa / scale if exponent < 0 else mantissa * scale), Validity.VALID


def encode_float(value: float, decimals: int) -> bytes:
    """The FLOAT of a value with so many decimals."""
    mantissa = round(value * 10.0**decimals) & 0xFFFFFF
    return struct.pack(">b", -decimals) + mantissa.to_bytes(3, "big")


def calendar(clock_ns: int | None) -> bytes:
    """The absolute time in binary coded decimals; without one all bits are set."""
    if clock_ns is None:
        return b"\xff" * 8
    seconds, ns = divmod(clock_ns, NS_PER_S)
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return bytes.fromhex(at.strftime("%Y%m%d%H%M%S") + f"{ns // 10_000_000:02d}")
