"""A campaign of damaged frames over all codecs: `python tests/fuzz/corrupt.py DAMAGED`.

Each codec gets its share of DAMAGED, small frames more of it: the emulator's clean frames with one
in ten, half or nine in ten of them damaged (bits flipped, bytes lost, doubled, inserted, frames
torn, repeated, swapped). Every stream is decoded whole and in pieces, one in `SINGLY` byte by byte;
the claims of `claims` must hold, and a decoder that hears all of it must not grow. Frames that
bring a value which the clean stream does not have may be no more than the protocol's own check lets
pass (`checks`). The table has the damaged frames, the values, how many of them are strange, in how
many frames, and in how many they may be.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import sys
import time
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import claims
import targets
from checks import CHECKS

from firmware_bridge.mcu.framing import Frame
from firmware_bridge.types import Numeric

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Decoder

SECONDS = 12.0
STREAM_FRAMES = 60
SINGLY = 40
SHARES = (0.1, 0.5, 0.9)
LEAST = 0.005  # of all damaged frames, for each codec
SETTLED = 30  # streams, after which a decoder has all that it needs
GROWTH_BYTES = 128 * 1024
GROWTH_BLOCKS = 4096
CODE = (type, ModuleType, FunctionType)
DAMAGES = ("flip", "flip", "flip", "lose", "double", "insert", "tear", "repeat", "swap")


@dataclass
class Result:
    """One codec's campaign."""

    frames: int = 0
    damaged: int = 0
    values: int = 0
    strange: int = 0
    wrong: int = 0  # frames with a strange value


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
    return targets.said_by(name, SECONDS)


def campaign(name: str, clean: list[bytes], wanted: int, seed: int = 1) -> Result:
    """Until `wanted` frames were damaged. Raises `AssertionError` naming the stream's number."""
    rng, result = random.Random(f"{name} {seed}"), Result()
    make, datagrams = targets.decoder_of(name)
    # A stream may begin anywhere: before a monitor has said which lead it is, say.
    whole, later = clean, clean[len(clean) // 2 :]
    usual = {value for part in (whole, later) for value in values(claims.decoded(make, part)[0])}
    lasting, before, blocks, number = make(), 0, 0, 0
    while result.damaged < wanted:
        start = rng.randrange(max(1, len(clean) - STREAM_FRAMES))
        stream, count = damaged(clean[start : start + STREAM_FRAMES], rng)
        try:
            if not datagrams:
                size = 1 if number % SINGLY == 0 else rng.randint(2, 200)
                claims.require_all(make, claims.cut(b"".join(stream), size))
            found = heard(make, stream)
            for datagram in stream if datagrams else [b"".join(stream)]:
                lasting.feed(datagram)
        except Exception as error:
            raise AssertionError(f"{name}, stream {number} of seed {seed}: {error!r}") from error
        strange = [sum(value not in usual for value in brought) for brought in found]
        result.frames += len(stream)
        result.damaged += count
        result.values += sum(map(len, found))
        result.strange += sum(strange)
        result.wrong += sum(map(bool, strange))
        number += 1
        del found, strange
        if number == SETTLED:
            before, blocks = held_bytes(lasting), sys.getallocatedblocks()
    if number > SETTLED:
        grown = held_bytes(lasting) - before
        assert grown < GROWTH_BYTES, f"{name} grew by {grown} bytes"
        grown = sys.getallocatedblocks() - blocks
        assert grown < GROWTH_BLOCKS, f"{name} left {grown} small objects beside its decoder"
    return result


def require_checked(name: str, result: Result) -> None:
    """Raises `AssertionError` where more was taken than the protocol's check lets through."""
    check = CHECKS[name]
    if check is not None:
        most = check.most(result.damaged)
        assert result.wrong <= most, f"{name} takes damaged frames ({most} may pass): {result}"


def heard(make: Callable[[], Decoder], stream: list[bytes]) -> list[list[object]]:
    """The values that each frame of a stream brings."""
    decoder = make()
    return [values(claims.decoded(lambda: decoder, [frame])[0]) for frame in stream]


def values(said: dict[str, list[Any]]) -> list[object]:
    """What was measured: rows of samples, numbers and frames, without their places in time."""
    out: list[object] = []
    for name, items in said.items():
        if name == "values":
            out += [(m.channel, m.value) for m in items if isinstance(m, Numeric)]
            out += [(m.name, m.seq, *m.fields.items(), m.data) for m in items if type(m) is Frame]
        else:
            out += [(name, item[2]) for item in items]
    return out


def held_bytes(root: object) -> int:
    """Of all that can be reached from here, without code. (To trace allocations takes four times
    as long as to decode.)"""
    seen, found, total = {id(root)}, [root], 0
    while found:
        each = found.pop()
        total += sys.getsizeof(each)
        for part in gc.get_referents(each):
            if id(part) not in seen and not isinstance(part, CODE):
                seen.add(id(part))
                found.append(part)
    gc.collect()
    return total


def shares(clean: dict[str, list[bytes]]) -> dict[str, float]:
    """As many bytes for each codec, but at least `LEAST` of the frames."""
    weights = {name: len(f) / sum(map(len, f)) for name, f in clean.items()}
    return {name: max(LEAST, w / sum(weights.values())) for name, w in weights.items()}


def row(job: tuple[str, list[bytes], int]) -> tuple[str, Result]:
    name, clean, wanted = job
    began_s = time.monotonic()
    r = campaign(name, clean, wanted)
    took_s = time.monotonic() - began_s
    check = CHECKS[name]
    most = f"{check.most(r.damaged)} ({check.name})" if check else "unchecked"
    figures = f"{r.frames:9} {r.damaged:9} {r.values:10} {r.strange:8} {r.wrong:8} {took_s:7.1f}"
    return f"{name:24} {figures}  {most}", r


def main(wanted: int) -> None:
    with multiprocessing.Pool() as pool:
        clean = dict(zip(targets.NAMES, pool.map(clean_frames, targets.NAMES, 1)))
        jobs = [(n, clean[n], int(wanted * share) + 1) for n, share in shares(clean).items()]
        head = f"{'codec':24} {'frames':>9} {'damaged':>9} {'values':>10} {'strange':>8}"
        print(f"{head} {'in':>8} {'s':>7}  at most in")
        results = {}
        for (name, *_), (line, result) in zip(jobs, pool.imap(row, jobs, 1)):
            print(line, flush=True)
            results[name] = result
    frames, harmed = (sum(getattr(r, k) for r in results.values()) for k in ("frames", "damaged"))
    print(f"{'all':24} {frames:9} {harmed:9}")
    for name, result in results.items():
        require_checked(name, result)


if __name__ == "__main__":
    main(int(sys.argv[1]))
