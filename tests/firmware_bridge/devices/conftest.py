"""A device's emulator and a link on a cable that exists in memory, in time that moves when told;
what real devices sent; damaged lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from firmware_bridge.devices import device
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.errors import LinkError
from firmware_bridge.link import Link
from firmware_bridge.session import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from firmware_bridge.emulators.emulated import Emulated
    from firmware_bridge.types import Decoder, Device, LinkMessage, Wire

STEP_S = 0.01


class Cable:
    """The port of one connection: what the emulator says is read a frame at a time (a datagram),
    or `cut` bytes at a time."""

    def __init__(self, emulated: Emulated, cut: int | None = None) -> None:
        self._emulated = emulated
        self._cut = cut
        self._inbox: list[bytes] = []
        self.t_s = 0.0
        self.heard = b""
        self.said = b""
        self.plugged = True

    def advance(self, t_s: float) -> None:
        self.t_s = t_s
        self._take(self._emulated.say(t_s))

    def _take(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.said += frame
            step = self._cut or len(frame)
            self._inbox += [frame[i : i + step] for i in range(0, len(frame), step)]

    def fileno(self) -> int:
        return 7

    def read(self) -> bytes:
        if not self.plugged:
            raise LinkError("unplugged", "plug it in")
        return self._inbox.pop(0) if self._inbox else b""

    def write(self, data: bytes) -> None:
        if not self.plugged:
            raise LinkError("unplugged", "plug it in")
        self.heard += data
        self._take(self._emulated.hear(data, self.t_s))

    def close(self) -> None:
        self._inbox.clear()


class Wired:
    """`run(seconds)` gives every message of the link in that time; `cable` is the one port."""

    def __init__(self, device: Device, emulated: Emulated, cut: int | None = None) -> None:
        self.cable = Cable(emulated, cut)
        self._t_s = 0.0
        self.link = Link(device, "memory", open_port=self._open, random01=lambda: 0.0)
        self.messages: list[LinkMessage] = []

    def _open(self, address: str, wire: Wire) -> Cable:
        if not self.cable.plugged:
            raise LinkError("no such port", "plug it in")
        return self.cable

    def run(self, seconds: float) -> list[LinkMessage]:
        found: list[LinkMessage] = []
        if self._t_s == 0.0:
            found += self.link.open(0)
        end_s = self._t_s + seconds
        while self._t_s < end_s:
            self._t_s = round(self._t_s + STEP_S, 6)
            self.cable.advance(self._t_s)
            before = None
            while self.cable._inbox or before is None:  # all that is there, as the loop would
                before = len(self.cable._inbox)
                found += self.link.poll(int(self._t_s * NS_PER_S))
                if not self.cable.plugged or len(self.cable._inbox) == before:
                    break
        self.messages += found
        return found


@pytest.fixture
def wire() -> Callable[..., Wired]:
    """`wire(name, scene, cut)`: a registered device's emulator and a link to it."""

    def make(name: str, scene: Scene | None = None, cut: int | None = None) -> Wired:
        return Wired(device(name), emulated(name, scene or Scene()), cut)

    return make


@pytest.fixture
def wire_to() -> Callable[..., Wired]:
    """`wire_to(device, emulated, cut)`: any device and emulation."""
    return Wired


@pytest.fixture(scope="session")
def real_bytes(medge_data: Path) -> Callable[[str], bytes]:
    """`real_bytes(path)`: what a device or another program sent, by its path from the data folder;
    skips where it is not."""

    def read(path: str) -> bytes:
        if not (medge_data / path).is_file():
            pytest.skip(f"no '{path}' in '{medge_data}'")
        return (medge_data / path).read_bytes()

    return read


@pytest.fixture
def trend_2009(real_bytes: Callable[[str], bytes]) -> bytes:
    """A record of a real GE monitor, unframed."""
    return real_bytes("../vectors/ge_s5_dri_trend_20090903.bin")


@pytest.fixture
def damaged_lines() -> Callable[..., list[bytes]]:
    """`damaged_lines(line, n, seed)`: `line(0)`, `line(1)`, ..., every other one with 1-3 flipped
    bits; none of them flips into a line's end."""

    def make(line: Callable[[int], bytes], n: int, seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        lines = []
        for i in range(n):
            dirty = bytearray(line(i))
            for bit in rng.integers(0, 8 * len(dirty) - 16, 1 + i % 3) if i % 2 else ():
                dirty[bit // 8] ^= 1 << (bit % 8)
            lines.append(bytes(dirty).replace(b"\n", b"#")[:-1] + b"\n")
        return lines

    return make


@pytest.fixture
def accepted_wrongly() -> Callable[..., int]:
    """`accepted_wrongly(decoder, lines, good)`: how many lines that are not good gave something."""

    def count(decoder: Decoder, lines: Sequence[bytes], good: Sequence[bool]) -> int:
        return sum(bool(decoder.feed(line)) and not fine for line, fine in zip(lines, good))

    return count
