"""The check that the Philips serial line and the microcontroller link share."""

from __future__ import annotations

import binascii

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc_x25(data: bytes) -> int:
    """CRC-16/X-25: polynomial 1021 reflected, initial and final value FFFF; of b"123456789" it is
    906E."""
    # The standard library has the unreflected form of this polynomial: reflect in and out.
    crc = binascii.crc_hqx(data.translate(_REVERSED), 0xFFFF)
    return ((_REVERSED[crc & 0xFF] << 8) | _REVERSED[crc >> 8]) ^ 0xFFFF
