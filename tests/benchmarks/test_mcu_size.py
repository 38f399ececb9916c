"""What the C side of the microcontroller link takes on a Cortex-M4, as Debian's compiler builds it.

RAM is the library's own and what its user has to give it: one link and room for one frame.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_bridge.mcu import protocol

pytestmark = pytest.mark.benchmark

MCU = Path(protocol.__file__).parent
TARGET = ("-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-c")
USED = '#include "medge_link.h"\nmedge_link_t link_;\nuint8_t frame_[MEDGE_MAX_ENCODED];\n'


def arm(tool: str) -> str:
    found = shutil.which(f"arm-none-eabi-{tool}")
    if found is None:
        pytest.skip(f"no arm-none-eabi-{tool} (Debian: gcc-arm-none-eabi)")
    return found


def sizes(source: Path, folder: Path) -> tuple[int, int]:
    """Bytes of text, and of RAM (data and bss), that a C file becomes."""
    built = folder / f"{source.stem}.o"
    subprocess.run([arm("gcc"), *TARGET, f"-I{MCU}", source, "-o", built], check=True)
    done = subprocess.run([arm("size"), built], capture_output=True, text=True, check=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    return text, data + bss


def require_fits(text_bytes: int, ram_bytes: int, budget: dict[str, Any]) -> None:
    assert text_bytes <= budget["text_bytes"]
    assert ram_bytes <= budget["ram_bytes"]


def test_the_library_fits_a_cortex_m4(
    tmp_path: Path, budgets: dict[str, Any], report: Callable[..., None]
) -> None:
    text_bytes, own_bytes = sizes(MCU / "medge_link.c", tmp_path)
    (tmp_path / "used.c").write_text(USED)
    given_bytes = sizes(tmp_path / "used.c", tmp_path)[1]
    ram_bytes = own_bytes + given_bytes
    report(text_bytes=text_bytes, ram_bytes=ram_bytes, own_ram_bytes=own_bytes)
    assert given_bytes > 0
    require_fits(text_bytes, ram_bytes, budgets["mcu"])


@pytest.mark.parametrize("kind", ["const unsigned char", "unsigned char"])
def test_control_a_library_too_large_is_seen(
    tmp_path: Path, budgets: dict[str, Any], kind: str
) -> None:
    """By a byte, in text and in RAM."""
    limit = budgets["mcu"]["text_bytes" if "const" in kind else "ram_bytes"]
    (tmp_path / "large.c").write_text(f"{kind} large[{limit + 1}] = {{1}};\n")
    with pytest.raises(AssertionError):
        require_fits(*sizes(tmp_path / "large.c", tmp_path), budgets["mcu"])
