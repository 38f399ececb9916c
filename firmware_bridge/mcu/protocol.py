"""Reads the layouts of the microcontroller link out of medge_link.h, the only definition of them.

Owns what a body of each message type looks like; frames are `framing`'s. The part of the header
between "wire begin" and "wire end" is a small language of its own (numbers, lists of fields,
messages, enumerators), and every line in it must be understood, or the header is refused.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_bridge.errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEADER_FILE = Path(__file__).with_name("medge_link.h")

_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
_TAILS = ("NONE", "COUNTS")
_NUMBER = re.compile(r"#define MEDGE_([A-Z0-9_]+) (0x[0-9A-F]+|[0-9]+)")
_LIST = re.compile(r"#define MEDGE_([A-Z0-9_]+)\(([FME])\)((?: \2\([^()]*\))+)")
_ITEM = re.compile(r" [FME]\(([^()]*)\)")


class LayoutError(BridgeError):
    """The header's wire part cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One message: its type on the wire, its fixed fields in order, and whether counts follow."""

    name: str
    code: int
    fields: tuple[str, ...]
    packer: struct.Struct
    has_counts: bool = False

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The fixed part of a body. Raises `KeyError`/`struct.error` for our own mistakes."""
        return self.packer.pack(*(values[name] for name in self.fields))

    def unpack(self, body: bytes) -> dict[str, int]:
        """The fields of a body at least `packer.size` long."""
        return dict(zip(self.fields, self.packer.unpack_from(body)))


@dataclass(frozen=True, slots=True)
class Wire:
    """The whole wire: `text` is what its hash is taken of, `names` the enumerators by list."""

    text: str
    layout_hash: int
    numbers: Mapping[str, int]
    header: Layout
    to_host: Mapping[int, Layout]
    to_mcu: Mapping[str, Layout]
    names: Mapping[str, Mapping[int, str]]

    def code(self, enumerator: str) -> int:
        """The number of an enumerator such as "LEVEL_OFF". Raises `KeyError` for no such name."""
        return {n: code for names in self.names.values() for code, n in names.items()}[enumerator]


@functools.cache
def wire() -> Wire:
    """The wire of the header file shipped beside this one."""
    return read_wire(HEADER_FILE.read_text("utf-8"))


def read_wire(source: str) -> Wire:
    """The wire that a header file defines.

    Raises `LayoutError` for a line outside the small language, a list that is missing or names an
    unknown type, and for a stated hash that is not that of the layout.
    """
    numbers: dict[str, str] = {}
    lists: dict[str, tuple[str, list[list[str]]]] = {}
    for line in _lines(source):
        if number := _NUMBER.fullmatch(line):
            _once(number[1], numbers)
            numbers[number[1]] = number[2]
        elif items := _LIST.fullmatch(line):
            _once(items[1], lists)
            split = [i.split(", ") for i in _ITEM.findall(items[3])]
            lists[items[1]] = (items[2], split)
        else:
            raise LayoutError(f"wire part has a line that is no definition: '{line}'", "remove it")
    stated = numbers.pop("LAYOUT_HASH", None)
    text = _text(numbers, lists)
    layout_hash = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    to_host, to_mcu = _messages("TO_HOST", lists), _messages("TO_MCU", lists)
    _distinct("type of a message", [message.code for message in (*to_host, *to_mcu)])
    found = Wire(
        text=text,
        layout_hash=layout_hash,
        numbers={name: int(value, 0) for name, value in numbers.items()},
        header=_layout("HEADER", 0, "NONE", lists),
        to_host={message.code: message for message in to_host},
        to_mcu={message.name: message for message in to_mcu},
        names={
            name: {int(value, 0): item for item, value in items}
            for name, (kind, items) in lists.items()
            if kind == "E"
        },
    )
    if stated is None or int(stated, 0) != layout_hash:
        raise LayoutError(
            "MEDGE_LAYOUT_HASH is not that of the layout",
            f"set it to 0x{layout_hash:08X} and raise MEDGE_WIRE_VERSION if frames have changed",
        )
    return found


def _lines(source: str) -> Iterator[str]:
    """The definitions of the wire part, each joined to one line with single spaces."""
    parts = re.findall(r"/\* wire begin \*/\n(.*?)/\* wire end \*/", source, re.DOTALL)
    if len(parts) != 1:
        raise LayoutError("header has no single wire part", "mark it: wire begin ... wire end")
    for line in parts[0].replace("\\\n", " ").splitlines():
        if line.strip():
            yield " ".join(line.split())


def _once(name: str, known: Mapping[str, object]) -> None:
    if name in known:
        raise LayoutError(f"MEDGE_{name} is defined twice", "remove one")


def _distinct(what: str, values: Sequence[int | str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise LayoutError(f"{value} is the {what} twice", "give each its own")


def _text(numbers: Mapping[str, str], lists: Mapping[str, tuple[str, list[list[str]]]]) -> str:
    """One line for each definition, in the order of the file: what the hash is taken of."""
    lines = [f"{name} {value}" for name, value in numbers.items()]
    lines += [
        f"{name} {kind}" + "".join(f" {' '.join(item)};" for item in items)
        for name, (kind, items) in lists.items()
    ]
    return "".join(line + "\n" for line in lines)


def _messages(name: str, lists: Mapping[str, tuple[str, list[list[str]]]]) -> list[Layout]:
    try:
        return [_layout(m, int(code, 0), tail, lists) for m, _, code, tail in lists[name][1]]
    except (KeyError, ValueError) as error:
        fix = "make it of M(NAME, name, code, tail)"
        raise LayoutError(f"list {name} cannot be read ({error})", fix) from error


def _layout(
    name: str, code: int, tail: str, lists: Mapping[str, tuple[str, list[list[str]]]]
) -> Layout:
    kind, items = lists.get(name, ("", []))
    if kind != "F" or tail not in _TAILS or any(i[0] not in _CODES or len(i) != 2 for i in items):
        fix = f"give it fields F(type, name) of {', '.join(_CODES)}, a tail of {', '.join(_TAILS)}"
        raise LayoutError(f"message {name} has no such fields or tail", fix)
    packer = struct.Struct("<" + "".join(_CODES[kind] for kind, _ in items))
    fields = tuple(field for _, field in items)
    _distinct(f"field of {name}", fields)
    return Layout(name, code, fields, packer, tail == "COUNTS")
