"""ANSI/AAMI EC57: beat annotation symbols to classes, and beats matched one to one in time.

Owns what "the same beat" and "the same class" mean wherever beats are judged: recipe and demo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MATCH_S = 0.150
CLASSES = ("N", "S", "V", "F", "Q")
AAMI = {
    **dict.fromkeys("NLRej", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VE", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
}
"""MIT annotation symbol of a beat to its class."""


def match(
    ours_s: Sequence[float] | NDArray[np.float64], theirs_s: Sequence[float] | NDArray[np.float64]
) -> dict[int, int]:
    """Indices ours -> theirs of beats within 150 ms, each used once, nearest first.

    Both in seconds, ascending.
    """
    ours = np.asarray(ours_s, np.float64)
    near = sorted(
        (abs(float(ours[i] - t)), int(i), j)
        for j, t in enumerate(theirs_s)
        for i in range(*np.searchsorted(ours, (t - MATCH_S, t + MATCH_S)))
    )
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in near:
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs
