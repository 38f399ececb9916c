"""The engine child: one process, one bundle's engine, killable at any time.

Started as `python -m edge.daemon.engine_child SOCKET_FD MODEL_FD`. Answers each request in order;
ends when core closes the socket. A crash or a hang here costs answers, never the daemon. Keeps
nothing from one request to the next: what a course carries comes with the request.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from edge.daemon.messages import MAX_MESSAGE_BYTES, Load, Ready, pack, unpack
from edge.engines import Engine, open_engine
from edge.errors import MedgeError


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # core's to heed: it closes the socket
        signal.signal(number, signal.SIG_IGN)
    link = socket.socket(fileno=int(sys.argv[1]))
    load = _read_load(int(sys.argv[2]))
    try:
        with open_engine(
            load.backend, load.model, load.precision, threads=load.threads, factory=load.factory
        ) as engine:
            engine.run()
            answers = _answers(load, engine)
            link.send(msgspec.json.encode(Ready({k: v.shape for k, v in engine.outputs.items()})))
            answers(link)
    except MedgeError as error:
        link.send(msgspec.json.encode(Ready(cause=str(error))))
        return 1
    return 0


def _read_load(fd: int) -> Load:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return msgspec.msgpack.decode(file.read(), type=Load)


def serve(link: socket.socket, engine: Engine) -> None:
    """Answer requests until the other end closes."""
    buffer = bytearray(MAX_MESSAGE_BYTES)
    view = memoryview(buffer)
    gc.collect()  # a collection may take longer than a whole window
    gc.freeze()
    gc.disable()
    while size := link.recv_into(buffer):
        key, _ = unpack(view[:size], engine.inputs)
        began_ns = time.perf_counter_ns()
        engine.run()
        link.send(pack(key, time.perf_counter_ns() - began_ns, engine.outputs))


def _answers(load: Load, engine: Engine) -> Callable[[socket.socket], None]:
    """What serves the kind of bundle."""
    if load.contract is None:
        return lambda link: serve(link, engine)
    from edge.daemon import asked

    judge = asked.judge_of(load.contract, engine)
    return lambda link: asked.serve(link, judge)


if __name__ == "__main__":
    sys.exit(main())
