"""What verbs print for a program to read."""

from __future__ import annotations

from typing import Any

import msgspec


def to_json(document: Any) -> str:
    """One indented JSON document."""
    return msgspec.json.format(msgspec.json.encode(document)).decode()
