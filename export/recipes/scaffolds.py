"""Molecules that are the same, and molecules with the same scaffold, by their graphs.

The scaffold is after Bemis and Murcko 1996: ring systems and what links them, all else cut off; a
molecule without a ring is its own. Graphs are compared by Weisfeiler-Lehman hashes of elements,
aromaticity and bond signs, not by a full canonical form: two molecules that it cannot tell apart
are taken for one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edge.text.smiles import molecule

if TYPE_CHECKING:
    from edge.text.smiles import Molecule

ROUNDS = 6
DIRECTIONS = {"/": "", "\\": "", "-": ""}
"""Signs that do not change which atoms are bound how."""


def same(smiles: str) -> str:
    """A name that writings of one molecule share. Raises `ValueError` for no valid SMILES."""
    made = molecule(smiles)
    return _hash(made, set(range(len(made.atoms))))


def scaffold(smiles: str) -> str:
    """A name that molecules of one scaffold share. Raises `ValueError` for no valid SMILES."""
    made = molecule(smiles)
    near = _neighbours(made)
    kept = set(near)
    while leaves := [a for a in kept if len([b for b in near[a] if b in kept]) <= 1]:
        kept.difference_update(leaves)
    return _hash(made, kept or set(near))


def _neighbours(made: Molecule) -> dict[int, dict[int, str]]:
    near: dict[int, dict[int, str]] = {i: {} for i in range(len(made.atoms))}
    for a, b, sign in made.bonds:
        near[a][b] = near[b][a] = DIRECTIONS.get(sign, sign)
    return near


def _hash(made: Molecule, kept: set[int]) -> str:
    near = _neighbours(made)
    names = {a: made.atoms[a] for a in kept}
    for _ in range(ROUNDS):
        names = {
            a: _short(
                names[a], *sorted(sign + names[b] for b, sign in near[a].items() if b in kept)
            )
            for a in kept
        }
    return _short(*sorted(names.values()))


def _short(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
