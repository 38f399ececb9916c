"""The plan cache gives back what this machine wrote under the same key, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.engines.plan_cache import KEY_FILE, fetch, machine, plan_key, store

PLAN = b"native code" * 100


def test_a_plan_comes_back(tmp_path: Path) -> None:
    store(tmp_path, "k", PLAN)
    assert fetch(tmp_path, "k") == PLAN
    assert fetch(tmp_path, "other") is None


@pytest.mark.parametrize("at", [0, 31, 32, -1])
def test_a_changed_byte_is_no_plan_and_is_removed(tmp_path: Path, at: int) -> None:
    path = store(tmp_path, "k", PLAN)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert fetch(tmp_path, "k") is None
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 10, 32, 40])
def test_a_truncated_entry_is_no_plan(tmp_path: Path, size: int) -> None:
    path = store(tmp_path, "k", PLAN)
    path.write_bytes(path.read_bytes()[:size])
    assert fetch(tmp_path, "k") is None


def test_an_entry_under_another_name_is_no_plan(tmp_path: Path) -> None:
    store(tmp_path, "k", PLAN).rename(tmp_path / "j.plan")
    assert fetch(tmp_path, "j") is None


def test_the_key_is_private_and_one_that_is_not_is_replaced(tmp_path: Path) -> None:
    store(tmp_path, "k", PLAN)
    secret = tmp_path / KEY_FILE
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o644)
    assert fetch(tmp_path, "k") is None
    assert secret.stat().st_mode & 0o777 == 0o600


def test_another_machines_plan_is_no_plan(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    path = store(there, "k", PLAN)
    store(here, "j", PLAN)
    os.replace(path, here / "k.plan")
    assert fetch(here, "k") is None


def test_everything_is_in_the_key() -> None:
    recipe, build = {"digest": "d", "calibration": "c"}, {"version": "10.3", **machine()}
    keys = {
        plan_key(b"m", recipe, build),
        plan_key(b"n", recipe, build),
        plan_key(b"m", recipe | {"calibration": "x"}, build),
        *(plan_key(b"m", recipe, build | {name: "x"}) for name in build),
    }
    assert len(keys) == 3 + len(build)
    assert plan_key(b"m", recipe, build) in keys
    assert set(machine()) == {"driver", "gpu", "power_mode"}
