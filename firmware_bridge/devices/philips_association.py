"""Philips IntelliVue Data Export: opening and ending an association.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271), association
control protocol. The session, presentation and ACSE layers of OSI appear as the fixed blocks of
bytes that the guide prints; only the user information between them is composed and read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware_bridge.devices.big_endian import Malformed, Reader
from firmware_bridge.devices.philips_messages import attribute_list, attributes

CONNECT, ACCEPT, REFUSE, FINISH, DISCONNECT, ABORT = 0x0D, 0x0E, 0x0C, 0x09, 0x0A, 0x19

_SESSION = bytes.fromhex("0508130100160102800014020002")
_CONNECT_HEADER = bytes.fromhex(
    "3180a0808001010000a280a003000001a4803080020101060452010001308006"
    "025101000000003080020102060c2a8648ce14020100000001013080060c2a86"
    "48ce140201000000020100000000000061803080020101a0806080a180060c2a"
    "8648ce14020100000003010000be802880060c2a8648ce140201000000010102"
    "010281"
)
_ACCEPT_HEADER = bytes.fromhex(
    "3180a0808001010000a280a003000001a5803080800100810251010000308080"
    "0100810c2a8648ce14020100000002010000000061803080020101a0806180a1"
    "80060c2a8648ce14020100000003010000a203020100a305a103020100be8028"
    "8002010281"
)
_USER_INFORMATION = (bytes.fromhex("be80288002010281"), bytes.fromhex("be80288081"))
_TRAILER = bytes(16)
RELEASE = bytes.fromhex("0918c11661803080020101a08062808001000000000000000000")
RELEASED = bytes.fromhex("0a18c11661803080020101a08063808001000000000000000000")
ABORTED = bytes.fromhex(
    "192e110103c129a080a0803080020101060251010000000061803080020101a0"
    "80648080010100000000000000000000"
)
REFUSED = bytes.fromhex("0c03320100")

PROTOCOL_1 = 0x80000000
NOMENCLATURE_1 = 0x40000000
CLIENT, SERVER = 0x80000000, 0x00800000
COLD_START = 0x20000000
POLL_PROFILE = 0x0001
OBJECT_SUPPORT = 0x0102
POLL_PROFILE_EXT = 0xF001
PROFILE_REV_0 = 0x80000000
DYNAMIC_OBJECTS = 0x60000000  # may be created and deleted
# Values of every second, waves and alarms in real time, enumerations, list of numeric priorities,
# time stamps of dynamic modalities: what the clients read from accept and send.
EXT_OPTIONS = 0x8E000000
TICKS_PER_MS = 8
MIN_POLL_MS = 500
MAX_MESSAGE_BYTES = 1456
# How many objects of a class the client is ready for: monitor, values, waves, enumerations,
# patient, alarm monitor.
_OBJECTS = ((0x21, 1), (0x06, 201), (0x09, 60), (0x05, 16), (0x2A, 1), (0x36, 1))


@dataclass(frozen=True, slots=True)
class Profile:
    """What both sides agreed on: the shortest poll period and the longest message."""

    min_poll_ms: float
    max_message_bytes: int


def connect(min_poll_ms: int = MIN_POLL_MS) -> bytes:
    """The association request."""
    return _session(CONNECT, _CONNECT_HEADER, _user_information(CLIENT, min_poll_ms, _OBJECTS))


def accept(min_poll_ms: int = MIN_POLL_MS) -> bytes:
    """The monitor's acceptance."""
    return _session(ACCEPT, _ACCEPT_HEADER, _user_information(SERVER, min_poll_ms, ()))


def kind_of(data: bytes) -> int | None:
    """Which message of this protocol it is; None for another. Raises `Malformed` for a length that
    is not its own."""
    reader = Reader(data)
    kind = reader.u8()
    if kind not in (CONNECT, ACCEPT, REFUSE, FINISH, DISCONNECT, ABORT):
        return None
    if _length(reader) != reader.left:
        raise Malformed("association")
    return kind


def parse_accept(data: bytes) -> Profile:
    """What the monitor agrees to. Raises `Malformed`."""
    if kind_of(data) != ACCEPT:
        raise Malformed("association")
    for mark in _USER_INFORMATION:
        if (at := data.find(mark)) >= 0:
            reader = Reader(data[at + len(mark) :])
            return _profile(reader.part(_asn_length(reader)))
    raise Malformed("association")


def _session(kind: int, header: bytes, user: bytes) -> bytes:
    presentation = header + _asn(len(user)) + user + _TRAILER
    presentation = b"\xc1" + _li(len(presentation)) + presentation
    return bytes([kind]) + _li(len(_SESSION + presentation)) + _SESSION + presentation


def _user_information(side: int, min_poll_ms: int, objects: tuple[tuple[int, int], ...]) -> bytes:
    extension = struct.pack(">I", EXT_OPTIONS) + attribute_list({})
    profile = struct.pack(
        ">6I", PROFILE_REV_0, min_poll_ms * TICKS_PER_MS, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES,
        0xFFFFFFFF, DYNAMIC_OBJECTS,
    ) + attribute_list({POLL_PROFILE_EXT: extension})  # fmt: skip
    profiles = {POLL_PROFILE: profile}
    if objects:
        entries = b"".join(struct.pack(">HHI", 1, code, n) for code, n in objects)
        profiles[OBJECT_SUPPORT] = struct.pack(">HH", len(objects), len(entries)) + entries
    head = struct.pack(">5I", PROTOCOL_1, NOMENCLATURE_1, 0, side, COLD_START)
    return head + attribute_list({}) + attribute_list(profiles)


def _profile(reader: Reader) -> Profile:
    if reader.u32() & PROTOCOL_1 == 0:
        raise Malformed("protocol version")
    reader.take(16)
    attributes(reader)  # the option list
    found = attributes(reader)
    if POLL_PROFILE not in found:
        raise Malformed("poll profile")
    profile = Reader(found[POLL_PROFILE])
    _, min_poll_ticks, _, max_message_bytes = (profile.u32() for _ in range(4))
    return Profile(min_poll_ticks / TICKS_PER_MS, max_message_bytes)


def _li(size: int) -> bytes:
    return bytes([size]) if size < 255 else b"\xff" + size.to_bytes(2, "big")


def _length(reader: Reader) -> int:
    first = reader.u8()
    return reader.u16() if first == 255 else first


def _asn(size: int) -> bytes:
    return bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")


def _asn_length(reader: Reader) -> int:
    first = reader.u8()
    if first < 128:
        return first
    if first & 0x7F not in (1, 2):
        raise Malformed("association")
    return int.from_bytes(reader.take(first & 0x7F), "big")
