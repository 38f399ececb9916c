"""Results to store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.types import Diagnosis, Finding, Provenance


@pytest.fixture
def diagnosis() -> Callable[..., Diagnosis]:
    """The n-th diagnosis of a session."""

    def make(n: int, session: str = "s") -> Diagnosis:
        finding = Finding("N", "", n, n + 1, probability=0.9)
        provenance = Provenance("b", "d", "onnxruntime", "fp32")
        return Diagnosis(
            n, f"{session}-{n:08d}", "bed", "ecg", "utc", "q", (finding,), provenance, 1.0
        )

    return make
