"""Which of several models a backend takes.

Tried in a child process: OpenVINO has been seen to crash while it compiles a valid model, which
must not end a build. Owns that trial; which backends are here, and what runs at the bed, says
`edge.bundle.admission`.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from calibration.collect import ANSWERED, REFERENCE_BACKEND
from edge.child import attended
from edge.engines import open_engine
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCHES = (1, ANSWERED)
LIMIT_S = 60.0
CHILD = "export.backends"
TAKEN, REFUSED = b"taken", b"refused"
Job = tuple[str, str | None, list[bytes]]


def taken(
    backend: str, models: Mapping[str, bytes], factory: str | None = None, limit_s: float = LIMIT_S
) -> list[str]:
    """Those of `models` that `backend` opens and runs at every batch used here, each in `limit_s`.
    The reference is not tried: nothing is built without it. `factory` stands in for the opener."""
    if backend == REFERENCE_BACKEND:
        return list(models)
    names, good = list(models), []
    while names:
        said = _said((backend, factory, [models[name] for name in names]), limit_s)
        good += [name for name, word in zip(names, said) if word == TAKEN]
        names = names[len(said) + 1 :]  # without the one that ended the child
    return good


def _said(job: Job, limit_s: float) -> Sequence[bytes]:
    """A word for each model until the child has said all, ended or hung."""
    said: list[bytes] = []
    with attended(CHILD, job) as (_, ours, _):
        ours.settimeout(limit_s)
        try:
            while len(said) < len(job[2]) and (word := ours.recv(16)):
                said.append(word)
        except TimeoutError:
            pass  # it hangs; one that crashed ends the line: what it has not said is refused
    return said


def main() -> None:
    """In the child: say of each model whether it is taken."""
    link, shared = (int(fd) for fd in sys.argv[1:3])
    with os.fdopen(shared, "rb") as file, socket.socket(fileno=link) as ours:
        file.seek(0)
        backend, factory, models = msgspec.msgpack.decode(file.read(), type=Job)
        for i, model in enumerate(models):
            try:
                for batch in BATCHES:
                    with open_engine(backend, model, str(i), batch=batch, factory=factory):
                        pass
                ours.send(TAKEN)
            except StartError:
                ours.send(REFUSED)


if __name__ == "__main__":
    main()
