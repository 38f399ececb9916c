"""Installing and rolling back: checked first, switched in one step, nothing lost on the way.

Invariant of the switch: whenever it is interrupted, the name stands for the old version or the new
one, whole; never for anything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edge
from edge.bundle import versions
from edge.bundle.admission import stored
from edge.bundle.install import Installed, install, rollback
from edge.bundle.load import KEYS, REFERENCE, load
from edge.bundle.plans import Order
from edge.bundle.versions import read_record
from edge.daemon.run import check
from edge.engines import ENGINES
from edge.errors import StartError

pytestmark = pytest.mark.integration
ONLY_ORT = {"onnxruntime": ENGINES["onnxruntime"]}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def put(make_bundle: Any, state: Path) -> Callable[..., Installed]:
    """Make a bundle in a folder of its own and install it; later ones share the keys."""
    keys: list[Path] = []

    def make_and_install(folder: str, **changes: Any) -> Installed:
        made = make_bundle(folder, **changes)
        keys.append(made.public)
        return install(made.folder, state, trusted_keys=keys, engines=ONLY_ORT)

    make_and_install.keys = keys  # type: ignore[attr-defined]
    return make_and_install


def folders(state: Path, name: str = "tiny") -> set[str]:
    return {p.name for p in (state / "bundles" / name).iterdir()} - {"current.json", "lock"}


def rewrite(state: Path, **changes: Any) -> None:
    """Change fields of the record, as nobody should."""
    path = state / "bundles" / "tiny" / "current.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_what_was_verified_is_installed_admitted_and_found_by_name(put: Any, state: Path) -> None:
    done = put("one")
    assert done.folder == state / "bundles/tiny" / done.record.current[:16]
    assert {p.name: p.read_bytes() for p in done.folder.iterdir()} == done.bundle.files
    assert not done.already and stored(done.bundle, state, ONLY_ORT) == done.admission
    found = load("tiny", trusted_keys=put.keys, state_dir=state)
    assert (found.path, found.digest) == (done.folder, done.bundle.digest)
    assert done.record.previous == "" and folders(state) == {done.folder.name}
    when = datetime.fromisoformat(done.record.installed_utc)
    assert when.utcoffset() == timedelta(0)


def test_a_zip_installs_alike(make_bundle: Any, state: Path, tmp_path: Path) -> None:
    made = make_bundle()
    packed = tmp_path / "tiny.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(made.folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
    keys = [made.public]
    done = install(packed, state, trusted_keys=keys, engines=ONLY_ORT)
    assert done.bundle.digest == load(made.folder, trusted_keys=keys).digest
    assert install(made.folder, state, trusted_keys=keys, engines=ONLY_ORT).already


def test_the_installed_one_comes_before_the_reference_bundle(put: Any, state: Path) -> None:
    assert load("ecg-beat", state_dir=state).path == REFERENCE / "ecg-beat"
    done = install("ecg-beat", state, engines=ONLY_ORT)
    assert load("ecg-beat", state_dir=state).path == done.folder
    assert load("ecg-beat").path == REFERENCE / "ecg-beat"
    newer = put("mine", name="ecg-beat", security_epoch=done.record.security_epoch)
    assert newer.record.previous == done.bundle.digest
    with pytest.raises(StartError, match="not trusted"):
        load("ecg-beat", state_dir=state)
    assert load("ecg-beat", trusted_keys=put.keys, state_dir=state).path == newer.folder


def test_a_path_that_exists_is_that_path(
    put: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = put("tiny")
    monkeypatch.chdir(state.parent)
    assert load("tiny", trusted_keys=put.keys, state_dir=state).path == Path("tiny")
    monkeypatch.chdir(state)
    assert load("tiny", trusted_keys=put.keys, state_dir=state).path == done.folder


def test_reference_keys_vouch_for_no_other_name(put: Any, state: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(REFERENCE / "ecg-beat", tmp_path / "copy")
    with pytest.raises(StartError, match="not trusted"):
        install(copy, state, engines=ONLY_ORT)
    done = put("one")
    shutil.rmtree(done.folder)
    shutil.copytree(copy, done.folder)
    with pytest.raises(StartError, match="not trusted"):
        load("tiny", state_dir=state)
    with pytest.raises(StartError, match="not the 'tiny' that was installed"):
        load("tiny", trusted_keys=sorted(KEYS.glob("*.pub")), state_dir=state)


def refusals(make_bundle: Any, model_bytes: Any) -> dict[str, tuple[Any, list[Path]]]:
    unknown, wrong, changed = make_bundle("unknown"), make_bundle("wrong", model_bytes(1.01)), None
    changed = make_bundle("changed")
    (changed.folder / "card.md").write_text("# changed\n")
    return {
        "not trusted": (unknown, []),
        "golden vectors differ": (wrong, [wrong.public]),
        "'card.md' was changed": (changed, [changed.public]),
    }


def test_what_is_refused_changes_nothing(
    make_bundle: Any, model_bytes: Any, put: Any, state: Path
) -> None:
    done = put("one")
    for why, (made, keys) in refusals(make_bundle, model_bytes).items():
        with pytest.raises(StartError, match=why):
            install(made.folder, state, trusted_keys=keys, engines=ONLY_ORT)
        assert read_record("tiny", state) == done.record
        assert folders(state) == {done.folder.name}


def test_the_current_and_the_previous_version_stay(put: Any, state: Path) -> None:
    one, two = put("one", version="1"), put("two", version="2")
    assert folders(state) == {one.folder.name, two.folder.name}
    place = state / "bundles" / "tiny"
    (place / "0123456789abcdef.tmp").mkdir()
    (place / "0123456789abcdef.tmp" / "model.fp32.onnx").write_bytes(b"half")
    (place / "current.json.77.tmp").write_bytes(b"{")
    (place / "fedcba9876543210").mkdir()
    (place / "eeeeeeeeeeeeeeee").symlink_to(state.parent)
    (place / "notes").write_text("the operator's own")
    three = put("three", version="3")
    assert three.record.previous == two.bundle.digest
    assert folders(state) == {two.folder.name, three.folder.name, "notes"}
    assert (state.parent / "one").is_dir()


def test_a_lower_security_epoch_is_refused(put: Any, state: Path) -> None:
    put("one", security_epoch=1)
    put("two", version="2", security_epoch=2)
    put("three", version="3", security_epoch=2)
    done = rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    assert (done.bundle.manifest.version, done.record.security_epoch) == ("2", 2)
    with pytest.raises(StartError, match="security epoch 1, 2 was installed here; install a") as e:
        put("four", version="4", security_epoch=1)
    assert "\n" not in str(e.value)
    assert read_record("tiny", state) == done.record


def test_no_rollback_under_the_security_epoch(put: Any, state: Path) -> None:
    put("one", security_epoch=1)
    done = put("two", version="2", security_epoch=2)
    with pytest.raises(StartError, match="security epoch 1, 2 was installed"):
        rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    assert read_record("tiny", state) == done.record
    rewrite(state, security_epoch=1)  # control
    rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)


def test_the_same_again_is_already_installed(put: Any, make_bundle: Any, state: Path) -> None:
    first = put("one")
    folder, again = state.parent / "one", {"trusted_keys": put.keys, "engines": ONLY_ORT}
    record = state / "admission" / f"{first.bundle.digest}.json"
    before = record.read_bytes(), record.stat().st_mtime_ns
    second = install(folder, state, **again)
    assert second.already and second.record == first.record
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before
    record.unlink()
    assert install(folder, state, **again).already
    assert record.exists()


def test_installing_again_mends_what_was_damaged(put: Any, state: Path) -> None:
    one, two = put("one"), put("two", version="2")
    (two.folder / "card.md").write_text("# changed\n")
    (one.folder / "model.fp32.onnx").unlink()
    with pytest.raises(StartError, match="was changed"):
        load("tiny", trusted_keys=put.keys, state_dir=state)
    for name in ("two", "one"):
        folder = state.parent / name
        done = install(folder, state, trusted_keys=put.keys, engines=ONLY_ORT)
        assert not done.already
        assert load("tiny", trusted_keys=put.keys, state_dir=state).digest == done.bundle.digest
    assert done.record.previous == two.bundle.digest
    assert folders(state) == {one.folder.name, two.folder.name}


def test_rollback_swaps(put: Any, state: Path) -> None:
    one, two = put("one"), put("two", version="2")
    for back, other in ((one, two), (two, one)):
        done = rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
        assert (done.record.current, done.record.previous) == (
            back.bundle.digest, other.bundle.digest,
        )  # fmt: skip
        assert load("tiny", trusted_keys=put.keys, state_dir=state).digest == back.bundle.digest


def test_rollback_refuses_what_is_not_there_or_not_the_same(put: Any, state: Path) -> None:
    with pytest.raises(StartError, match="no bundle 'tiny' is installed"):
        rollback("tiny", state, engines=ONLY_ORT)
    with pytest.raises(StartError, match=r"no bundle '\.\./x' is installed"):
        rollback("../x", state, engines=ONLY_ORT)
    assert not state.exists()
    one = put("one")
    with pytest.raises(StartError, match="no previous version"):
        rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    two = put("two", version="2")
    with pytest.raises(StartError, match="not trusted"):
        rollback("tiny", state, trusted_keys=put.keys[1:], engines=ONLY_ORT)
    (one.folder / "card.md").write_text("# changed\n")
    with pytest.raises(StartError, match=r"'card\.md' was changed"):
        rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    shutil.rmtree(one.folder)
    shutil.copytree(two.folder, one.folder)
    with pytest.raises(StartError, match="not the 'tiny' that was installed"):
        rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    shutil.rmtree(one.folder)
    with pytest.raises(StartError, match="there is no bundle"):
        rollback("tiny", state, trusted_keys=put.keys, engines=ONLY_ORT)
    assert read_record("tiny", state) == two.record


def test_rollback_is_admitted_again(put: Any, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed once may not pass with the backends of today."""
    put("one")
    two = put("two", version="2")
    (state.parent / "rogues.py").write_text("def gone(*_): raise RuntimeError('no longer')\n")
    monkeypatch.syspath_prepend(state.parent)
    with pytest.raises(StartError, match="no longer"):
        rollback("tiny", state, trusted_keys=put.keys, engines={"rogue": "rogues:gone"})
    assert read_record("tiny", state) == two.record


def test_every_load_verifies_the_installed_one_again(put: Any, state: Path) -> None:
    one, two = put("one"), put("two", version="2")
    with pytest.raises(StartError, match="not trusted"):
        load("tiny", state_dir=state)
    rewrite(state, current=two.bundle.digest[:16] + "0" * 48)
    with pytest.raises(StartError, match="not the 'tiny' that was installed"):
        load("tiny", trusted_keys=put.keys, state_dir=state)
    rewrite(state, current=two.bundle.digest)
    load("tiny", trusted_keys=put.keys, state_dir=state)  # control
    shutil.rmtree(two.folder)
    shutil.copytree(one.folder, two.folder)
    with pytest.raises(StartError, match="not the 'tiny' that was installed"):
        load("tiny", trusted_keys=put.keys, state_dir=state)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"}, {"current": "../../etc"}, {"current": ""}, {"previous": "../.."},
        {"more": 1}, {"security_epoch": "none"}, {"schema": 99},
    ],
)  # fmt: skip
def test_a_record_that_is_not_understood_is_never_taken_for_none(
    put: Any, state: Path, change: dict[str, Any]
) -> None:
    put("one")
    rewrite(state, **change)
    with pytest.raises(StartError, match=r"does not say|newer medge"):
        load("tiny", trusted_keys=put.keys, state_dir=state)
    with pytest.raises(StartError, match=r"does not say|newer medge"):
        put("two", version="2")


def test_two_cannot_install_at_once(put: Any, state: Path) -> None:
    done = put("one")
    with (state / "bundles" / "tiny" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StartError, match="being installed right now"):
            put("two", version="2")
        assert read_record("tiny", state) == done.record
    rollback_needs = put("three", version="3")
    assert rollback_needs.record.previous == done.bundle.digest


def test_a_state_folder_that_cannot_be_written_is_one_error(put: Any, state: Path) -> None:
    state.mkdir()
    (state / "bundles").write_text("in the way")
    with pytest.raises(StartError, match="cannot be kept in"):
        put("one")


def test_plans_stay_out_of_the_bundle(
    put: Any, make_bundle: Any, state: Path, fake_tensorrt: Any
) -> None:
    fake_tensorrt("10.3.0")
    made, lines = make_bundle("planned"), []
    order = Order("tensorrt", state)
    arguments = {"trusted_keys": [made.public], "order": order, "engines": ONLY_ORT}
    done = install(made.folder, state, **arguments, say=lines.append)
    assert set(done.plans) == {"fp32"} and any("building the fp32 plan" in x for x in lines)
    assert {p.name for p in done.folder.iterdir()} == set(done.bundle.files)
    assert (state / "plans" / f"{done.plans['fp32'].key}.plan").exists()
    again = install(made.folder, state, **arguments, say=lines.append)
    assert again.already and again.plans["fp32"].cached and "cached" in lines[-1]


def test_a_plan_that_must_be_built_decides_before_the_switch(
    put: Any, make_bundle: Any, state: Path, fake_tensorrt: Any
) -> None:
    (fake_tensorrt("10.3.0") / "tensorrt.py").write_text("raise ImportError('no libnvinfer')")
    one, made, lines = put("one"), make_bundle("planned", version="2"), []
    arguments = {"trusted_keys": [made.public], "engines": ONLY_ORT, "say": lines.append}
    with pytest.raises(StartError, match="no libnvinfer"):
        install(made.folder, state, order=Order("tensorrt", state), **arguments)
    assert read_record("tiny", state) == one.record
    done = install(made.folder, state, order=Order("tensorrt", state, required=False), **arguments)
    assert done.record.current == done.bundle.digest and "no libnvinfer" in lines[-1]


CONFIG = """
schema = 1
bed = "rig"
state_dir = "state"
bundles = [{{ path = "tiny", trusted_keys = [{keys}] }}]

[[sources]]
kind = "synthetic"
name = "made"
"""


def test_the_daemon_and_programs_find_it_by_name(
    put: Any, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = put("one")
    config = state.parent / "bedside.toml"
    config.write_text(CONFIG.format(keys=", ".join(f'"{key}"' for key in put.keys)))
    assert check(str(config)) == 0
    assert f"bundle tiny {done.bundle.digest[:12]}" in capsys.readouterr().out
    with edge.open("tiny", state_dir=state, trusted_keys=tuple(put.keys)) as pipeline:
        assert pipeline is not None
    config.write_text(CONFIG.format(keys=""))
    with pytest.raises(StartError, match="not trusted"):
        check(str(config))


def test_nothing_in_the_record_but_what_is_said(put: Any, state: Path) -> None:
    done = put("one", security_epoch=3)
    tree = json.loads((state / "bundles" / "tiny" / "current.json").read_bytes())
    assert tree == msgspec.to_builtins(done.record)
    assert tree == {
        "schema": versions.SCHEMA, "name": "tiny", "current": done.bundle.digest, "previous": "",
        "security_epoch": 3, "installed_utc": done.record.installed_utc,
    }  # fmt: skip
    assert os.listdir(done.folder.parent)
