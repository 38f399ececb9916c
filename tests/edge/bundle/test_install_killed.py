"""`kill -9` at every step of an installation: the name stands for the old or the new one, whole.

A real child installs, and kills itself right before its n-th step on the disk (each file opened,
synced, renamed or removed, each folder made), for every n until it gets through.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.install import install, rollback
from edge.bundle.load import load
from edge.bundle.signature import read_private_key, sign
from edge.bundle.versions import read_record
from edge.engines import ENGINES
from edge.errors import StartError

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ONLY_ORT = {"onnxruntime": ENGINES["onnxruntime"]}
CHILD = """
import os, signal, sys
from pathlib import Path
from edge.bundle import durable, install, versions
from edge.engines import ENGINES

at, act, what, state, fault, *keys = sys.argv[1:]
ENGINES = {"onnxruntime": ENGINES["onnxruntime"]}
STEPS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
INSIDE, steps = os.path.join(state, "bundles"), []

def step(event, arguments):
    name = str(arguments[0])
    if event in STEPS and (INSIDE in name or event in ("os.remove", "os.rmdir")):
        note(f"{event} {os.path.basename(name)}")

def note(text):
    steps.append(text)
    if len(steps) == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

def sync_noted(descriptor, real=os.fsync):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if INSIDE in name:
        note(f"fsync {os.path.basename(name)}")
    real(descriptor)

def in_place(path, data):
    with path.open("wb", buffering=0) as file:
        file.write(data[:60])
        note("half of current.json")
        file.write(data[60:])

def too_early(bundle, state_dir, real=versions.keep):
    record = install._next(bundle, versions.read_record(bundle.name, state_dir))
    versions.switch(record, state_dir)
    return real(bundle, state_dir)

os.fsync = sync_noted
if fault == "in place":
    versions.write_whole = in_place
if fault == "too early":
    versions.keep = too_early
sys.addaudithook(step)
if act == "install":
    install.install(what, state, trusted_keys=keys, engines=ENGINES)
else:
    install.rollback(what, state, trusted_keys=keys, engines=ENGINES)
print("\\n".join(steps))
"""


class Rig:
    """Versions 1 and 2 installed, version 3 to come; a fresh copy of that state for every child."""

    def __init__(self, make_bundle: Any, tmp_path: Path) -> None:
        made = [make_bundle(f"v{n}", version=str(n)) for n in (1, 2, 3)]
        self.keys = [m.public for m in made]
        self.made = made
        self.before, self.state, self.new = tmp_path / "before", tmp_path / "state", made[2].folder
        for m in made[:2]:
            install(m.folder, self.before, trusted_keys=self.keys, engines=ONLY_ORT)
        # what an installation that was killed leaves, to be cleared away on the way
        (self.before / "bundles" / "tiny" / "0123456789abcdef.tmp").mkdir()
        self.script = tmp_path / "child.py"
        self.script.write_text(CHILD)

    def child(self, at: int, act: str = "install", fault: str = "") -> tuple[int, list[str]]:
        """Its return code and steps."""
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.before, self.state)
        what = str(self.new) if act == "install" else "tiny"
        arguments = [str(at), act, what, str(self.state), fault, *map(str, self.keys)]
        code = f"import runpy; runpy.run_path({str(self.script)!r}, run_name='__main__')"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, done.stdout.splitlines()

    def current(self) -> str:
        """The version that the name stands for, everything of it verified."""
        return load("tiny", trusted_keys=self.keys, state_dir=self.state).manifest.version

    def signer(self) -> Path:
        """The key without which the current version is refused."""
        (key,) = [k for k in self.keys if self._loads([k])]
        return key

    def _loads(self, keys: list[Path]) -> bool:
        try:
            load("tiny", trusted_keys=keys, state_dir=self.state)
        except StartError:
            return False
        return True

    def require_whole(self, old: str, new: str) -> str:
        """The current version is one of the two, and so the previous one is there too."""
        current = self.current()
        assert current in (old, new)
        record = read_record("tiny", self.state)
        assert record is not None
        back = rollback("tiny", self.state, trusted_keys=self.keys, engines=ONLY_ORT)
        assert back.record.current == record.previous
        rollback("tiny", self.state, trusted_keys=self.keys, engines=ONLY_ORT)
        return current


@pytest.fixture
def rig(make_bundle: Any, tmp_path: Path) -> Rig:
    return Rig(make_bundle, tmp_path)


def test_killed_at_any_step_of_an_installation(rig: Rig) -> None:
    code, steps = rig.child(at=0)
    assert code == 0 and rig.current() == "3"
    switched = next(i for i, s in enumerate(steps) if re.match(r"os\.rename current\.json", s))
    assert len(steps) > 25 and any(s.startswith("os.rmdir") for s in steps[switched:])
    for at in range(1, len(steps) + 1):
        code, _ = rig.child(at)
        assert code == -signal.SIGKILL, steps[at - 1]
        expected = "2" if at <= switched + 1 else "3"
        assert rig.require_whole("2", "3") == expected, steps[at - 1]
        done = install(rig.new, rig.state, trusted_keys=rig.keys, engines=ONLY_ORT)
        assert done.already == (expected == "3") and rig.current() == "3"
        left = {p.name for p in done.folder.parent.iterdir()}
        kept = {done.record.current[:16], done.record.previous[:16]}
        assert left == {*kept, "current.json", "lock"}, steps[at - 1]


def test_killed_at_any_step_of_a_rollback(rig: Rig) -> None:
    code, steps = rig.child(0, "rollback")
    assert code == 0 and rig.current() == "1"
    for at in range(1, len(steps) + 1):
        code, _ = rig.child(at, "rollback")
        assert code == -signal.SIGKILL
        rig.require_whole("1", "2")


def test_killed_as_another_signature_replaces_that_of_the_current_version(rig: Rig) -> None:
    """The same manifest, so the same version: its folder is swapped while it is in use."""
    sign(rig.made[1].folder, read_private_key(rig.made[2].private))
    rig.new = rig.made[1].folder
    code, steps = rig.child(at=0)
    assert code == 0 and rig.signer() == rig.keys[2]
    assert len(steps) > 20
    for at in range(1, len(steps) + 1):
        code, _ = rig.child(at)
        assert code == -signal.SIGKILL and rig.current() == "2", steps[at - 1]


@pytest.mark.parametrize(
    ("fault", "at"),
    [("in place", r"half of current\.json"), ("too early", r"os\.mkdir [0-9a-f]{16}\.tmp")],
)
def test_control_a_switch_that_is_not_atomic_is_noticed(rig: Rig, fault: str, at: str) -> None:
    """Written in place, or before the version is there."""
    code, steps = rig.child(0, fault=fault)
    assert code == 0 and rig.current() == "3"
    (step,) = [n for n, text in enumerate(steps, 1) if re.fullmatch(at, text)]
    rig.child(step, fault=fault)
    with pytest.raises(StartError):
        rig.require_whole("2", "3")
