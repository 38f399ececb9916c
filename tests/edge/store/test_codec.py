"""Results survive JSON exactly: every field, every float, whatever the text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BugError, StartError
from edge.store.codec import decode_result, encode_result
from edge.types import Diagnosis, Finding, Latency, Provenance, Reason, Withheld

TEXT = st.text(max_size=20)
NS = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | FLOAT
PROVENANCE = st.builds(Provenance, TEXT, TEXT, TEXT, TEXT, st.booleans())
LATENCY = st.builds(Latency, **dict.fromkeys(("filter", "queue", "infer", "total"), MAYBE))
FINDING = st.builds(
    Finding, TEXT, TEXT, NS, NS, MAYBE, st.tuples(TEXT, TEXT) | st.just(()), MAYBE, st.none() | TEXT
)
ENVELOPE = (NS, TEXT, TEXT, TEXT, TEXT, TEXT)
DIAGNOSIS = st.builds(
    Diagnosis, *ENVELOPE, st.lists(FINDING, max_size=3).map(tuple), PROVENANCE, FLOAT, LATENCY
)
WITHHELD = st.builds(
    Withheld, *ENVELOPE, st.sampled_from(Reason), TEXT, NS, NS, PROVENANCE, LATENCY
)


@given(DIAGNOSIS | WITHHELD)
def test_round_trip(result: Diagnosis | Withheld) -> None:
    line = encode_result(result)
    assert b"\n" not in line
    assert decode_result(line) == result
    assert decode_result(b'{"row":1,"session":"s",' + line[1:]) == result
    assert encode_result(decode_result(line)) == line


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"1", b'{"kind":"x"}', b'{"kind":"withheld"}'])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(StartError, match="not a result"):
        decode_result(line)


@given(st.binary(max_size=60), st.integers(0, 300))
def test_damage_gives_a_result_or_a_refusal(junk: bytes, at: int) -> None:
    line = bytearray(encode_result(_diagnosis()))
    line[at : at + len(junk)] = junk
    try:
        decode_result(bytes(line))
    except StartError:
        pass


@pytest.mark.parametrize("age_ms", [float("nan"), float("inf"), np.float32(0.1), np.float64(0.1)])
def test_what_json_cannot_carry_is_refused(age_ms: Any) -> None:
    with pytest.raises(BugError, match="'s-1' cannot be kept exactly"):
        encode_result(replace(_diagnosis(), age_ms=age_ms))


@pytest.mark.parametrize("findings", [[], (Finding("N", "\ud800", 0, 1),)])
def test_neither_is_a_list_nor_half_a_character(findings: Any) -> None:
    with pytest.raises(BugError, match="cannot be kept exactly"):
        encode_result(replace(_diagnosis(), findings=findings))


def _diagnosis() -> Diagnosis:
    return Diagnosis(1, "s-1", "bed", "ecg", "u", "q", (), Provenance("b", "d", "o", "f"), 1.0)
