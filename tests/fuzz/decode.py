"""Coverage-guided fuzzing of the decoders (atheris, libFuzzer).

`python tests/fuzz/decode.py NAME [libFuzzer options]` fuzzes one decoder, NAME `every` all of them
in one process, the first byte choosing; `planted` is the control, which has to fail.
`python tests/fuzz/decode.py --table RUNS` fuzzes each in a process of its own and prints a table.
Seeds are what the emulator says, and what was kept in build/fuzz before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["firmware_bridge", "planted"]):
    import claims
    import planted

    from firmware_bridge.devices import DEVICES, device
    from firmware_bridge.emulators.capture import captured
    from firmware_bridge.emulators.emulated import EMULATORS
    from firmware_bridge.emulators.patient import Scene

    for each in DEVICES:
        device(each)  # their modules are loaded, and instrumented, here

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Decoder

FOLDER = Path("build/fuzz")
SEED_S = 6.0
SEEDS = 20
LEAST_BYTES = 192  # of the longest input; at least two of the device's frames
CUT_BELOW = 32  # of 256: cutting costs many times more than decoding
RSS_MB = 1024
TIMEOUT_S = 10


def decoder_of(name: str) -> tuple[Callable[[], Decoder], bool]:
    """A maker of decoders, and whether it takes datagrams."""
    if name == "planted":
        return planted.Decoder, False
    return device(name).decoder, device(name).datagrams


def seeds(name: str) -> list[bytes]:
    """Pieces of a clean stream, or single datagrams."""
    if name not in EMULATORS:
        return [bytes(LEAST_BYTES)]
    said = [frame.data for frame in captured(name, Scene(), SEED_S)[0]]
    if device(name).datagrams:
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
        size = 1 + data[1] % 64 if data[1] < CUT_BELOW else len(data)
        claims.require_all(make, data[2:], size, datagrams)

    return one_input


def fuzz(name: str, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process, with 0 when nothing was found."""
    names = list(DEVICES) if name == "every" else [name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    longest = 0
    for i, each in enumerate(names):
        for k, seed in enumerate(seeds(each)):
            longest = max(longest, len(seed))
            (corpus / f"{each}-{k}").write_bytes(bytes([i, 13 * k % 256]) + seed)
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
        found = list(pool.map(lambda name: row(name, runs), DEVICES))
    return int(any(found))


def row(name: str, runs: int) -> bool:
    """Fuzz one decoder and print what came of it; whether something was found."""
    command = [sys.executable, __file__, name, f"-runs={runs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = done.stdout + done.stderr
    ran = re.search(r"Done (\d+) runs in (\d+) second", log)
    edges, rss_mb = re.findall(r"cov: (\d+)", log), re.findall(r"rss: (\d+)Mb", log)
    count, seconds = (int(ran[1]), int(ran[2])) if ran else (0, 0)
    print(
        f"{name:24} {count:10} {count // max(1, seconds):7} {(edges or ['?'])[-1]:>6}"
        f" {(rss_mb or ['?'])[-1]:>7}  {'FOUND' if done.returncode else 'nothing found'}",
        flush=True,
    )
    if done.returncode:
        print(log[log.find("Uncaught Python exception") :].split("INFO: ")[0][-3000:], flush=True)
    return bool(done.returncode)


if __name__ == "__main__":
    if sys.argv[1] == "--table":
        sys.exit(table(int(sys.argv[2])))
    fuzz(sys.argv[1], sys.argv[2:])
