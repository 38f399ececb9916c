"""One backend and precision, tried in a limited child process: the parent's side.

Owns the child's life and the messages to it, over a SEQPACKET socket: the child sends a `Trial`
once the golden vectors have run, then a median in ms for every `MEASURE`. Silence, a crash or a
broken answer refuses this candidate and nothing else.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge.child import attended, end

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILD = "edge.bundle.admission_child"
MEASURE = b"measure"
MAX_ANSWER_BYTES = 1 << 16


class Job(msgspec.Struct, frozen=True):
    """What the child tries, and its CPU time limit."""

    backend: str
    factory: str
    precision: str
    threads: int
    manifest: bytes
    model: bytes
    golden: bytes
    limit_s: int


class Trial(msgspec.Struct, frozen=True):
    """One candidate: its median time and its difference from the golden output, or why it is
    refused."""

    backend: str
    precision: str
    median_ms: float | None = None
    difference: float | None = None
    refused: str = ""


@dataclass(slots=True)
class Candidate:
    """A child that is alive, and what is known of it so far."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    trial: Trial
    limit_s: float

    def prove(self) -> None:
        """Wait for the golden vectors."""
        answer = self._answer()
        if answer is not None:
            try:
                self.trial = msgspec.json.decode(answer, type=Trial)
            except msgspec.MsgspecError:
                self.refuse("its process gave a broken answer")

    def measure(self) -> float | None:
        """The median of one block of runs, ms; None where it is refused."""
        if self.trial.refused:
            return None
        try:
            self.link.send(MEASURE)
        except OSError:
            pass  # it has ended: the answer says how
        answer = self._answer()
        if answer is None:
            return None
        try:
            return float(answer)
        except ValueError:
            self.refuse("its process gave a broken answer")
            return None

    def refuse(self, why: str) -> None:
        self.trial = replace_trial(self.trial, refused=why)
        end(self.process)

    def _answer(self) -> bytes | None:
        """Its next message; None where none came, which refuses it."""
        try:
            answer = self.link.recv(MAX_ANSWER_BYTES)
        except TimeoutError:
            self.refuse(f"no answer in {self.limit_s:g} s")
            return None
        except OSError:
            answer = b""
        if not answer:
            self.refuse(_ending(self.process))
        return answer or None


def replace_trial(trial: Trial, **changes: object) -> Trial:
    """`trial` with some fields changed."""
    return msgspec.structs.replace(trial, **changes)


def _ending(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(1)
    except subprocess.TimeoutExpired:
        return "its process closed the line"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


@contextmanager
def started(job: Job) -> Iterator[Candidate]:
    """The child for `job`, running; killed on leaving."""
    with attended(CHILD, job) as (process, link, _):
        link.settimeout(job.limit_s)
        yield Candidate(process, link, Trial(job.backend, job.precision), job.limit_s)
