"""Core's end of an engine child: start it, hand it requests, notice when it dies or hangs.

A request that gets no answer is handed back with the cause, at once: answers are never waited for
past the deadline, which counts from when the child could begin, and a child that missed it is
killed and replaced.
"""

from __future__ import annotations

import os
import socket
import subprocess
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.child import spawn
from edge.clock import NS_PER_MS, NS_PER_S
from edge.daemon.messages import (
    MAX_MESSAGE_BYTES,
    Load,
    Ready,
    pack,
    pack_message,
    unpack,
    unpack_answer,
)
from edge.errors import StartError

if TYPE_CHECKING:
    from edge.clock import Clock
    from edge.daemon.messages import Answer, Ask, Tensors

CHILD = "edge.daemon.engine_child"
START_DEADLINE_S = 20.0
RETRY_S = (0.0, 0.25, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request: a window's `outputs`, or the `answer` to what was asked. Where both
    are None there is none: see `cause`."""

    key: int
    submitted_ns: int
    replied_ns: int
    infer_ns: int
    outputs: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None
    cause: str = ""
    answer: Answer | None = None


class EngineLink:
    """At most one child at a time; `poll` drives everything and never blocks."""

    def __init__(self, load: Load, *, deadline_ms: float, clock: Clock) -> None:
        self._load = msgspec.msgpack.encode(load)
        self._computes = load.contract is None
        self._clock = clock
        self._deadline_ns = int(deadline_ms * NS_PER_MS * clock.speed)
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._outputs: Tensors | None = None
        self._waiting: deque[tuple[int, int]] = deque()
        self._lost: list[Reply] = []
        self._due_ns: int | None = None
        self._failures = 0
        self._buffer = bytearray(MAX_MESSAGE_BYTES)
        self.starts = 0

    def open(self) -> None:
        """Start the first child; it loads while core goes on."""
        self._start()

    @property
    def ready(self) -> bool:
        """The child has loaded its engine and answers."""
        return self._outputs is not None

    @property
    def failing(self) -> bool:
        """One child after the other has failed: it is not just starting."""
        return not self.ready and self._failures >= len(RETRY_S)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def fileno(self) -> int | None:
        return self._socket.fileno() if self._socket else None

    def next_deadline_ns(self) -> int | None:
        """When `poll` must be called at the latest even if nothing arrives."""
        return self._due_ns

    def submit(self, key: int, tensors: Tensors) -> None:
        """Send one window's inputs; the reply, or that there is none, comes from `poll`."""
        self._send(key, pack(key, 0, tensors), [])

    def ask(self, key: int, ask: Ask, file: int | None = None) -> None:
        """The same for one thing to judge, with the descriptor of its `file` if it has one."""
        self._send(key, pack_message(key, 0, ask), [] if file is None else [file])

    def _send(self, key: int, message: bytes, fds: list[int]) -> None:
        now_ns = self._clock.now_ns()
        if self._socket is None or not self.ready:
            self._lost.append(Reply(key, now_ns, now_ns, 0, None, "engine is starting"))
            return
        try:
            along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
            self._socket.sendmsg([message], along, socket.MSG_DONTWAIT)
        except OSError as error:
            self._lost.append(Reply(key, now_ns, now_ns, 0, None, f"engine unreachable ({error})"))
            return
        self._waiting.append((key, now_ns))
        if len(self._waiting) == 1:
            self._due_ns = now_ns + self._deadline_ns

    def poll(self) -> list[Reply]:
        """Replies since the last call, those without an answer included."""
        replies = self._receive() if self._socket else []
        if self._due_ns is not None and self._clock.now_ns() >= self._due_ns:
            self._overdue()
        replies += self._lost
        self._lost = []
        return replies

    def close(self) -> None:
        """End the child."""
        self._stop()
        self._due_ns = None

    def _overdue(self) -> None:
        if self._socket is None:
            self._start()
        elif self._waiting:
            self._restart("no answer within the deadline")
        else:
            self._restart("engine did not start in time")

    def _receive(self) -> list[Reply]:
        replies: list[Reply] = []
        while self._socket is not None:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if size == 0:
                self._restart("engine process ended")
            elif self._outputs is None:
                self._accept(bytes(self._buffer[:size]))
            else:
                self._answered(size, replies)
        return replies

    def _answered(self, size: int, replies: list[Reply]) -> None:
        try:
            replies.append(self._reply(size))
        except ValueError as error:
            self._restart(f"engine answered nonsense ({error})")

    def _reply(self, size: int) -> Reply:
        assert self._outputs is not None
        message, answer = memoryview(self._buffer)[:size], None
        if self._computes:
            key, infer_ns = unpack(message, self._outputs)
        else:
            key, infer_ns, answer = unpack_answer(message)
        expected, submitted_ns = self._waiting.popleft()
        if key != expected:
            self._waiting.appendleft((expected, submitted_ns))
            raise ValueError(f"window {key} instead of {expected}")
        self._failures = 0
        now_ns = self._clock.now_ns()
        self._due_ns = now_ns + self._deadline_ns if self._waiting else None
        infer_ns = int(infer_ns * self._clock.speed)
        if answer is not None:
            return Reply(key, submitted_ns, now_ns, infer_ns, None, answer=answer)
        outputs = {name: tensor.copy() for name, tensor in self._outputs.items()}
        return Reply(key, submitted_ns, self._clock.now_ns(), infer_ns, outputs)

    def _accept(self, message: bytes) -> None:
        ready = msgspec.json.decode(message, type=Ready)
        if ready.cause and self.starts == 1:
            raise StartError(
                f"engine child: {ready.cause}", "run 'medge bundle verify' on the bundle"
            )
        if ready.cause:
            self._restart(ready.cause)
            return
        self._outputs = {k: np.zeros(shape, np.float32) for k, shape in ready.outputs.items()}
        self._due_ns = None

    def _restart(self, cause: str) -> None:
        """Hand back what was waiting, end this child, and start another after a pause."""
        now_ns = self._clock.now_ns()
        self._lost += [Reply(k, t, now_ns, 0, None, cause) for k, t in self._waiting]
        self._waiting.clear()
        self._stop()
        pause_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self._due_ns = now_ns + int(pause_s * NS_PER_S * self._clock.speed)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        model_fd = os.memfd_create("medge-model", os.MFD_CLOEXEC)
        with os.fdopen(model_fd, "wb", closefd=True) as file:
            file.write(self._load)
            file.flush()
            self._child = spawn(CHILD, theirs.fileno(), model_fd)
        theirs.close()
        self._socket = ours
        self.starts += 1
        self._due_ns = self._clock.now_ns() + int(START_DEADLINE_S * NS_PER_S * self._clock.speed)

    def _stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._socket, self._child, self._outputs = None, None, None
