"""The map of a Modbus device: which register holds which measurement, as its maker's manual says.

Owns the file's shape and its errors; the wire is `modbus`'s. docs/modbus.md tells each key, with an
example.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Literal

import msgspec

from firmware_bridge.errors import MapError
from firmware_bridge.nomenclature import TERMS

SCHEMA = 1
MOST_REGISTERS = 125
WORDS = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2}
RAW = {"u16": range(2**16), "i16": range(-(2**15), 2**15), "u32": range(2**32),
       "i32": range(-(2**31), 2**31)}  # fmt: skip
"""What an integer register can hold."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are refused."""


class Register(Strict, frozen=True):
    """One measurement; `words` is the order of the two registers of a 32-bit value."""

    channel: str
    table: Literal["input", "holding"]
    address: int
    type: Literal["u16", "i16", "u32", "i32", "f32"]
    unit: str
    scale: float = 1.0
    offset: float = 0.0
    words: Literal["big", "little"] = "big"
    missing: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + WORDS[self.type]


class Map(Strict, frozen=True):
    """A whole device."""

    schema: int
    registers: tuple[Register, ...]
    slave: int = 1
    every_s: float = 1.0
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "E"
    stopbits: Literal[1, 2] = 1

    def blocks(self) -> list[tuple[Register, ...]]:
        """Registers that one request reads: neighbours in one table."""
        found: list[list[Register]] = []
        for register in sorted(self.registers, key=lambda r: (r.table, r.address)):
            last = found[-1] if found else None
            if last and last[-1].table == register.table and last[-1].end == register.address:
                last.append(register)
            else:
                found.append([register])
        return [tuple(block) for block in found]


def read_map(path: str | Path) -> Map:
    """The map in a TOML file. Raises `MapError` naming what is wrong with it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = msgspec.convert(tomllib.loads(Path(path).read_text("utf-8")), Map)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MapError(f"map '{path}' cannot be used ({error})", "correct it") from None
    for promise, kept in _promises(found):
        if not kept:
            raise MapError(f"map '{path}': {promise}", "correct it")
    return found


def _promises(found: Map) -> list[tuple[str, bool]]:
    blocks = found.blocks()
    sizes = [(b[0].table, b[-1].end - b[0].address) for b in blocks]
    places = [range(r.address, r.end) for r in sorted(found.registers, key=lambda r: r.address)]
    return [
        (f"schema must be {SCHEMA}", found.schema == SCHEMA),
        ("slave must lie in 1..247", 1 <= found.slave <= 247),
        ("every_s must lie in 0.05..60", 0.05 <= found.every_s <= 60),
        ("baud must be positive", found.baud > 0),
        ("there must be a register", bool(found.registers)),
        ("addresses must lie in 0..65535", all(p.start >= 0 and p.stop <= 65536 for p in places)),
        ("no two registers of a table may overlap", not any(
            a.table == b.table and a.address < b.end and b.address < a.end
            for a, b in itertools.combinations(found.registers, 2))),
        ("scale must be a number other than 0",
         all(math.isfinite(r.scale) and r.scale != 0 for r in found.registers)),
        *[(f"no {r.type} holds the missing value {raw}", r.type not in RAW or raw in RAW[r.type])
          for r in found.registers for raw in r.missing],
        (f"neighbours must be {MOST_REGISTERS} or fewer",
         all(n <= MOST_REGISTERS for _, n in sizes)),
        *[(f"'{r.channel}' is no known measurement", r.channel in TERMS) for r in found.registers],
        *[(f"{r.channel} is measured in '{TERMS[r.channel].unit}', scale it to that",
           r.channel not in TERMS or r.unit == TERMS[r.channel].unit) for r in found.registers
          if r.channel in TERMS],
        # An answer names neither address nor block: only its length tells which it answers.
        ("blocks of a table must differ in length: add a neighbour to one",
         len(set(sizes)) == len(sizes)),
    ]  # fmt: skip
