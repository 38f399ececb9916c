"""SMILES: tokens atom by atom, and the molecular graph that a valid string stands for.

Implements the OpenSMILES grammar (version 1.0) without valence: brackets, bonds, branches, ring
closures. Tokens are those of Schwaller et al. 2019 (Molecular Transformer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"\[[^\[\]]*\]|Br|Cl|[BCNOPSFI]|[bcnops]|\(|\)|\.|=|#|\$|:|-|/|\\|%[0-9][0-9]|[0-9]|\*"
)
BRACKET = re.compile(
    r"\[(?:[0-9]{1,3})?(?P<element>[A-Z][a-z]?|b|c|n|o|p|s|se|as|te|\*)(?:@{1,2}(?:[A-Z]{2}"
    r"[0-9]{1,2})?)?(?:H[0-9]?)?(?:\+{1,3}|-{1,3}|[+-][0-9]{1,2})?(?::[0-9]{1,4})?\]"
)
_ELEMENTS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf
Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og b c n o p s se as te *
"""
ELEMENTS = frozenset(_ELEMENTS.split())
BONDS = frozenset("-=#$:/\\")


@dataclass(slots=True)
class Molecule:
    """`atoms` by element, lower case where aromatic; `bonds` as (atom, atom, sign), the sign empty
    where the string has none."""

    atoms: list[str] = field(default_factory=list)
    bonds: list[tuple[int, int, str]] = field(default_factory=list)


def tokens(text: str) -> list[str]:
    """Atoms, bonds, branches and ring closures of `text` in order. Raises `ValueError` where it is
    no valid SMILES."""
    found = _cut(text)
    _graph(found)
    return found


def molecule(text: str) -> Molecule:
    """The graph. Raises `ValueError` where `text` is no valid SMILES."""
    return _graph(_cut(text))


def _cut(text: str) -> list[str]:
    stripped = text.strip()
    found, at = [], 0
    while at < len(stripped):
        match = TOKEN.match(stripped, at)
        if match is None:
            raise ValueError(f"{stripped[at : at + 8]!r} is no SMILES")
        found.append(match[0])
        at = match.end()
    if not found:
        raise ValueError("it is empty")
    return found


class _Reader:
    """Where the string stands: the atom that the next one binds to, and what is still open."""

    def __init__(self) -> None:
        self.made = Molecule()
        self.last: int | None = None
        self.bond = ""
        self.branches: list[int] = []
        self.rings: dict[str, tuple[int, str]] = {}
        self.bound: set[tuple[int, int]] = set()

    def atom(self, element: str) -> None:
        if element not in ELEMENTS:
            raise ValueError(f"'{element}' is no element")
        self.made.atoms.append(element)
        here = len(self.made.atoms) - 1
        if self.last is not None:
            self.made.bonds.append((self.last, here, self.bond))
            self.bound.add((self.last, here))
        elif self.bond:
            raise ValueError("a bond begins nowhere")
        self.last, self.bond = here, ""

    def ring(self, number: str) -> None:
        if self.last is None:
            raise ValueError("a ring begins nowhere")
        if number not in self.rings:
            self.rings[number] = (self.last, self.bond)
        else:
            other, sign = self.rings.pop(number)
            pair = (other, self.last)
            if other == self.last or pair in self.bound:
                raise ValueError(f"ring {number} closes on a bond that is there")
            if sign and self.bond and sign != self.bond:
                raise ValueError(f"ring {number} closes with another bond than it began")
            self.made.bonds.append((*pair, sign or self.bond))
            self.bound.add(pair)
        self.bond = ""

    def take(self, token: str, before: str) -> None:
        if token in BONDS:
            if self.bond:
                raise ValueError("two bonds follow each other")
            self.bond = token
        elif token == "(":
            if self.last is None or self.bond or before == "(":
                raise ValueError("a branch begins nowhere")
            self.branches.append(self.last)
        elif token == ")":
            if not self.branches or self.bond or before == "(":
                raise ValueError("a branch ends that holds nothing, or never began")
            self.last = self.branches.pop()
        elif token == ".":
            if self.last is None or self.bond:
                raise ValueError("a part ends in the middle")
            self.last = None
        elif token[0] in "%0123456789":
            self.ring(token.removeprefix("%"))
        else:
            self.atom(_element(token))


def _graph(found: list[str]) -> Molecule:
    reader = _Reader()
    for before, token in zip(["", *found], found):
        reader.take(token, before)
    if reader.branches or reader.rings or reader.bond or reader.last is None:
        raise ValueError("a branch, a ring or a bond is left open")
    return reader.made


def _element(token: str) -> str:
    if token[0] != "[":
        return token
    match = BRACKET.fullmatch(token)
    if match is None:
        raise ValueError(f"'{token[:16]}' is no atom")
    return match["element"]
