"""A bundle's desk: its engine link, and who waits for which answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.daemon.engine_link import EngineLink, Reply
    from edge.daemon.messages import Ask, Tensors


class Desk:
    """Shared by all lanes that feed the bundle; every request is answered once, by `taker`."""

    def __init__(self, link: EngineLink) -> None:
        self._link = link
        self._takers: dict[int, Callable[[Reply], None]] = {}
        self._keys = 0

    @property
    def ready(self) -> bool:
        """A request would be heard now."""
        return self._link.ready

    @property
    def failing(self) -> bool:
        """One engine after the other has failed: it is not just starting."""
        return self._link.failing

    def fileno(self) -> int | None:
        return self._link.fileno()

    def next_deadline_ns(self) -> int | None:
        return self._link.next_deadline_ns()

    def compute(self, tensors: Tensors, taker: Callable[[Reply], None]) -> None:
        """One window's inputs."""
        self._link.submit(self._key(taker), tensors)

    def ask(self, ask: Ask, file: int | None, taker: Callable[[Reply], None]) -> None:
        """One thing to judge, with the descriptor of its file if it has one."""
        self._link.ask(self._key(taker), ask, file)

    def poll(self) -> None:
        """Hand every answer that has come to its taker."""
        for reply in self._link.poll():
            self._takers.pop(reply.key)(reply)

    def _key(self, taker: Callable[[Reply], None]) -> int:
        self._keys += 1
        self._takers[self._keys] = taker
        return self._keys
