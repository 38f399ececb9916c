"""A process that writes results until it is killed, again and again, for `test_kill`.

`python kill_rig.py FOLDER KILLS WAY`: forks a writer per kill, so that nothing but the kill differs
from a running daemon. WAY "journal" is medge's; the controls are "claim", which acknowledges what
it is about to commit, and "forget", whose sink does not know where it was.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge.sinks.jsonl import Jsonl, JsonlOptions
from edge.store.writer import JournalWriter
from edge.types import Provenance, Reason, Withheld

PROVENANCE = Provenance("b", "d", "o", "f")


def result(session: int, n: int) -> Withheld:
    name = f"{session}-{n:08d}"
    return Withheld(n, name, "b", "e", "u", "q", Reason.GAP, "x" * 300, 0, 1, PROVENANCE)


class Acknowledge:
    """A sink whose file says what has left the journal."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.last = 0

    def __enter__(self) -> Acknowledge:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def resume_after(self) -> int:
        return self.last

    def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
        os.write(self.fd, b"".join(b"%d\n" % rowid for rowid, _ in rows))
        self.last = rows[-1][0]


class Forgetful(Jsonl):
    def _recover(self) -> None:
        self._end = os.fstat(self._fd).st_size


def write_until_killed(folder: Path, session: int, way: str) -> None:
    sink = {"forget": Forgetful}.get(way, Jsonl)(JsonlOptions(path=str(folder / "out.jsonl")))
    with sink, Acknowledge(folder / "acknowledged") as acknowledge:
        writer = JournalWriter(folder / "j.db", [sink, acknowledge], (f"s{session}", "utc", "d"))
        writer.start()
        for n in range(1_000_000):
            if way == "claim":
                os.write(acknowledge.fd, b"%d\n" % (acknowledge.last + 10_000))
            writer.submit(result(session, n))
            time.sleep(random.expovariate(1 / 0.0007))


def main(folder: Path, kills: int, way: str) -> None:
    dice = random.Random(kills)
    for session in range(kills):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(folder, session, way)
            finally:
                os._exit(1)
        time.sleep(0.02 + 0.08 * dice.random())
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer ended by itself"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
