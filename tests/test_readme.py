"""The README's program runs and its configuration is accepted, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import edge
from edge import config as configuration
from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.sources.synthetic import ecg

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first fenced block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def waveform(samples: Any, at: int) -> edge.Waveform:
    """One second of samples, arrived as its last one was taken."""
    t_ns = at * NS_PER_S // 250
    return edge.Waveform(
        t_ns, t_ns + NS_PER_S, "ecg", "MDC_ECG_ELEC_POTL_II", "mV", 250.0, at, samples
    )


def test_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, _, _ = ecg("NNV", 250.0, seed=1, seconds=20.0)
    blocks = [waveform(samples[at : at + 250], at) for at in range(0, len(samples), 250)]
    exec(block("python"), {"blocks": blocks})
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    settings = configuration.parse(block("toml"), tmp_path / "bedside.toml")
    assert settings.sources[0].options.device == "cyton"


def test_the_configuration_of_every_family_is_accepted(tmp_path: Path) -> None:
    """It is run in `tests/edge/daemon/test_chain.py`."""
    text = README.split("## Texts, images and rows beside it")[1]
    found = re.search(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    settings = configuration.parse(found[1], tmp_path / "bedside.toml")
    assert {part.kind for part in settings.sources} == {"monitor", "texts", "images", "rows"}


def test_control_a_typing_error_in_it_is_not(tmp_path: Path) -> None:
    with pytest.raises(StartError):
        configuration.parse(block("toml").replace("device =", "devise ="), tmp_path / "b.toml")
