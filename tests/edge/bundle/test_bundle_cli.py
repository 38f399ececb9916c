"""`medge bundle show|verify|sign` on a bundle made here and on the reference bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def medge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "bundle", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_show_verify_sign(make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    common = [str(made.folder), "--trusted-key", str(made.public), "--state-dir", str(tmp_path)]
    verified = medge("verify", *common, "--json")
    assert verified.returncode == 0, verified.stderr
    trials = json.loads(verified.stdout)["trials"]
    assert {t["backend"] for t in trials} >= {"onnxruntime"}
    shown = json.loads(medge("show", *common, "--json").stdout)
    assert shown["admission"]["backend"] in {t["backend"] for t in trials}
    (made.folder / "card.md").write_text("# changed\n")
    tampered = medge("verify", *common, "--json")
    assert tampered.returncode == 1
    assert "card.md" in json.loads(tampered.stdout)["cause"]
    assert len(tampered.stderr.splitlines()) == 1
    assert medge("show", *common).returncode == 2
    assert medge("sign", str(made.folder), "--key", str(made.private)).returncode == 0
    assert medge("verify", *common).returncode == 0


def test_the_reference_bundle_verifies(tmp_path: Path) -> None:
    done = medge("verify", "ecg-beat", "--state-dir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert medge("show", "ecg-beat", "--state-dir", str(tmp_path)).returncode == 0


def test_an_untrusted_bundle_is_shown_as_such(make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    place = [str(made.folder), "--state-dir", str(tmp_path)]
    shown = json.loads(medge("show", *place, "--json").stdout)
    assert shown["signature"]["state"] == "not trusted"
    assert (shown["signed_by"], shown["admission"]) == ("", None)
    assert "not trusted" in medge("show", *place).stdout
    assert medge("verify", *place).returncode == 1


def test_sign_refuses_what_it_could_not_load(make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    before = (made.folder / "signature.json").read_bytes()
    (made.folder / "plugin.so").write_bytes(b"x")
    sign = medge("sign", str(made.folder), "--key", str(made.private))
    assert (sign.returncode, len(sign.stderr.splitlines())) == (2, 1)
    assert (made.folder / "signature.json").read_bytes() == before
    assert medge("sign", str(made.private), "--key", str(made.private)).returncode == 2
