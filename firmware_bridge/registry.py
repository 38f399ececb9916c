"""The one registry pattern: a literal dict of names to `"module:attr"` strings, resolved on use."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def load(target: str) -> Any:
    """What `"module:attr"` points at. Raises `ImportError`, `AttributeError`, `ValueError`."""
    module, _, attr = target.partition(":")
    return getattr(importlib.import_module(module), attr)


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """The known names, those most like `name` first."""
    return sorted(known, key=lambda k: -difflib.SequenceMatcher(None, name, k).ratio())
