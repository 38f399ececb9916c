"""The one registry pattern: a literal dict of `"module:attr"` strings, resolved on use."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """The known names, those most like `name` first."""
    return sorted(known, key=lambda k: -difflib.SequenceMatcher(None, name, k).ratio())


def resolve(table: Mapping[str, str], name: str, what: str) -> Any:
    """Import and return what `table[name]` points at.

    Raises `StartError` for an unknown name (the known ones, nearest first) or a failed import.
    """
    if name not in table:
        known = ", ".join(nearest_first(name, table))
        raise StartError(f"unknown {what} '{name}'", f"use one of: {known}")
    return load(table[name], f"{what} '{name}'")


def load(target: str, what: str) -> Any:
    """Import `"module:attr"`. Raises `StartError` naming `what` when it cannot be."""
    module_name, _, attr = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attr)
    except (ImportError, AttributeError, ValueError) as error:
        raise StartError(
            f"{what} cannot be loaded from '{target}' ({error})",
            "install what it needs or correct the 'module:attr' name",
        ) from error
