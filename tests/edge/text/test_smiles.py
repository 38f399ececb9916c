"""SMILES: valid ones are cut into tokens that make them up, others are refused with the cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.text.smiles import molecule, tokens

VALID = {
    "C1=CC=CC=C1": (6, 6),
    "CC(=O)Oc1ccccc1C(=O)O": (13, 13),
    "C[C@@H](N)C(=O)O": (6, 5),
    "[Na+].[Cl-]": (2, 0),
    "F/C=C/F": (4, 3),
    "C%12CC%12": (3, 3),
    "[13CH4]": (1, 0),
    "c1c[nH]cc1": (5, 5),
    "N#CC=CC(Br)Cl": (7, 6),
    "[2H]O[2H]": (3, 2),
}
"""Atoms and bonds that each stands for."""

INVALID = {
    "": "empty",
    "  ": "empty",
    "C(": "left open",
    "C)": "never began",
    "C()C": "holds nothing",
    "(C)C": "begins nowhere",
    "C1CC": "left open",
    "C1C1": "bond that is there",
    "C11": "bond that is there",
    "C-1CC=1": "another bond",
    "C==C": "two bonds",
    "=C": "begins nowhere",
    "C=": "left open",
    "C.": "left open",
    ".C": "in the middle",
    "C..C": "in the middle",
    "1CC1": "begins nowhere",
    "[Xx]": "no element",
    "[C": "no SMILES",
    "[]": "no atom",
    "[C@@@@H]": "no atom",
    "hello": "no SMILES",
    "C C": "no SMILES",
    "C\x00C": "no SMILES",
    "Ж": "no SMILES",
}


@pytest.mark.parametrize("text", VALID)
def test_valid(text: str) -> None:
    assert "".join(tokens(text)) == text
    made = molecule(text)
    assert (len(made.atoms), len(made.bonds)) == VALID[text]


@pytest.mark.parametrize("text", INVALID)
def test_invalid_with_the_cause(text: str) -> None:
    with pytest.raises(ValueError, match=INVALID[text]):
        tokens(text)


def test_every_molecule_of_the_data_is_valid(medge_data: object) -> None:
    import csv
    from pathlib import Path

    with Path(str(medge_data), "molecules", "bbbp.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1640
    for row in rows:
        assert "".join(tokens(row["smiles"])) == row["smiles"]


@given(st.text(alphabet="CNOcn()[]=#123%@H+-./\\ lBr", max_size=40) | st.text(max_size=40))
def test_nothing_but_value_errors(text: str) -> None:
    """Any string is cut into tokens that make it up, or refused."""
    try:
        assert "".join(tokens(text)) == text.strip()
    except ValueError:
        pass
