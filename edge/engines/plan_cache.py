"""Plans built on this machine, kept so that only this machine's own are ever loaded again.

A plan is native code: whoever can write one can run anything. Each entry carries a keyed hash
(HMAC-SHA256) under a key that is made here and readable by this user alone, over the plan and over
everything that it depends on. An entry that does not fit in any way is no entry, and is removed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.durable import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_FILE, KEY_BYTES, MAC_BYTES = "plan-cache.key", 32, 32
DRIVER = Path("/proc/driver/nvidia/version")
MODEL = Path("/proc/device-tree/model")
POWER = Path("/var/lib/nvpmodel/status")
NONE = "none"


def machine() -> dict[str, str]:
    """What of this machine a plan depends on: driver, board or GPU, power mode; "none" where there
    is none."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {
        "driver": _version(_text(DRIVER)),
        "gpu": "; ".join(_model(_text(gpu)) for gpu in gpus) or _text(MODEL).strip("\0") or NONE,
        "power_mode": _text(POWER).strip() or NONE,
    }


def plan_key(model: bytes, recipe: Mapping[str, str], build: Mapping[str, str]) -> str:
    """The name of an entry. `recipe` is what the bundle says (digest, calibration, preprocess),
    `build` the builder and its settings (module, version, batch, profiles) with `machine()`."""
    parts = [hashlib.sha256(model).hexdigest(), sorted(recipe.items()), sorted(build.items())]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def store(folder: Path, key: str, plan: bytes) -> Path:
    """Keep `plan` under `key`, whole or not at all; its file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{key}.plan"
    write_whole(path, _mac(_secret(folder), key, plan) + plan)
    return path


def fetch(folder: Path, key: str) -> bytes | None:
    """The plan under `key`, else None; an entry that this machine did not write is removed."""
    path = folder / f"{key}.plan"
    try:
        data = path.read_bytes()
    except OSError:
        return None
    mac, plan = data[:MAC_BYTES], data[MAC_BYTES:]
    if plan and hmac.compare_digest(mac, _mac(_secret(folder), key, plan)):
        return plan
    path.unlink(missing_ok=True)
    return None


def _mac(secret: bytes, key: str, plan: bytes) -> bytes:
    return hmac.new(secret, key.encode() + b"\0" + plan, hashlib.sha256).digest()


def _secret(folder: Path) -> bytes:
    """This machine's key, made on first use; one of another owner or open to others is not used."""
    path = folder / KEY_FILE
    try:
        status = path.stat()
        secret = path.read_bytes()
        if status.st_uid == os.getuid() and not status.st_mode & 0o077 and len(secret) == KEY_BYTES:
            return secret
        path.unlink()
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _version(text: str) -> str:
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", text)
    return found[1] if found else NONE


def _model(text: str) -> str:
    found = re.search(r"Model:\s*(.+)", text)
    return found[1].strip() if found else NONE
