"""Registries of `"module:attr"` strings, what cannot be resolved being a reason not to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.errors import StartError
from firmware_bridge import registry
from firmware_bridge.registry import nearest_first

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    try:
        return registry.load(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise StartError(
            f"{what} cannot be loaded from '{target}' ({error})",
            "install what it needs or correct the 'module:attr' name",
        ) from error
