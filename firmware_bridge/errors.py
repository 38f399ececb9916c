"""What can go wrong on a wire, each with its cause and its fix; `edge` turns them into its own.

Bad bytes are not here: a decoder counts them and goes on.
"""

from __future__ import annotations


class BridgeError(Exception):
    """A cause and its fix, printed as one line: `cause; fix`."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}; {fix}")
        self.cause = cause
        self.fix = fix


class LinkError(BridgeError):
    """The port is absent, busy or gone: worth another try later."""

    @classmethod
    def of(cls, line: str) -> LinkError:
        """The error that is printed as `line`."""
        cause, _, fix = line.partition("; ")
        return cls(cause, fix)


class AddressError(BridgeError, ValueError):
    """An address that no port can have."""


class UnknownDeviceError(BridgeError, LookupError):
    """No device of that name is registered."""


class MapError(BridgeError):
    """A map of registers cannot be used as written."""


class FaultScriptError(BridgeError):
    """A script of faults for an emulator cannot be used as written."""


class DialogueError(Exception):
    """Our own fault, never the device's: an event in a state where it cannot happen."""
