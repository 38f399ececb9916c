"""A campaign of damaged frames over all codecs: `python tests/fuzz/corrupt.py DAMAGED`.

Each codec gets its share of DAMAGED, small frames more of it: the emulator's clean frames with one
in ten, half or nine in ten of them damaged (bits flipped, bytes lost, doubled, inserted, frames
torn, repeated, swapped). Every stream is decoded whole and in pieces, one in `SINGLY` byte by byte;
the claims of `claims` must hold, and a decoder that hears all of it must not grow. The table says
how many damaged frames there were, and how many values came out that the clean stream does not
have: those whose damage the protocol lets nobody see (each codec's own tests say which these are).
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import claims

from firmware_bridge.devices import DEVICES, device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import EMULATORS
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import Numeric

if TYPE_CHECKING:
    from firmware_bridge.types import Device

SECONDS = 12.0
STREAM_FRAMES = 60
SINGLY = 40
SHARES = (0.1, 0.5, 0.9)
LEAST = 0.005  # of all damaged frames, for each codec
GROWTH_BYTES = 256 * 1024
DAMAGES = ("flip", "flip", "flip", "lose", "double", "insert", "tear", "repeat", "swap")


@dataclass
class Result:
    """One codec's campaign."""

    frames: int = 0
    damaged: int = 0
    values: int = 0
    strange: int = 0
    grown_bytes: int = 0


def damaged(frames: list[bytes], rng: random.Random) -> tuple[list[bytes], int]:
    """The frames, some of them damaged in one way each; how many were."""
    out, count, share = list(frames), 0, rng.choice(SHARES)
    for i in range(len(out)):
        if rng.random() >= share or not out[i]:
            continue
        count += 1
        how, frame = rng.choice(DAMAGES), bytearray(out[i])
        at = rng.randrange(len(frame))
        if how == "flip":
            for _ in range(rng.randint(1, 3)):
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        elif how == "lose":
            del frame[at : at + rng.randint(1, 4)]
        elif how == "double":
            frame[at:at] = frame[at : at + rng.randint(1, 8)]
        elif how == "insert":
            frame[at:at] = rng.randbytes(rng.randint(1, 12))
        elif how == "tear":
            del frame[at:]
        elif how == "repeat":
            frame += bytes(frame)
        elif i + 1 < len(out):
            out[i], out[i + 1] = out[i + 1], out[i]
            continue
        out[i] = bytes(frame)
    return out, count


def clean_frames(name: str) -> list[bytes]:
    return [frame.data for frame in captured(name, Scene(), SECONDS)[0]]


def campaign(name: str, clean: list[bytes], wanted: int, seed: int = 1) -> Result:
    """Until `wanted` frames were damaged. Raises `AssertionError` naming the stream's number."""
    rng, result = random.Random(f"{name} {seed}"), Result()
    made = device(name)
    usual = set(values(claims.decoded(made.decoder, clean)[0]))
    lasting, before, number = made.decoder(), 0, 0
    while result.damaged < wanted:
        start = rng.randrange(max(1, len(clean) - STREAM_FRAMES))
        stream, count = damaged(clean[start : start + STREAM_FRAMES], rng)
        try:
            found = heard(made, stream, 1 if number % SINGLY == 0 else rng.randint(2, 200))
            for datagram in stream if made.datagrams else [b"".join(stream)]:
                lasting.feed(datagram)
        except Exception as error:
            raise AssertionError(f"{name}, stream {number} of seed {seed}: {error!r}") from error
        result.frames += len(stream)
        result.damaged += count
        result.values += len(found)
        result.strange += sum(value not in usual for value in found)
        number += 1
        if number == 30:
            before = held_bytes()
    result.grown_bytes = held_bytes() - before if before else 0
    tracemalloc.stop()
    assert result.grown_bytes < GROWTH_BYTES, f"{name} grew by {result.grown_bytes} bytes"
    return result


def heard(made: Device, stream: list[bytes], size: int) -> list[object]:
    """The values of one stream, whole and in pieces of `size`; the claims are checked."""
    if made.datagrams:
        return values(claims.decoded(made.decoder, stream)[0])
    return values(claims.require_all(made.decoder, claims.cut(b"".join(stream), size))[0])


def values(said: dict[str, list[Any]]) -> list[object]:
    """What was measured: rows of samples and numbers, without their places in time."""
    out: list[object] = []
    for name, items in said.items():
        if name == "values":
            out += [(m.channel, m.value) for m in items if isinstance(m, Numeric)]
        else:
            out += [(name, item[2]) for item in items]
    return out


def held_bytes() -> int:
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def shares(clean: dict[str, list[bytes]]) -> dict[str, float]:
    """As many bytes for each codec, but at least `LEAST` of the frames."""
    weights = {name: len(f) / sum(map(len, f)) for name, f in clean.items()}
    return {name: max(LEAST, w / sum(weights.values())) for name, w in weights.items()}


def row(job: tuple[str, list[bytes], int]) -> tuple[str, Result]:
    name, clean, wanted = job
    began_s = time.monotonic()
    r = campaign(name, clean, wanted)
    took_s = time.monotonic() - began_s
    line = f"{name:24} {r.frames:9} {r.damaged:9} {r.values:10} {r.strange:9} {took_s:7.1f}"
    return line, r


def main(wanted: int) -> None:
    with multiprocessing.Pool() as pool:
        names = [name for name in DEVICES if name in EMULATORS]
        clean = dict(zip(names, pool.map(clean_frames, names, 1)))
        jobs = [(n, clean[n], int(wanted * share) + 1) for n, share in shares(clean).items()]
        print(f"{'codec':24} {'frames':>9} {'damaged':>9} {'values':>10} {'not clean':>9} {'s':>7}")
        frames = harmed = 0
        for line, result in pool.imap_unordered(row, jobs, 1):
            print(line, flush=True)
            frames, harmed = frames + result.frames, harmed + result.damaged
    print(f"{'all':24} {frames:9} {harmed:9}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
