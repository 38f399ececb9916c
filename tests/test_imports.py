"""Imports go one way, and importing starts nothing and loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "firmware_bridge": {"firmware_bridge"},
    "edge": {"firmware_bridge", "edge"},
    "calibration": {"firmware_bridge", "edge", "calibration"},
    "export": {"firmware_bridge", "edge", "calibration", "export"},
}
NEVER_IN = {
    "edge": {"torch", "onnx", "scipy"},
    "firmware_bridge": {"torch", "onnx", "scipy", "onnxruntime", "cv2"},
}
HEAVY = ("numpy", "cv2", "onnxruntime", "openvino", "torch", "tensorrt", "scipy")


def imported(file: Path) -> set[str]:
    """Top-level names a file imports, those for type checking and inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def violations(root: Path) -> list[str]:
    """Imports that go the wrong way, file by file."""
    found = []
    for package, allowed in ALLOWED.items():
        for file in (root / package).rglob("*.py"):
            wrong = imported(file) & ((ALLOWED.keys() - allowed) | NEVER_IN.get(package, set()))
            found += [f"{file.relative_to(root)} imports {name}" for name in sorted(wrong)]
    return found


def test_imports_go_one_way() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [("firmware_bridge/a.py", "import edge.types"), ("edge/a.py", "def f():\n    import torch")],
)
def test_control_a_planted_violation_is_found(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    assert len(violations(tmp_path)) == 1


def modules(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [name.removesuffix(".__init__") for name in names]


def loaded_after(*names: str) -> set[str]:
    """Heavy modules and extra threads in a fresh interpreter that imported `names`."""
    code = (
        f"import importlib, sys, threading\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        f"print(*heavy, 'threads' * (threading.active_count() - 1))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_packages_and_the_command_line_load_nothing_heavy() -> None:
    assert loaded_after("edge", "edge.cli", "firmware_bridge", "calibration", "export") == set()


def test_no_module_loads_an_engine_or_starts_a_thread() -> None:
    names = [*modules("edge"), *modules("firmware_bridge")]
    assert loaded_after(*names) <= {"numpy"}


def test_control_a_heavy_import_is_seen() -> None:
    assert "numpy" in loaded_after("numpy")
