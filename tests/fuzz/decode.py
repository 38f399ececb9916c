"""Coverage-guided fuzzing of the decoders (atheris, libFuzzer).

`python tests/fuzz/decode.py NAME [libFuzzer options]` fuzzes one decoder, NAME `every` all of them
in one process, the first byte choosing; `planted` is the control, which has to fail.
`python tests/fuzz/decode.py --table RUNS` fuzzes each in processes of its own and prints a table.
Seeds are what the emulator says, and what was kept in build/fuzz before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["firmware_bridge", "planted"]):
    import claims
    import planted
    import targets

    for each in targets.NAMES:
        targets.decoder_of(each)  # their modules are loaded, and instrumented, here

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Decoder

FOLDER = Path("build/fuzz")
SEED_S = 6.0
SEEDS = 20
LEAST_BYTES = 192  # of the longest input; at least two of the device's frames
CUTS = 3
RSS_MB = 1024
SLICE = 50_000  # executions of one process: atheris keeps every array that is compared (10 KB each)
TIMEOUT_S = 10


def decoder_of(name: str) -> tuple[Callable[[], Decoder], bool]:
    """A maker of decoders, and whether it takes datagrams."""
    if name == "planted":
        return planted.Decoder, False
    return targets.decoder_of(name)


def seeds(name: str) -> list[bytes]:
    """Pieces of a clean stream, or single datagrams."""
    said = [] if name == "planted" else targets.said_by(name, SEED_S)
    if not said:
        return [bytes(LEAST_BYTES)]
    if decoder_of(name)[1]:
        return said[:SEEDS]
    size = max(LEAST_BYTES, 2 * max(map(len, said)))
    return claims.cut(b"".join(said), size)[:SEEDS]


def target(names: list[str]) -> Callable[[bytes], None]:
    """One input: which decoder (where there are several), how it is cut, and the bytes."""
    makers = [decoder_of(name) for name in names]

    def one_input(data: bytes) -> None:
        if len(data) < 3:
            return
        make, datagrams = makers[data[0] % len(makers)]
        claims.require_all(make, [data[2:]] if datagrams else pieces(data[2:], data[1]))

    return one_input


def pieces(data: bytes, how: int) -> list[bytes]:
    """`CUTS` of `how` bytes and the rest. More would cost many times more than the decoding."""
    size = how % 64
    cuts = [data[i * size : (i + 1) * size] for i in range(CUTS if size else 0)]
    return [part for part in (*cuts, data[CUTS * size :]) if part] or [b""]


def fuzz(name: str, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process, with 0 when nothing was found."""
    names = list(targets.NAMES) if name == "every" else [name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    longest = 0
    for i, each in enumerate(names):
        for k, seed in enumerate(seeds(each)):
            longest = max(longest, len(seed))
            (corpus / f"{each}-{k}").write_bytes(bytes([i, 13 * k % 64]) + seed)
    fixed = [
        f"-max_len={longest + 2}", f"-rss_limit_mb={RSS_MB}", f"-timeout={TIMEOUT_S}",
        f"-artifact_prefix={FOLDER}/{name}-",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], str(corpus), *fixed, *options], target(names))
    atheris.Fuzz()


def table(runs: int) -> int:
    """Fuzz every decoder `runs` times, as many at once as there are cores; 1 when something was
    found."""
    print(f"{'decoder':24} {'executions':>10} {'per s':>7} {'edges':>6} {'RSS MB':>7}  outcome")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda name: row(name, runs), targets.NAMES))
    return int(any(found))


def row(name: str, runs: int) -> bool:
    """Fuzz one decoder and print what came of it; whether something was found."""
    began_s, count, found, edges, rss_mb = time.monotonic(), 0, "", "?", 0
    while count < runs and not found:
        command = [sys.executable, __file__, name, f"-runs={min(SLICE, runs - count)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        log = done.stdout + done.stderr
        ran = re.search(r"Done (\d+) runs", log)
        if done.returncode or not ran:
            found = log[max(0, log.find("Uncaught Python exception")) :].split("INFO: ")[0][-3000:]
        count += int(ran[1]) if ran else 0
        edges = (re.findall(r"cov: (\d+)", log) or [edges])[-1]
        rss_mb = max([rss_mb, *map(int, re.findall(r"rss: (\d+)Mb", log))])
    per_s = count / (time.monotonic() - began_s)
    outcome = "FOUND" if found else "nothing found"
    print(f"{name:24} {count:10} {per_s:7.0f} {edges:>6} {rss_mb:7}  {outcome}", flush=True)
    if found:
        print(found, flush=True)
    return bool(found)


if __name__ == "__main__":
    if sys.argv[1] == "--table":
        sys.exit(table(int(sys.argv[2])))
    fuzz(sys.argv[1], sys.argv[2:])
