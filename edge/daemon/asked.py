"""What the engine child answers for bundles that are no signal's: texts, images, courses of rows.

Owns the way from an `Ask` to an `Answer`; keeps nothing from one to the next: what a course carries
comes with the request and goes back with the answer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.decode import decode
from edge.bundle.integrity import MANIFEST
from edge.bundle.load import Bundle
from edge.daemon.messages import MAX_MESSAGE_BYTES, Answer, Ask, pack_message, unpack_ask
from edge.errors import MedgeError
from edge.pipeline.course import Course
from edge.pipeline.judge import Judge
from edge.pipeline.postprocess import Told
from edge.types import Reason
from edge.vision.still import MAX_BYTES

if TYPE_CHECKING:
    from edge.daemon.messages import Contract
    from edge.engines import Engine


def serve(link: socket.socket, judge: Callable[[Ask], Answer]) -> None:
    """Answer requests until the other end closes. A descriptor that comes along is read here, so
    that a disk that hangs costs this process only."""
    while True:
        message, fds, _, _ = socket.recv_fds(link, MAX_MESSAGE_BYTES, 1)
        if not message:
            return
        key, ask = unpack_ask(memoryview(message))
        began_ns = time.perf_counter_ns()
        answer = _guarded(judge, ask, fds)
        link.send(pack_message(key, time.perf_counter_ns() - began_ns, answer))


def _guarded(judge: Callable[[Ask], Answer], ask: Ask, fds: list[int]) -> Answer:
    """What cannot be read is no reason to end."""
    try:
        for fd in fds:
            with os.fdopen(fd, "rb") as file:
                ask = msgspec.structs.replace(ask, data=file.read(MAX_BYTES + 1))
        return judge(ask)
    except (MedgeError, OSError) as error:
        return Answer(reason=Reason.INVALID_INPUT, detail=str(error))


def judge_of(contract: Contract, engine: Engine) -> Callable[[Ask], Answer]:
    """Answers for one bundle, from the very bytes that were verified."""
    path = Path(contract.name)
    manifest = decode(contract.files[MANIFEST], path)
    bundle = Bundle(path, manifest, contract.digest, contract.files, "")
    if manifest.kind == "features":
        course = Course(manifest, engine)
        return lambda ask: _stepped(course, contract.digest, ask)
    judge = Judge(bundle, engine)

    def answered(ask: Ask) -> Answer:
        told = judge.told(ask.data)
        return Answer(told.findings, told.reason, told.detail)

    return answered


def _stepped(course: Course, digest: str, ask: Ask) -> Answer:
    """The course goes on where it was saved; nothing of the one before is left in it."""
    course.reset()
    if ask.course:
        course.restore(ask.course, digest)
    told = Told(())
    for row in ask.rows:
        told = course.step(row)
    return Answer(
        told.findings, told.reason, told.detail, course.impossible, course.steps,
        course.save(digest),
    )  # fmt: skip
