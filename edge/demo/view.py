"""What the demo shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import Counter, deque
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from edge.types import Diagnosis

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Group

    from edge.types import Finding, Result

LAST = 12
COLOURS = {"N": "green", "S": "yellow", "V": "red", "F": "magenta"}


class View(Protocol):
    """Takes results as they are decided; must not block."""

    def __enter__(self) -> View: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, result: Result) -> None: ...


def describe(result: Result) -> str:
    """One plain line: time, what was found or why nothing is said."""
    clock = result.utc[11:23]
    if isinstance(result, Diagnosis):
        return f"{clock}  {'  '.join(_finding(f) for f in result.findings)}"
    return f"{clock}  WITHHELD {result.reason.value}: {result.detail}"


def _finding(finding: Finding) -> str:
    if finding.probability is not None:
        return f"beat {finding.name} p={finding.probability:.2f}"
    value = f" {finding.value:g} {finding.unit}" if finding.value is not None else ""
    return f"{finding.name}{value}"


def notable(result: Result) -> bool:
    """Worth a plain line: anything but an ordinary normal beat."""
    if not isinstance(result, Diagnosis):
        return True
    names = {finding.name for finding in result.findings}
    return not names <= {"N", "heart_rate"}


class Lines:
    """Plain lines on stdout, ordinary beats only counted."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, result: Result) -> None:
        if notable(result):
            print(describe(result), flush=True)


class Silent(Lines):
    """Nothing: `--json` prints one document and nothing else."""

    def show(self, result: Result) -> None:
        pass


class Live:
    """A rich view redrawn four times a second from the last results."""

    def __init__(self, title: str) -> None:
        from rich.live import Live as RichLive

        self._title = title
        self._lock = Lock()
        self._last: deque[Result] = deque(maxlen=LAST)
        self._beats: Counter[str] = Counter()
        self._withheld: Counter[str] = Counter()
        self._rate = "-"
        self._live = RichLive(get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> Live:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, result: Result) -> None:
        with self._lock:
            self._count(result)

    def _count(self, result: Result) -> None:
        self._last.append(result)
        if not isinstance(result, Diagnosis):
            self._withheld[result.reason.value] += 1
            self._rate = "-"
            return
        for finding in result.findings:
            if finding.name == "heart_rate":
                self._rate = f"{finding.value:.0f}"
            elif finding.probability is not None:
                self._beats[finding.name] += 1

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        with self._lock:
            rows = [Text(describe(r), style=_style(r)) for r in self._last]
            beats, withheld = _counts(self._beats), _counts(self._withheld)
        head = Text(f"heart rate {self._rate} /min   beats {beats}   withheld {withheld}")
        return Group(Panel(head, title=self._title), Panel(Group(*rows), title="diagnoses"))


def _counts(counter: Counter[str]) -> str:
    return "  ".join(f"{name} {n}" for name, n in sorted(counter.items())) or "none"


def _style(result: Result) -> str:
    if not isinstance(result, Diagnosis):
        return "bold white on red"
    return COLOURS.get(result.findings[0].name, "cyan")


def view(as_json: bool, title: str) -> View:
    """The view that fits where stdout goes."""
    if as_json:
        return Silent()
    return Live(title) if sys.stdout.isatty() else Lines()
