"""`medge bundle` and its verbs on bundles made here and on the reference bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_show_verify_sign(medge: Any, make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    common = [str(made.folder), "--trusted-key", str(made.public), "--state-dir", str(tmp_path)]
    verified = medge("bundle", "verify", *common, "--json")
    assert verified.returncode == 0, verified.stderr
    trials = json.loads(verified.stdout)["trials"]
    assert {t["backend"] for t in trials} >= {"onnxruntime"}
    shown = json.loads(medge("bundle", "show", *common, "--json").stdout)
    assert shown["admission"]["backend"] in {t["backend"] for t in trials}
    (made.folder / "card.md").write_text("# changed\n")
    tampered = medge("bundle", "verify", *common, "--json")
    assert tampered.returncode == 1
    assert "card.md" in json.loads(tampered.stdout)["cause"]
    assert len(tampered.stderr.splitlines()) == 1
    assert medge("bundle", "show", *common).returncode == 2
    assert medge("bundle", "sign", str(made.folder), "--key", str(made.private)).returncode == 0
    assert medge("bundle", "verify", *common).returncode == 0


def test_the_reference_bundle_verifies(medge: Any, tmp_path: Path) -> None:
    done = medge("bundle", "verify", "ecg-beat", "--state-dir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert medge("bundle", "show", "ecg-beat", "--state-dir", str(tmp_path)).returncode == 0


def test_an_untrusted_bundle_is_shown_as_such(medge: Any, make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    place = [str(made.folder), "--state-dir", str(tmp_path)]
    shown = json.loads(medge("bundle", "show", *place, "--json").stdout)
    assert shown["signature"]["state"] == "not trusted"
    assert (shown["signed_by"], shown["admission"]) == ("", None)
    assert "not trusted" in medge("bundle", "show", *place).stdout
    assert medge("bundle", "verify", *place).returncode == 1


def test_sign_refuses_what_it_could_not_load(medge: Any, make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    before = (made.folder / "signature.json").read_bytes()
    (made.folder / "plugin.so").write_bytes(b"x")
    sign = medge("bundle", "sign", str(made.folder), "--key", str(made.private))
    assert (sign.returncode, len(sign.stderr.splitlines())) == (2, 1)
    assert (made.folder / "signature.json").read_bytes() == before
    assert medge("bundle", "sign", str(made.private), "--key", str(made.private)).returncode == 2


def test_install_and_rollback(medge: Any, make_bundle: Any, tmp_path: Path) -> None:
    one, two = make_bundle("one", version="1"), make_bundle("two", version="2")
    common = ["--state-dir", str(tmp_path / "s"), "--json"]
    for made in (one, two):
        common += ["--trusted-key", str(made.public)]
    said = []
    for verb in (["install", str(one.folder)], ["install", str(two.folder)],
                 ["install", str(two.folder)], ["rollback", "tiny"], ["show", "tiny"]):  # fmt: skip
        done = medge("bundle", *verb, *common)
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
    first, second, again, back, shown = said
    assert [d["version"] for d in said] == ["1", "2", "2", "1", "1"]
    assert [d["already_installed"] for d in said[:4]] == [False, False, True, False]
    assert (first["previous"], second["previous"]) == (None, first["digest"])
    assert (back["digest"], back["previous"]) == (first["digest"], second["digest"])
    assert shown["digest"] == first["digest"] and shown["admission"] is not None
    assert again["backend"] in {t["backend"] for t in second["trials"]}
    assert first["ok"] and first["security_epoch"] == 0
    assert first["installed_utc"].endswith("+00:00")


def test_install_says_what_it_does_on_stderr_and_the_outcome_on_stdout(
    medge: Any, make_bundle: Any, tmp_path: Path
) -> None:
    made = make_bundle()
    place = ["--state-dir", str(tmp_path / "s"), "--trusted-key", str(made.public)]
    done = medge("bundle", "install", str(made.folder), *place)
    assert done.returncode == 0, done.stderr
    assert "golden vectors" in done.stderr and "already_installed: False" in done.stdout
    again = medge("bundle", "install", str(made.folder), *place)
    assert "tiny 1 is already installed" in again.stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_a_check_refuses_is_1_and_wrong_usage_2(
    medge: Any, make_bundle: Any, tmp_path: Path, as_json: list[str]
) -> None:
    made = make_bundle()
    place = ["--state-dir", str(tmp_path / "s"), *as_json]
    trusted = ["--trusted-key", str(made.public)]
    folder, missing = str(made.folder), str(tmp_path / "missing")
    for code, says, arguments in (
        (1, "not trusted", ["install", folder]),
        (1, "no bundle 'tiny' is installed", ["rollback", "tiny", *trusted]),
        (2, "there is no bundle", ["install", missing, *trusted]),
        (2, "builds no plans", ["install", folder, *trusted, "--engine", "dla"]),
        (2, "cannot be read", ["install", folder, "--trusted-key", missing]),
        (2, "cannot be read", ["rollback", "tiny", "--trusted-key", missing]),
    ):
        done = medge("bundle", *arguments, *place)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert says in done.stderr
        if as_json:
            document = json.loads(done.stdout)
            assert document["ok"] is False and says in document["cause"] and document["fix"]
        else:
            assert done.stdout == ""
    assert medge("bundle", "install", *place).returncode == 2
    assert not (tmp_path / "s").exists()


def test_plans_are_built_where_a_package_is_there(make_bundle: Any, tmp_path: Path) -> None:
    """Unasked, one that fails is only said; asked for, it is refused before anything changes."""
    made = make_bundle()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tensorrt.py").write_text("raise ImportError('no libnvinfer')")
    command = [sys.executable, "-m", "edge.cli", "bundle", "install", str(made.folder), "--json",
               "--state-dir", str(tmp_path / "s"), "--trusted-key", str(made.public)]  # fmt: skip
    path = os.pathsep.join(filter(None, [str(broken), os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {
        "env": {**os.environ, "PYTHONPATH": path}, "capture_output": True, "text": True,
        "timeout": 120, "check": False,
    }  # fmt: skip
    asked = subprocess.run([*command, "--engine", "tensorrt"], **options)
    assert asked.returncode == 1 and "no libnvinfer" in json.loads(asked.stdout)["cause"]
    assert not (tmp_path / "s" / "bundles" / "tiny" / "current.json").exists()
    unasked = subprocess.run(command, **options)
    assert unasked.returncode == 0, unasked.stderr
    assert "no libnvinfer" in json.loads(unasked.stdout)["plans"]["fp32"]["refused"]
    assert "fp32: no plan" in unasked.stderr


def test_plans_of_the_real_builder(medge: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    place = ["--state-dir", str(tmp_path), "--engine", "tensorrt_rtx", "--json"]
    documents = []
    for _ in range(2):
        done = medge("bundle", "install", "pneumonia", *place)
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(done.stdout))
    first, again = (d["plans"] for d in documents)
    assert set(first) == {"fp32", "fp16", "int8"}
    assert [p["cached"] for p in (*first.values(), *again.values())] == [False] * 3 + [True] * 3
    assert not list((tmp_path / "bundles").rglob("*.plan"))
