"""Child processes: started on a module of ours, talking over descriptors that they inherit.

A child imports from where this process does, never from the folder that a user happens to stand in,
and is its own session: what stops the terminal's processes does not stop it.
"""

from __future__ import annotations

import os
import subprocess
import sys


def spawn(module: str, *fds: int, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Run `module` with the numbers of `fds`, which it inherits, as its arguments."""
    paths = [os.path.abspath(path) for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, fds)],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        cwd="/",
        env=environment,
        start_new_session=True,
    )
