"""A report as one self-contained HTML page: tables and plots as inline SVG, no script, no network.

Owns the drawing; what is said comes from the caller.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}"
    "td,th{border-bottom:1px solid #ccc;padding:.2rem .7rem;text-align:left}"
    ".pass{color:#1a6b2f}.fail{color:#a4161a;font-weight:bold}svg text{font:12px sans-serif}"
)
WIDTH, LABEL, ROW = 760, 190, 22
MARGIN_COLOUR, BAR_COLOUR = "#a4161a", "#2a5d8f"


def page(title: str, parts: Sequence[str]) -> str:
    """The whole document; `parts` are HTML already."""
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, of class `kind` ("pass", "fail")."""
    return f"<p class='{kind}'>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their column names."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def intervals(rows: Sequence[tuple[str, float, float, float]], margin: float) -> str:
    """Forest plot of (name, difference, low, high), a line at minus the margin."""
    ends = [v for _, _, low, high in rows for v in (low, high) if v == v] + [0.0, -margin]
    left, right = min(ends), max(ends)
    pad = 0.08 * (right - left) or 1.0
    left, right = left - pad, right + pad

    def x(value: float) -> float:
        return LABEL + (value - left) / (right - left) * (WIDTH - LABEL - 10)

    height = ROW * (len(rows) + 1)
    drawn = [_line(x(0), 0, x(0), height - ROW, "#888"),
             _line(x(-margin), 0, x(-margin), height - ROW, MARGIN_COLOUR, "4 3"),
             _text(x(-margin), height - 6, f"-{margin:g}", "middle"),
             _text(x(0), height - 6, "0", "middle")]  # fmt: skip
    for i, (name, difference, low, high) in enumerate(rows):
        y = ROW * i + ROW / 2
        drawn.append(_text(0, y + 4, name, "start"))
        if low == low:
            drawn.append(_line(x(low), y, x(high), y, BAR_COLOUR))
            drawn.append(
                f"<circle cx='{x(difference):.1f}' cy='{y:.1f}' r='4' fill='{BAR_COLOUR}'/>"
            )
    return _svg(height, drawn)


def bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars of (name, value), values 0 and up."""
    largest = max((v for _, v in rows), default=0.0) or 1.0
    drawn = []
    for i, (name, value) in enumerate(rows):
        y, width = ROW * i, value / largest * (WIDTH - LABEL - 110)
        drawn += [
            _text(0, y + 15, name, "start"),
            f"<rect x='{LABEL}' y='{y + 4}' width='{max(0.0, width):.1f}' height='{ROW - 8}' "
            f"fill='{BAR_COLOUR}'/>",
            _text(LABEL + width + 6, y + 15, f"{value:g} {unit}", "start"),
        ]
    return _svg(ROW * len(rows), drawn)


def _svg(height: float, drawn: Sequence[str]) -> str:
    return f"<svg width='{WIDTH}' height='{height}' role='img'>{''.join(drawn)}</svg>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "none") -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
        f"stroke-width='2' stroke-dasharray='{dash}'/>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(text)}</text>"
