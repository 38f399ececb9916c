"""Logs carry listed fields only, one value each; repeats are held back and counted."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.clock import NS_PER_S, ManualClock
from edge.errors import BugError
from edge.log import BURST_LINES, EVENT, FIELDS, KINDS, MAX_TEXT, PERIOD_NS, Log

ROOT = Path(__file__).parents[2]


class Kept:
    """A log with a clock and a place of its own."""

    def __init__(self, strict: bool = False) -> None:
        self.clock, self.out = ManualClock(), io.StringIO()
        self.log = Log(self.clock, lambda: self.out, strict=strict)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


def test_one_line_of_json_with_time_event_and_fields() -> None:
    kept = Kept()
    kept.log("daemon_started", bundle="ecg-beat", pid=3, cause='two\nlines "quoted"')
    (line,) = kept.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "daemon_started", "bundle": "ecg-beat", "pid": 3, "cause": 'two\nlines "quoted"',
    }  # fmt: skip


MRN = 987654321098765  # no piece of a time stamp


def test_what_is_not_listed_is_left_out_and_counted() -> None:
    kept = Kept()
    kept.log("daemon_started", bundle="b", patient="Jane Roe", mrn=MRN)
    kept.log("daemon_started", cause=[0.12345678901, 0.2], source=None)  # type: ignore[arg-type]
    assert [(line.get("bundle"), line["unlisted"]) for line in kept.lines()] == [
        ("b", 2),
        (None, 2),
    ]
    for secret in ("Jane", str(MRN), "patient", "0.12345678901"):
        assert secret not in kept.out.getvalue()


def test_an_event_is_a_fixed_name_and_a_text_is_short() -> None:
    kept = Kept()
    kept.log("lost Jane Roe in bed 4", cause="x" * 1000)
    (line,) = kept.lines()
    assert line["event"] == "unnamed_event"
    assert len(line["cause"]) == MAX_TEXT


@pytest.mark.parametrize(
    ("event", "fields"),
    [("daemon_started", {"patient": "x"}), ("a b", {}), ("daemon_started", {"cause": [1.0]})],
)
def test_strict_refuses_instead(event: str, fields: dict[str, Any]) -> None:
    kept = Kept(strict=True)
    with pytest.raises(BugError, match="more than the log may"):
        kept.log(event, **fields)
    assert kept.lines() == []
    kept.log("daemon_started", bundle="b")
    assert len(kept.lines()) == 1


def test_repeats_are_held_back_by_event_and_counted() -> None:
    kept = Kept()
    for n in range(100):
        kept.log("sink_failed", count=n)
    kept.log("daemon_stopped")
    assert len(kept.lines()) == BURST_LINES + 1
    kept.clock.advance_to(PERIOD_NS - 1)
    kept.log("sink_failed", count=100)
    assert len(kept.lines()) == BURST_LINES + 1
    kept.clock.advance_to(PERIOD_NS)
    kept.log("sink_failed", count=101)
    kept.log("sink_failed", count=102)
    assert kept.lines()[-2]["held_back"] == 100 - BURST_LINES + 1
    assert "held_back" not in kept.lines()[-1]


def test_a_flood_is_a_trickle() -> None:
    kept = Kept()
    for second in range(60):
        kept.clock.advance_to(second * NS_PER_S)
        for _ in range(1000):
            kept.log("sink_failed")
    written = len(kept.lines())
    assert written == BURST_LINES * 60 * NS_PER_S // PERIOD_NS
    held_back = sum(line.get("held_back", 0) for line in kept.lines())
    assert held_back + written >= 60_000 - 10_000  # the rest is told with the next line


def test_no_source_is_held_back_because_of_another() -> None:
    """One flaps a thousand times, then twelve are lost at once, one of them in two ways."""
    kept = Kept()
    for _ in range(1000):
        kept.log("condition_began", source="flaps", code="medge:device-absent", channel="")
    assert len(kept.lines()) == BURST_LINES
    for n in range(12):
        kept.log("condition_began", source=f"bed {n}", code="medge:device-absent", channel="")
    kept.log("condition_began", source="bed 0", code="medge:stale", channel="MDC_TEMP_BODY")
    kept.log("condition_began", source="flaps", code="medge:stale", channel="MDC_TEMP_BODY")
    told = kept.lines()[BURST_LINES:]
    assert [line["source"] for line in told] == [*(f"bed {n}" for n in range(12)), "bed 0", "flaps"]
    assert [line.get("held_back") for line in told] == [None] * 13 + [1000 - BURST_LINES]


def test_every_bundle_is_told() -> None:
    kept = Kept()
    for n in range(12):
        kept.log("daemon_started", bundle=f"b{n}", backend="onnxruntime")
    assert len(kept.lines()) == 12


def test_a_source_that_says_ever_new_codes_is_held_back() -> None:
    """And neither it nor time takes memory."""
    kept = Kept()
    for n in range(100_000):
        kept.clock.advance_to(n * PERIOD_NS // 50_000)
        kept.log("condition_began", source="babbles", code=f"x:{n}", channel="")
    assert len(kept.lines()) == 2 * (KINDS + BURST_LINES)
    (lately,) = kept.log._lately.values()
    assert len(lately.written) <= KINDS + 1


def calls(source: str) -> Iterator[ast.Call]:
    """Calls of a plain `log`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "log":
            yield node


def wrong_calls(root: Path) -> list[str]:
    """Calls whose event is not a literal name, or whose fields are not all listed by name."""
    wrong = []
    for file in sorted(root.rglob("*.py")):
        for call in calls(file.read_text(encoding="utf-8")):
            event = call.args[0] if len(call.args) == 1 else None
            named = isinstance(event, ast.Constant) and EVENT.fullmatch(str(event.value))
            if not named or not {str(k.arg) for k in call.keywords} <= FIELDS:
                wrong.append(f"{file.relative_to(root)}:{call.lineno}")
    return wrong


def test_every_call_keeps_to_the_list(tmp_path: Path) -> None:
    assert wrong_calls(ROOT / "edge") == []
    assert list(calls((ROOT / "edge/daemon/run.py").read_text()))
    for n, control in enumerate(
        ('log("a_name", patient=1)', 'log(f"lost {bed}")', 'log("a_name", **fields)', "log(name)")
    ):
        (tmp_path / f"{n}.py").write_text(control)
    assert len(wrong_calls(tmp_path)) == 4


def test_structlog_loads_with_the_first_line() -> None:
    code = (
        "import sys, edge.log; before = 'structlog' in sys.modules; edge.log.log('a_name');"
        "print(before, 'structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert json.loads(done.stderr)["event"] == "a_name"
