"""The child that tries one backend: limited in memory, time and files; see `edge.bundle.trial`.

Started as `python -m edge.bundle.admission_child SOCKET_FD JOB_FD`; ends when the line closes.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import sys
import time
from pathlib import Path

import msgspec

from edge.bundle.golden import worst_difference
from edge.bundle.manifest import Manifest
from edge.bundle.trial import Job, Trial
from edge.engines import Engine, open_engine
from edge.errors import MedgeError, StartError

MAX_MEMORY_BYTES = 4 << 30
FIRST_TO_DIE = "1000"
WARM_UP, RUNS = 20, 100
MAX_BLOCK_S = 1.0


def main() -> None:
    link = socket.socket(fileno=int(sys.argv[1]))
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        file.seek(0)
        job = msgspec.msgpack.decode(file.read(), type=Job)
    _limit(job.limit_s)
    try:
        serve(link, job)
    except MedgeError as error:
        refuse(link, job, str(error))
    except MemoryError:
        refuse(link, job, "it needs more memory than is allowed")
    except Exception as error:  # an engine of the operator's own may raise anything
        refuse(link, job, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _limit(cpu_s: int) -> None:
    """Address space beyond what is mapped now (the libraries' arenas grow with the cores)."""
    page, physical = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = mapped * page + min(MAX_MEMORY_BYTES, physical * page // 2)
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    Path("/proc/self/oom_score_adj").write_text(FIRST_TO_DIE, encoding="ascii")


def serve(link: socket.socket, job: Job) -> None:
    """Golden vectors first, time second."""
    manifest = msgspec.json.decode(job.manifest, type=Manifest)
    with open_engine(
        job.backend, job.model, job.precision, threads=job.threads, factory=job.factory
    ) as engine:
        _require_contract(engine, manifest)
        trial = prove(engine, job, manifest)
        link.send(msgspec.json.encode(trial))
        while link.recv(16):
            link.send(str(_median_ms(engine)).encode())


def prove(engine: Engine, job: Job, manifest: Manifest) -> Trial:
    """The golden vectors' verdict."""
    tolerance = manifest.precisions[job.precision].tolerance
    difference = worst_difference(engine, job.golden, manifest)
    if difference == float("inf"):
        why = "golden vectors give values that are not finite"
        return Trial(job.backend, job.precision, refused=why)
    if not difference <= tolerance:
        why = f"golden vectors differ by {difference:.3g}, {tolerance:g} is allowed"
        return Trial(job.backend, job.precision, difference=difference, refused=why)
    return Trial(job.backend, job.precision, difference=difference)


def refuse(link: socket.socket, job: Job, why: str) -> None:
    link.send(msgspec.json.encode(Trial(job.backend, job.precision, refused=why)))


def _require_contract(engine: Engine, manifest: Manifest) -> None:
    """The model takes and gives what the manifest says."""
    named = manifest.taken() | manifest.given()
    wanted = {name: (1, *shape) for name, shape in named.items()}
    found = {name: x.shape for name, x in (*engine.inputs.items(), *engine.outputs.items())}
    if found != wanted:
        raise StartError(f"the model has {found}, the manifest {wanted}", "pack the bundle again")


def _median_ms(engine: Engine) -> float:
    """One block: at most `RUNS` runs or `MAX_BLOCK_S`, after some that do not count."""
    spent: list[float] = []
    end_s = time.perf_counter() + MAX_BLOCK_S
    while len(spent) < WARM_UP + RUNS and (len(spent) < 2 or time.perf_counter() < end_s):
        began_ns = time.perf_counter_ns()
        engine.run()
        spent.append((time.perf_counter_ns() - began_ns) / 1e6)
    counted = spent[WARM_UP:] if len(spent) > 2 * WARM_UP else spent[1:]
    return statistics.median(counted)


if __name__ == "__main__":
    main()
