"""When the trigger's silence on good signal is an event: pause, then asystole.

Counted in samples of the source, never in host time, so that a replay finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.bundle.manifest import Rhythm


@dataclass(frozen=True, slots=True)
class Silent:
    """No beat from `start` (a beat, or the first good sample) to `end`, positions in samples."""

    name: str
    start: int
    end: int


class Silence:
    """Watches one stretch of good signal after another."""

    def __init__(self, rhythm: Rhythm, rate_hz: float) -> None:
        self._pause = round(rhythm.pause_ms * rate_hz / 1000)
        self._asystole = round(rhythm.asystole_ms * rate_hz / 1000)
        self._since: int | None = None
        self._after_beat = False
        self._paused = False
        self._due = 0

    def restart(self, at: int) -> None:
        """Good signal begins at `at`. A pause needs a beat before it; asystole does not."""
        self._since, self._after_beat, self._paused = at, False, False
        self._due = at + self._asystole

    def stop(self) -> None:
        """The signal is not usable: silence says nothing."""
        self._since = None

    def beat(self, at: int) -> None:
        """A beat at `at`."""
        self._since, self._after_beat, self._paused = at, True, False
        self._due = at + self._asystole

    def reached(self, searched_to: int) -> list[Silent]:
        """Events due now that the trigger has searched up to `searched_to`.

        A pause is said once; asystole is said again for as long as it lasts.
        """
        if self._since is None:
            return []
        found = []
        if self._after_beat and not self._paused and searched_to >= self._since + self._pause:
            self._paused = True
            found.append(Silent("pause", self._since, self._since + self._pause))
        while searched_to >= self._due:
            found.append(Silent("asystole", self._since, self._due))
            self._due += self._asystole
        return found
