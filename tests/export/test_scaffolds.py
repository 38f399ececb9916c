"""Molecules by their graphs: one molecule written in several ways, and scaffolds."""

from __future__ import annotations

import pytest

from export.recipes.scaffolds import same, scaffold

ONE = [
    ("CC(=O)Oc1ccccc1C(=O)O", "OC(=O)c1ccccc1OC(C)=O"),
    ("C1CC1N", "NC1CC1"),
    ("F/C=C/F", "F\\C=C\\F"),
    ("C-C", "CC"),
]
OTHER = [("CCO", "CCN"), ("C1CC1N", "C1CC1O"), ("C=CC", "CCC"), ("c1ccccc1", "C1CCCCC1")]


@pytest.mark.parametrize(("a", "b"), ONE)
def test_writings_of_one_molecule(a: str, b: str) -> None:
    assert same(a) == same(b)


@pytest.mark.parametrize(("a", "b"), OTHER)
def test_other_molecules(a: str, b: str) -> None:
    assert same(a) != same(b)


def test_a_scaffold_is_rings_and_what_links_them() -> None:
    biphenylmethane = "c1ccc(cc1)Cc1ccccc1"
    assert scaffold("Oc1ccc(cc1)Cc1ccccc1CCN") == scaffold(biphenylmethane)
    assert scaffold(biphenylmethane) != scaffold("c1ccc(cc1)c1ccccc1")  # control: another link
    assert scaffold("CCO") == same("CCO")  # no ring: its own
