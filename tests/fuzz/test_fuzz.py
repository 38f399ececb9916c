"""The fuzzer and the campaign of damaged frames, for a few seconds; `make fuzz` and `make corrupt`
run them at length. Each has a control that it must find."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from firmware_bridge.devices import DEVICES
from firmware_bridge.types import Counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Decoder, Message

HERE = Path(__file__).parent
DAMAGED = 100_000


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # A shell between, as a process that a large one starts inherits its peak of memory (getrusage),
    # which libFuzzer would take for its own.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(HERE / script), *arguments]
    environment = {"PYTHONPATH": str(HERE.parents[1]), "PATH": os.defpath}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=cwd, env=environment
    )


def fuzzed(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    pytest.importorskip("atheris", reason="atheris has no wheel for this interpreter or machine")
    done = run("decode.py", *arguments, cwd=tmp_path)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.integration
def test_a_short_fuzz_of_every_decoder_finds_nothing(tmp_path: Path) -> None:
    code, log = fuzzed(tmp_path, "every", "-runs=3000", "-seed=1")
    assert code == 0, log[-3000:]
    assert "Done 3000 runs" in log
    edges = [int(n) for n in re.findall(r"cov: (\d+)", log)]
    assert edges[-1] >= 40 * len(DEVICES)  # it does look inside the decoders


@pytest.mark.integration
def test_control_the_fuzzer_finds_a_planted_mistake(tmp_path: Path) -> None:
    """Three bytes in a row: by chance once in 1.6e7 inputs."""
    code, log = fuzzed(tmp_path, "planted", "-runs=300000", "-max_len=16", "-seed=1")
    assert code != 0
    assert "IndexError: planted" in log


@pytest.mark.integration
@pytest.mark.slow
def test_a_hundred_thousand_damaged_frames(tmp_path: Path) -> None:
    done = run("corrupt.py", str(DAMAGED), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    total = done.stdout.splitlines()[-1].split()
    assert int(total[2]) >= DAMAGED


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """`beside(name)`: a module of this folder."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


def unchecked(body: bytes, check_bytes: int) -> bytes:
    return body[:-check_bytes]


WITHOUT_CHECK = [
    ("ge-s5", "firmware_bridge.devices.ge_s5_records.checked", partial(unchecked, check_bytes=1)),
    ("mcu", "firmware_bridge.mcu.framing.crc_x25", lambda _: Whatever()),
    ("modbus", "firmware_bridge.devices.modbus.crc16", lambda _: 0),
    ("nonin-7", "firmware_bridge.devices.nonin._sum_is_right", lambda buffer, at: True),
    (
        "philips-intellivue", "firmware_bridge.devices.philips_frames.checked",
        partial(unchecked, check_bytes=2),
    ),
]  # fmt: skip


class Whatever:
    """A check that is always as it was sent."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


@pytest.mark.parametrize(("name", "check", "none"), WITHOUT_CHECK)
def test_control_the_campaign_sees_a_check_that_is_not_made(
    name: str, check: str, none: Any, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupt = beside("corrupt")
    clean = corrupt.clean_frames(name)
    corrupt.require_checked(name, corrupt.campaign(name, clean, 500))
    monkeypatch.setattr(check, none)
    with pytest.raises(AssertionError, match=f"{name} takes damaged frames"):
        corrupt.require_checked(name, corrupt.campaign(name, clean, 500))


class Hoarder:
    """A decoder that keeps what it hears: itself, or with `elsewhere` in the module."""

    ELSEWHERE: ClassVar[list[bytes]] = []

    def __init__(self, decoder: Decoder, *, elsewhere: bool) -> None:
        self.decoder, self.kept, self.elsewhere = decoder, list[bytes](), elsewhere

    def feed(self, data: bytes) -> list[Message]:
        kept = Hoarder.ELSEWHERE if self.elsewhere else self.kept
        kept += [data[i : i + 8] for i in range(0, len(data), 8)]
        return self.decoder.feed(data)

    @property
    def counters(self) -> Counters:
        return self.decoder.counters


@pytest.mark.parametrize(("elsewhere", "said"), [(False, "grew by"), (True, "left")])
def test_control_the_campaign_sees_memory_that_grows(
    elsewhere: bool, said: str, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupt = beside("corrupt")
    make, datagrams = corrupt.targets.decoder_of("nonin-8")
    clean = corrupt.clean_frames("nonin-8")
    hoarding = partial(Hoarder, elsewhere=elsewhere)
    monkeypatch.setattr(
        corrupt.targets, "decoder_of", lambda _: (lambda: hoarding(make()), datagrams)
    )
    with pytest.raises(AssertionError, match=f"nonin-8 {said}"):
        corrupt.campaign("nonin-8", clean, 6000)
    Hoarder.ELSEWHERE.clear()


def test_every_target_says_what_its_check_lets_through(beside: Any) -> None:
    assert set(beside("checks").CHECKS) == set(beside("targets").NAMES)


@pytest.fixture
def claims(beside: Any) -> Any:
    return beside("claims")


class Forgetful:
    """A decoder that forgets what it had when the next bytes come."""

    def __init__(self) -> None:
        self._received = 0

    @property
    def counters(self) -> Counters:
        return Counters(received_bytes=self._received, frames=self._received // 4)

    def feed(self, data: bytes) -> list[Message]:
        from firmware_bridge.nomenclature import numeric

        self._received += len(data)
        return [numeric("MDC_TEMP", float(data[i]) % 50) for i in range(3, len(data), 4)]


class Impossible(Forgetful):
    def feed(self, data: bytes) -> list[Message]:
        from firmware_bridge.types import Numeric, Validity

        self._received += len(data)
        return [Numeric("MDC_PULS_OXIM_SAT_O2", 140.0, "%", Validity.VALID)]


class Generous(Forgetful):
    @property
    def counters(self) -> Counters:
        return Counters(received_bytes=self._received, skipped_bytes=self._received + 1)


@pytest.mark.parametrize("made", [Forgetful, Impossible, Generous])
def test_control_each_claim_can_fail(claims: Any, made: Any) -> None:
    claims.require_all(Forgetful, [b"1234", b"5678"])
    with pytest.raises(AssertionError):
        claims.require_all(made, [b"123", b"456", b"78"])
