"""A strict reader of stored zips: every byte of the file is accounted for, nothing is unpacked.

Owns the container only; which names a bundle may hold is `integrity`'s. Implements the part of
PKWARE APPNOTE 6.3.10 that a stored archive without extra fields, comments, encryption, data
descriptors or zip64 needs (sections 4.3.7, 4.3.12, 4.3.16), and refuses the rest: entries must
follow each other from byte 0, local and central headers must agree, nothing may stand between.
"""

from __future__ import annotations

import stat
import struct
import zlib

LOCAL = struct.Struct("<4sH2s22s")
"""Signature, version, flags, then method to extra length: the part shared with the directory."""
CENTRAL = struct.Struct("<4sHH2s22sHHHLL")
END = struct.Struct("<4s4H2LH")
SHARED = struct.Struct("<3H3L2H")
"""method, time, date, crc, compressed size, size, name length, extra length."""
PLAIN_FLAGS = (b"\x00\x00", b"\x00\x08")  # none, or "the name is UTF-8"
MAGIC = b"PK\x03\x04"


def members(data: bytes, max_files: int) -> dict[str, bytes]:
    """The files of a stored zip by name. Raises `ValueError` with the reason for refusing it."""
    try:
        return _members(data, max_files)
    except (struct.error, UnicodeDecodeError):
        raise ValueError("it is truncated or no zip") from None


def _members(data: bytes, max_files: int) -> dict[str, bytes]:
    count, at = _directory(data, max_files)
    begin, first, found = 0, at, dict[str, bytes]()
    for _ in range(count):
        name, content, begin, at = _member(data, begin, at)
        if name in found:
            raise ValueError(f"it holds '{name}' twice")
        found[name] = content
    if (begin, at) != (first, len(data) - END.size):
        raise ValueError("it holds bytes that belong to no file")
    return found


def _directory(data: bytes, max_files: int) -> tuple[int, int]:
    """(number of entries, offset of the directory) from the very last bytes."""
    magic, disk, start_disk, here, count, size, at, comment = END.unpack(data[-END.size :])
    if magic != b"PK\x05\x06" or disk or start_disk or here != count or comment:
        raise ValueError("it does not end as a plain zip does")
    if at + size + END.size != len(data):
        raise ValueError("it holds bytes that belong to no file")
    if count > max_files:
        raise ValueError(f"it holds {count} files")
    return count, at


def _member(data: bytes, begin: int, at: int) -> tuple[str, bytes, int, int]:
    """(name, content, end of its data, end of its directory entry)."""
    (magic, _, _, flags, shared, comment, disk, _, attributes, offset) = CENTRAL.unpack_from(
        data, at
    )
    method, _, _, crc, packed, size, name_length, extra = SHARED.unpack(shared)
    name_at, local_name_at = at + CENTRAL.size, begin + LOCAL.size
    content_at = local_name_at + name_length
    raw, content = data[name_at : name_at + name_length], data[content_at : content_at + size]
    name = raw.decode()
    if magic != b"PK\x01\x02" or offset != begin:
        raise ValueError(f"'{name}' does not lie where its directory says")
    local_magic, _, local_flags, local_shared = LOCAL.unpack_from(data, begin)
    local = (local_magic, local_flags, local_shared, data[local_name_at:content_at])
    if local != (MAGIC, flags, shared, raw):
        raise ValueError(f"'{name}' is not described alike in its two headers")
    if method or packed != size:
        raise ValueError(f"'{name}' is compressed")
    kind = stat.S_IFMT(attributes >> 16)
    if flags not in PLAIN_FLAGS or extra or comment or disk or kind not in (0, stat.S_IFREG):
        raise ValueError(f"'{name}' is not a plain file")
    if len(content) != size or zlib.crc32(content) != crc:
        raise ValueError(f"'{name}' was changed")
    return name, content, content_at + size, name_at + name_length
