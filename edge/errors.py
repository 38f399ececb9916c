"""The three errors of medge: refuse to run, retry, stop safely. Each says the cause and the fix.

`LinkError` and the one-line form are firmware_bridge's, the layer below. Bad bytes and bad signal
are not errors: they are counted values and `Withheld` results.
"""

from __future__ import annotations

from firmware_bridge.errors import BridgeError, LinkError

__all__ = ["BugError", "LinkError", "MedgeError", "StartError"]

MedgeError = BridgeError


class StartError(MedgeError):
    """Refuse to run: wrong configuration, refused bundle, missing package."""


class BugError(MedgeError):
    """An internal promise is broken: stop safely and keep the recording."""
