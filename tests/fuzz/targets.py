"""What is fuzzed, and what it says when nothing is damaged: every registered device, Modbus by the
map beside this file, and the frames of the microcontroller."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from firmware_bridge.devices import DEVICES, MAPPED, device
from firmware_bridge.devices.modbus import request
from firmware_bridge.devices.modbus_map import read_map
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import EMULATORS, emulator
from firmware_bridge.emulators.modbus import Slave
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.mcu import framing, protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Decoder

MAP = Path(__file__).with_name("modbus.toml")
NAMES = (*DEVICES, "modbus", "mcu")


def decoder_of(name: str) -> tuple[Callable[[], Decoder], bool]:
    """A maker of decoders, and whether they take datagrams. Frames take the place of messages in
    what the microcontroller's gives."""
    if name == "mcu":
        return cast("Any", partial(framing.FrameDecoder, protocol.wire())), False
    found = device(name, str(MAP) if name in MAPPED else "")
    return found.decoder, found.datagrams


def said_by(name: str, seconds: float) -> list[bytes]:
    """Frames or datagrams; none of a device that has no emulator."""
    if name == "mcu":
        return mcu_frames(seconds)
    if name == "modbus":
        slave, blocks = Slave(Scene(), MAP), read_map(MAP).blocks()
        times_s = [0.1 * i for i in range(int(seconds * 10))]
        return [f for t_s in times_s for b in blocks for f in slave.hear(request(17, b), t_s)]
    if name not in EMULATORS:
        return []
    return [frame.data for frame in captured(emulator(name), Scene(), seconds)[0]]


def mcu_frames(seconds: float) -> list[bytes]:
    """25 blocks of samples a second, a heartbeat after each tenth."""
    wire, rng, frames = protocol.wire(), random.Random(1), list[bytes]()
    layouts = {layout.name: layout for layout in wire.to_host.values()}
    shape = {"stream": 1, "channels": 2, "width": 3, "count": 10, "rate_mhz": 250_000}

    def add(name: str, given: dict[str, int], tail: bytes = b"") -> None:
        fields = dict.fromkeys(layouts[name].fields, 0) | given
        header = {"seq": len(frames), "session": 1, "t_us": 40_000 * len(frames)}
        body = layouts[name].pack(fields) + tail
        frames.append(framing.encode(wire, layouts[name], header, body))

    for n in range(int(seconds * 25)):
        add("SAMPLES", shape | {"first": 10 * n}, rng.randbytes(60))
        if n % 10 == 0:
            add("BEAT", {})
    return frames
