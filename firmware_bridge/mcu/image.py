"""Firmware images in MCUboot's format: what a file holds, and whether it is whole.

Implements MCUboot, "design", section "Image format". Signatures are the boot loader's to check.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from firmware_bridge.errors import BridgeError

MAGIC = 0x96F3B83D
_HEADER = struct.Struct("<IIHHIIBBHI4x")
_TLV_INFO = struct.Struct("<HH")
_TLV = struct.Struct("<BxH")
_TLV_INFO_MAGIC = 0x6907
_TLV_SHA256 = 0x10


class UpdateError(BridgeError):
    """The firmware cannot be updated with this image, or not now."""


@dataclass(frozen=True, slots=True)
class Image:
    """An MCUboot image: `version` as a hello says it, `digest` as the device names it."""

    version: str
    digest: bytes
    data: bytes


def read_image(data: bytes) -> Image:
    """Check an image file and say what it is. Raises `UpdateError` if it is none, or damaged."""
    if len(data) < _HEADER.size:
        raise UpdateError("file is too short for an MCUboot image", "give a signed .bin of imgtool")
    magic, _, header_bytes, protected, body_bytes, _, *version = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise UpdateError("file is not an MCUboot image", "give a signed .bin of imgtool")
    hashed = header_bytes + body_bytes + protected
    stated = _stated_digest(data, hashed)
    if hashlib.sha256(data[:hashed]).digest() != stated:
        raise UpdateError("image does not have the hash that it states", "copy or build it again")
    major, minor, revision, build = version
    return Image(f"{major}.{minor}.{revision}+{build}", stated, data)


def _stated_digest(data: bytes, at: int) -> bytes:
    damaged = UpdateError("image ends before its hash", "copy or build it again")
    if len(data) < at + _TLV_INFO.size:
        raise damaged
    magic, total = _TLV_INFO.unpack_from(data, at)
    end = at + total
    at += _TLV_INFO.size
    while magic == _TLV_INFO_MAGIC and at + _TLV.size <= end <= len(data):
        kind, length = _TLV.unpack_from(data, at)
        at += _TLV.size
        if kind == _TLV_SHA256 and length == 32 and at + length <= end:
            return data[at : at + length]
        at += length
    raise damaged
