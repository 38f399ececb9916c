"""Texts, images and courses of rows beside an ECG in one daemon: real processes, real kills."""

from __future__ import annotations

import io
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.integration

ECG = """
[[bundles]]
path = "ecg-beat"

[[sources]]
kind = "synthetic"
name = "ecg"
bundle = "ecg-beat"
heart_rate_bpm = 140.0
"""
WORDS = """
[[bundles]]
path = "symptom-text"

[[sources]]
kind = "texts"
name = "complaints"
bundle = "symptom-text"
folder = "complaints"
"""
VITALS = """
[[bundles]]
path = "icu-vitals"
"""
IMAGES = """
[[bundles]]
path = "pneumonia"

[[sources]]
kind = "images"
name = "x-rays"
bundle = "pneumonia"
folder = "x-rays"
"""
RASH = b"I have a red itchy rash on my arms and my skin is dry and covered in scaly patches"


def hours(bed: str, bundle: str = "icu-vitals") -> str:
    """A source of rows of one bed."""
    return (
        f'[[sources]]\nkind = "rows"\nname = "hours {bed}"\nbed = "icu-{bed}"\n'
        f'bundle = "{bundle}"\nfolder = "{bed}"\n'
    )


def image(seed: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(seed).integers(0, 256, (28, 28)).astype(np.uint8))
    return buffer.getvalue()


def stay(seed: int, count: int) -> list[bytes]:
    """CSV files of one row each: invented vital signs, some of them missing."""
    dice = random.Random(seed)
    usual = {"HR": 85.0, "MAP": 75.0, "SysABP": 120.0, "RespRate": 18.0, "Temp": 37.0, "GCS": 14.0}

    def field(x: float) -> str:
        return f"{x * dice.gauss(1, 0.05):.2f}" if dice.random() < 0.7 else ""

    rows = [",".join(map(field, usual.values())) for _ in range(count)]
    return [f"{','.join(usual)}\n{row}\n".encode() for row in rows]


def findings(lines: list[dict[str, Any]]) -> list[Any]:
    """What was told, to the last bit; nothing of when."""
    kept = ("name", "value", "probability", "prediction_set", "text")
    return [
        [tuple(str(f[k]) for k in kept) for f in line.get("findings", [])] or line["reason"]
        for line in lines
    ]


def test_every_family_beside_an_ecg(ward: Callable[..., Any]) -> None:
    bed = ward(ECG + WORDS + VITALS + hours("4") + hours("5") + IMAGES)
    daemon = bed.start()
    bed.put("complaints", "1.txt", RASH)
    bed.put("x-rays", "1.npy", image(1))
    bed.put("4", "1.csv", b"HR,Temp\n88,36.8\n9999,37\n")
    bed.put("5", "1.csv", b"HR,Temp\n60,36.8\n")
    (first,) = bed.wait_for("complaints", 1)
    assert (first["kind"], first["findings"][0]["name"]) == ("diagnosis", "Psoriasis")
    assert first["bed"] == "icu-3" and first["provenance"]["bundle"] == "symptom-text"
    parts = first["latency_ms"]
    assert parts["total"] == pytest.approx(
        sum(parts[p] for p in ("queue", "transport", "infer", "decide")), abs=0.01
    )
    assert bed.wait_for("x-rays", 1)[0]["provenance"]["bundle"] == "pneumonia"
    one, two = bed.wait_for("hours 4", 2)
    assert (one["bed"], one["detail"], two["detail"]) == ("icu-4", "", "impossible, not taken: HR")
    assert {f["name"] for f in two["findings"]} == {"HR", "Temp"}
    assert bed.wait_for("hours 5", 1)[0]["bed"] == "icu-5"
    bed.wait_for("ecg", 10)
    assert bed.stop(daemon) == 0
    taken = sorted(path.name for path in (bed.folder / "4" / "taken").iterdir())
    assert taken == [f"{two['id']}.1.csv"]
    assert [line["id"] for line in bed.lines()] == [i for _, i in bed.journal()]


def run_stays(bed: Any, stays: dict[str, list[bytes]]) -> dict[str, list[Any]]:
    """Row after row, in turns; what each bed was told."""
    daemon = bed.start()
    for i, rows in enumerate(zip(*stays.values())):
        for name, row in zip(stays, rows):
            bed.put(name, f"{i:03d}.csv", row)
    found = {name: bed.wait_for(f"hours {name}", len(rows)) for name, rows in stays.items()}
    assert bed.stop(daemon) == 0
    return {name: findings(lines) for name, lines in found.items()}


@pytest.mark.parametrize("bundle", ["icu-vitals", "icu-mortality"])
def test_two_patients_in_turns_are_as_each_alone(ward: Callable[..., Any], bundle: str) -> None:
    """Bit for bit, through one engine; in one course (control) they are not."""
    stays, table = {"4": stay(1, 8), "5": stay(2, 8)}, f'[[bundles]]\npath = "{bundle}"\n'
    both = run_stays(ward(table + hours("4", bundle) + hours("5", bundle), "both"), stays)
    for name, rows in stays.items():
        alone = run_stays(ward(table + hours(name, bundle), f"alone {name}"), {name: rows})
        assert alone[name] == both[name]
    mixed = [row for pair in zip(*stays.values()) for row in pair]
    shared = run_stays(ward(table + hours("4", bundle), "shared"), {"4": mixed})
    assert shared["4"][::2] != both["4"]


def test_kill_9_of_the_daemon_loses_nothing_and_repeats_nothing(ward: Callable[..., Any]) -> None:
    """Whole files and rows in the middle of one; the course is the one of an undisturbed run."""
    rows = [b"\n".join(r.splitlines()[1] for r in stay(seed, 60)) for seed in range(3)]
    head = stay(0, 1)[0].splitlines()[0]
    files = [head + b"\n" + part + b"\n" for part in rows]
    whole = ward(VITALS + hours("4"), "undisturbed")
    daemon = whole.start()
    for i, content in enumerate(files):
        whole.put("4", f"{i}.csv", content)
    wanted = findings(whole.wait_for("hours 4", 180))
    whole.stop(daemon)
    bed, dice = ward(VITALS + hours("4") + WORDS, "killed"), random.Random(5)
    for i, content in enumerate(files):
        bed.put("4", f"{i}.csv", content)
        bed.put("complaints", f"{i}.txt", RASH)
    kills = 0
    while len(bed.of("hours 4")) < 180 or len(bed.of("complaints")) < 3:
        before, daemon = len(bed.journal()) if kills else 0, bed.start()
        bed.until(lambda n=before: daemon_has(bed, n), 30, "one more result")
        time.sleep(0.01 * dice.random())
        daemon.kill()
        daemon.wait()
        kills += 1
        assert kills < 40
    assert kills > 3
    daemon = bed.start()
    bed.until(lambda: not list((bed.folder / "4").glob("*.csv")), 30, "the last file is moved")
    bed.stop(daemon)
    assert findings(bed.of("hours 4")) == wanted
    assert len(bed.of("complaints")) == 3
    ids = [i for _, i in bed.journal()]
    assert len(ids) == len(set(ids)) == 183


def daemon_has(bed: Any, before: int) -> bool:
    try:
        return len(bed.journal()) > before
    except sqlite3.OperationalError:  # it has no tables yet
        return False


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSTOP])
def test_one_child_killed_or_hung_costs_only_its_own(
    ward: Callable[..., Any], children_of: Callable[[int], list[int]], kill: int
) -> None:
    """The row that it owed counts with the next one: the course is as it would have been."""
    rows = stay(3, 3)
    tables = ECG + WORDS + VITALS + hours("4")
    undisturbed = run_stays(ward(tables, "undisturbed"), {"4": rows})["4"]
    bed = ward(tables.replace('"icu-vitals"\n', '"icu-vitals"\ndeadline_ms = 2500.0\n', 1), "hit")
    daemon = bed.start()
    bed.put("4", "1.csv", rows[0])
    bed.wait_for("hours 4", 1)
    ecg, words, vitals = sorted(children_of(daemon.pid))
    os.kill(vitals, signal.SIGSTOP)
    bed.put("4", "2.csv", rows[1])
    time.sleep(1.2)  # it has been asked by now, and has not answered
    os.kill(vitals, kill)
    bed.put("complaints", "1.txt", RASH)
    assert bed.wait_for("complaints", 1)[0]["kind"] == "diagnosis"
    lost = bed.wait_for("hours 4", 2)[1]
    assert lost["reason"] == "backend_lost" and "counts with the next one" in lost["detail"]
    bed.put("4", "3.csv", rows[2])
    assert findings(bed.wait_for("hours 4", 3))[2] == undisturbed[2]
    beats = len(bed.of("ecg"))
    bed.wait_for("ecg", beats + 5)
    assert {ecg, words} < set(children_of(daemon.pid)) and vitals not in children_of(daemon.pid)
    assert not [x for x in bed.of("ecg") if x.get("reason") == "backend_lost"]
    assert bed.stop(daemon) == 0


BAD_TEXTS = {
    b"": "out_of_distribution",
    b"a" * 1_000_000: "out_of_distribution",
    b"itchy rash " * 50_000: "out_of_distribution",
    b"\x00\x1b[31m\x07": "out_of_distribution",
    b"Ich habe einen roten juckenden Ausschlag an den Armen": "out_of_distribution",
    b"zxqv wvut plokij mnbvgh ytrewq": "out_of_distribution",
    b"\xff\xfe\x00": "invalid_input",
}
BAD_ROWS = {
    b"HR\nmany\n": "invalid_input",
    b"HR,HUB\n80,1\n": "invalid_input",
    b"HR\n" + b"80\n" * 40_000: "invalid_input",
    b"HR\n9999\n": "stale",
    b"HR\ninf\n": "stale",
    b"HR\n\n": "invalid_input",
}
BAD_IMAGES = {b"": "invalid_input", b"no image": "invalid_input", image(1)[:200]: "invalid_input"}
BAD_SMILES = {b"C1CC": "invalid_input", b"not a molecule": "invalid_input"}
SMILES = """
[[bundles]]
path = "blood-brain-barrier"

[[sources]]
kind = "texts"
name = "molecules"
bundle = "blood-brain-barrier"
folder = "molecules"
"""


def test_bad_input_is_withheld_and_the_next_is_judged(ward: Callable[..., Any]) -> None:
    bed = ward(WORDS + VITALS + hours("4") + IMAGES + SMILES)
    given = {
        "complaints": ("complaints", BAD_TEXTS, RASH),
        "hours 4": ("4", BAD_ROWS, b"HR\n80\n"),
        "x-rays": ("x-rays", BAD_IMAGES, image(2)),
        "molecules": ("molecules", BAD_SMILES, b"CN1C=NC2=C1C(=O)N(C(=O)N2C)C"),
    }
    for folder, bad, good in given.values():
        for i, data in enumerate([*bad, good]):
            bed.put(folder, f"{i:02d}", data)
    daemon = bed.start()
    for source, (_, bad, _) in given.items():
        *withheld, last = bed.wait_for(source, len(bad) + 1, 60)
        assert [line.get("reason") for line in withheld] == list(bad.values()), source
        assert last["kind"] == "diagnosis", source
    assert bed.stop(daemon) == 0
    refused = list((bed.folder / "4" / "refused").iterdir())
    assert len(refused) == sum(reason == "invalid_input" for reason in BAD_ROWS.values())


def test_a_course_of_another_bundle_is_refused_and_begun_anew(ward: Callable[..., Any]) -> None:
    bed = ward(VITALS + hours("4"))
    before, *rest = stay(4, 3)
    daemon = bed.start()
    bed.put("4", "1.csv", before)
    bed.wait_for("hours 4", 1)
    bed.stop(daemon)
    config = bed.config.read_text()
    bed.config.write_text(config.replace("icu-vitals", "icu-mortality"))
    daemon = bed.start()
    said = bed.wait_for("hours 4", 2)[1]
    assert said["reason"] == "invalid_input" and "comes from bundle" in said["detail"]
    bed.put("4", "2.csv", rest[0])
    again = findings(bed.wait_for("hours 4", 3))[2]
    assert bed.stop(daemon) == 0
    table = '[[bundles]]\npath = "icu-mortality"\n' + hours("4", "icu-mortality")
    assert run_stays(ward(table, "fresh"), {"4": rest[:1]})["4"] == [again]


def test_another_patient_begins_a_course(ward: Callable[..., Any]) -> None:
    bed = ward(VITALS + hours("4"))
    first, second = stay(5, 2)
    for name, data in (("1.csv", first), ("2.reset", b""), ("3.csv", second)):
        bed.put("4", name, data)
    daemon = bed.start()
    found = findings(bed.wait_for("hours 4", 2))
    bed.until(lambda: len(list((bed.folder / "4" / "taken").iterdir())) == 3, 10, "all is moved")
    assert bed.stop(daemon) == 0
    assert run_stays(ward(VITALS + hours("4"), "alone"), {"4": [second]})["4"] == found[1:]


def test_a_folder_that_goes_away_is_stale_until_it_is_back(ward: Callable[..., Any]) -> None:
    bed = ward(WORDS)
    daemon = bed.start()
    bed.until(lambda: (bed.folder / "complaints" / "taken").exists(), 20, "it has begun")
    (bed.folder / "complaints").rename(bed.folder / "away")
    (said,) = bed.wait_for("complaints", 1)
    assert said["reason"] == "stale" and "cannot be used" in said["detail"]
    (bed.folder / "away").rename(bed.folder / "complaints")
    bed.put("complaints", "1.txt", RASH)
    assert bed.wait_for("complaints", 2)[1]["kind"] == "diagnosis"
    assert bed.stop(daemon) == 0


def test_rows_that_do_not_come_are_stale(ward: Callable[..., Any]) -> None:
    bed = ward(VITALS + hours("4") + "due_s = 0.4\n")
    daemon = bed.start()
    assert {line["reason"] for line in bed.wait_for("hours 4", 2)} == {"stale"}
    assert bed.stop(daemon) == 0
