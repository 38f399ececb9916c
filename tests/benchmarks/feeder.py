"""A process that is many devices: bytes made beforehand, put on ptys at their times.

`python feeder.py PLAN OUT`: PLAN is a pickle of ports, each `(path, [(t_s, asked_bytes, data)])`:
`data` goes out at `t_s`, but never before the host has said `asked_bytes` to the port; what waits
for the host moves all that comes after it. The devices begin when a line comes on stdin. At the end
OUT is a pickle: for each port when each frame was written (monotonic ns), and how many bytes found
no room.
"""

from __future__ import annotations

import heapq
import os
import pickle
import select
import sys
import time
from pathlib import Path

from firmware_bridge.emulators.pty import Pty

LOOK_S = 0.005  # how often the host's bytes are looked for

Said = tuple[float, int, bytes]


class Port:
    """One device: where it is in its script."""

    def __init__(self, path: str, script: list[Said]) -> None:
        self.pty = Pty(path)
        self.pty.plug()
        assert self.pty._fds is not None
        self.fd = self.pty._fds[0]
        self.script = script
        self.asked_bytes = 0
        self.began_s = 0.0
        self.written_ns: list[int] = []
        self.lost_bytes = 0

    def due_s(self) -> float | None:
        """When the next frame goes out; None while it waits for the host, or at the end."""
        if len(self.written_ns) == len(self.script):
            return None
        t_s, asked_bytes, _ = self.script[len(self.written_ns)]
        return self.began_s + t_s if self.asked_bytes >= asked_bytes else None

    def hear(self) -> bool:
        """Take the host's bytes; whether the device was waiting for them."""
        waited = self.due_s() is None
        self.asked_bytes += len(os.read(self.fd, 4096))
        due_s, now_s = self.due_s(), time.monotonic()
        if waited and due_s is not None:
            self.began_s += max(0.0, now_s - due_s)
        return waited and due_s is not None

    def write(self) -> None:
        data = self.script[len(self.written_ns)][2]
        self.written_ns.append(time.monotonic_ns())
        try:
            self.lost_bytes += len(data) - os.write(self.fd, data)
        except BlockingIOError:
            self.lost_bytes += len(data)


def feed(ports: list[Port]) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    by_fd = {port.fd: i for i, port in enumerate(ports)}
    due: list[tuple[float, int]] = []
    for i, port in enumerate(ports):
        port.began_s = time.monotonic()
        if (due_s := port.due_s()) is not None:
            due.append((due_s, i))
    heapq.heapify(due)
    look_s = 0.0
    while any(len(port.written_ns) < len(port.script) for port in ports):
        now_s = time.monotonic()
        if now_s >= look_s:
            look_s = now_s + LOOK_S
            for fd in select.select(list(by_fd), [], [], 0)[0]:
                if ports[by_fd[fd]].hear():
                    heapq.heappush(due, (ports[by_fd[fd]].due_s() or now_s, by_fd[fd]))
        while due and due[0][0] <= now_s:
            _, i = heapq.heappop(due)
            ports[i].write()
            if (due_s := ports[i].due_s()) is not None:
                heapq.heappush(due, (due_s, i))
        next_s = min(due[0][0] if due else look_s, look_s)
        time.sleep(max(0.0, next_s - time.monotonic()))
    time.sleep(1.0)  # the host reads to the end


if __name__ == "__main__":
    made = [Port(*port) for port in pickle.loads(Path(sys.argv[1]).read_bytes())]
    feed(made)
    out = [port.written_ns for port in made], sum(port.lost_bytes for port in made)
    Path(sys.argv[2]).write_bytes(pickle.dumps(out))
