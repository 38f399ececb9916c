"""The README's table is the bundles', and its commands for each family run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.load import REFERENCE, load
from export.table import AGAIN, HEAD, markdown, table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Every family")[1].split("\n## ")[0]


def proved(table: str) -> str:
    """The part of it that does not depend on where it was made."""
    rows = [line.split(" | ")[: len(HEAD)] for line in table.splitlines() if line[:1] == "|"]
    return "\n".join(" | ".join(row).removesuffix(" |") + " |" for row in rows)


def test_the_table_is_what_the_bundles_say() -> None:
    (shown,) = re.findall(r"<!-- table -->\n(.*?)\n<!-- end of table -->", SECTION, re.DOTALL)
    assert proved(shown) == markdown(), "run: medge export table"


def test_latencies_are_ratios_to_fp32_or_too_noisy() -> None:
    bundle = load("ecg-beat")
    times = {"onnxruntime": {"fp32": 0.2, AGAIN: 0.21}, "openvino": {"fp32": 0.1, AGAIN: 0.12}}
    row = markdown([bundle], [times]).splitlines()[2]  # FP32's
    assert row.endswith("| 1.00x, 0.200 ms | too noisy |")
    row = markdown([bundle], [{"onnxruntime": {"fp16": 0.2}}]).splitlines()[2]
    assert row.endswith("| none |")
    assert proved(markdown([bundle], [times])) == markdown([bundle])


@pytest.mark.integration
def test_a_bundle_that_is_not_shipped_joins_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.table._released", list)
    assert table([str(REFERENCE / "icu-mortality")]) == 0
    head, _, fp32, *_, said = capsys.readouterr().out.strip().splitlines()
    assert "onnxruntime" in head and said.startswith("Latency:")
    assert re.search(r"`icu-mortality` .* (1\.00x, 0\.\d{3} ms|too noisy) \|", fp32)


def commands() -> list[list[str]]:
    (block,) = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return [line.split()[1:] for line in block.strip().splitlines()]


@pytest.mark.integration
def test_the_commands_run(tmp_path: Path, medge_data: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    images = np.load(medge_data / "pneumoniamnist" / "pneumoniamnist.npz")["val_images"]
    cv2.imwrite(str(tmp_path / "chest.png"), images[0])
    (tmp_path / "complaint.txt").write_text(
        "I have a red itchy rash on my arms and my skin is dry and covered in scaly patches"
    )
    (tmp_path / "caffeine.smi").write_text("CN1C=NC2=C1C(=O)N(C(=O)N2C)C\n")
    (tmp_path / "hours.csv").write_text("HR,MAP,Temp,GCS,Age\n88,86,36.8,15,67\n92,,,,\n")
    (tmp_path / "mitdb").symlink_to(medge_data / "mitdb")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    said = []
    for command in commands():
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli", *command], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), command
        said.append(done.stdout)
    assert "pneumonia" in said[0] and json.loads(said[1])["results"][0]["kind"] == "diagnosis"
    assert "penetrates" in said[2] and "survival" in said[3] and "HR" in said[4]
    assert "V" in said[5] and "64 images" in said[6] and proved(said[7]) == markdown()
    assert (tmp_path / "bed-7.course").exists() and (tmp_path / "images.npz").exists()
