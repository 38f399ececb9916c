"""The tests of the fail-safe rules notice each rule that is taken away.

A mutant is medge_link.c with one planted fault; under it those tests must fail. All mutants run by
`make mcu-mutants`; without MEDGE_ALL_MUTANTS one, picked by a fixed seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.mcu import protocol

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
SOURCE = protocol.HEADER_FILE.with_suffix(".c").read_text("utf-8")
TESTS = (
    "test_mcu_failsafe.py",
    "test_mcu_fuzz.py::test_the_c_side_does_nothing_for_corrupted_commands",
)

MUTANTS = {
    "late in RUN is ignored": ("{TRUST_1, RUN, SAFE, SAFE},\n};", "{TRUST_1, RUN, RUN, SAFE},\n};"),
    "halt in RUN is ignored": ("{TRUST_1, RUN, SAFE, SAFE},\n};", "{TRUST_1, RUN, SAFE, RUN},\n};"),
    "a new host inherits RUN": ("{TRUST_1, RUN, SAFE, SAFE},\n};", "{RUN, RUN, SAFE, SAFE},\n};"),
    "late in TRUST_2 is ignored": (
        "/* TRUST_2 */ {TRUST_1, RUN, SAFE,",
        "/* TRUST_2 */ {TRUST_1, RUN, TRUST_2,",
    ),
    "two heartbeats are enough": ("{TRUST_1, TRUST_2, SAFE", "{TRUST_1, RUN, SAFE"),
    "one heartbeat leads back": ("/* SAFE    */ {TRUST_1, TRUST_1", "/* SAFE    */ {TRUST_1, RUN"),
    "the level outlives trust": ("        link->level = MEDGE_LEVEL_HIGH;\n", ""),
    "a pause outlives trust": (
        "        link->paused = 0;\n    }\n}\n\nvoid medge_link_init",
        "    }\n}\n\nvoid medge_link_init",
    ),
    "a stuck heartbeat counts": ("(ahead == 0u) || (ahead > 0x7FFFFFFFu)", "ahead > 0x7FFFFFFFu"),
    "an older heartbeat counts": ("(ahead == 0u) || (ahead > 0x7FFFFFFFu)", "ahead == 0u"),
    "any layout counts": ("(beat->layout != (uint32_t)MEDGE_LAYOUT_HASH) || ", ""),
    "any long period counts": ("        (beat->period_ms > MEDGE_BEAT_MAX_MS) ||\n", ""),
    "any short period counts": ("(beat->period_ms < MEDGE_BEAT_MIN_MS) ||\n", "\n"),
    "levels beyond HIGH pass": (
        "level >= (uint32_t)MEDGE_LEVEL_COUNT",
        "level > (uint32_t)MEDGE_LEVEL_COUNT",
    ),
    "commands act without trust": ("(link->state != RUN) || ", ""),
    "anybody commands": (
        "header->session != link->host_session)) {\n        return MEDGE",
        "header->session == 0u)) {\n        return MEDGE",
    ),
    "stale commands act": ("(ahead > 0x7FFFu)", "(ahead == 0u)"),
    "repeated commands act": (
        "(link->command_known != 0u) && (ahead == 0u)",
        "(link->command_known > 1u) && (ahead == 0u)",
    ),
    "a pause may last": ("length_ms > MEDGE_PAUSE_MAX_MS", "length_ms > 0xFFFFFFFEu"),
    "a pause hides a higher level": (
        "    if (level > link->level) {\n        link->paused = 0;\n    }\n",
        "",
    ),
    "a pause never ends": ("(now_us - link->pause_us) >= link->pause_length_us", "now_us == 1u"),
    "patience is twice as long": (
        "(now_us - link->beat_us) > patience_us",
        "(now_us - link->beat_us) > (2u * patience_us)",
    ),
    "a clock may run back": (
        "(now_us - link->beat_us) > patience_us",
        "now_us > (link->beat_us + patience_us)",
    ),
    "only some levels drive the line": (
        "link->level == (uint8_t)MEDGE_LEVEL_OFF",
        "link->level <= (uint8_t)MEDGE_LEVEL_MEDIUM",
    ),
    "half a check is enough": (
        "return (uint16_t)get(&at, MEDGE_SIZE_CRC) == medge_crc16(raw, n)",
        "return (uint8_t)get(&at, MEDGE_SIZE_CRC) == (uint8_t)medge_crc16(raw, n)",
    ),
    "any version is ours": (
        "header.version != (uint8_t)MEDGE_WIRE_VERSION",
        "header.version == 0xFFu",
    ),
    "a late frame finds trust": (
        "    size_t answered = 0;\n    medge_link_tick(link, now_us);\n",
        "    size_t answered = 0;\n",
    ),
    "a new host's commands are old": (
        "        link->command_known = 0;\n",
        "        link->command_id = 1000;\n",
    ),
    "a host of another layout is trusted": ("        medge_link_halt(link);\n", ""),
    "any length is a command": (" &&\n               (n == (size_t)MEDGE_SIZE_COMMAND)", ""),
    "unknown actions lower the alarm": (
        "        /* What is not understood changes nothing. */\n",
        "        link->level = 0;\n",
    ),
    "it boots quiet": (".level = MEDGE_LEVEL_HIGH,", ".level = MEDGE_LEVEL_OFF,"),
}
SOME = random.Random(9).sample(sorted(MUTANTS), 1)
PICKED = sorted(MUTANTS) if os.environ.get("MEDGE_ALL_MUTANTS") else SOME


def judged(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The tests of the rules, run against a C source."""
    (folder / "medge_link.c").write_text(source)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "MEDGE_LINK_C": str(folder / "medge_link.c")}
    tests = [str(HERE / test) for test in TESTS]
    return subprocess.run(
        [*command, *tests], env=environment, capture_output=True, text=True, cwd=HERE.parents[2]
    )


@pytest.mark.parametrize("name", PICKED)
def test_a_rule_taken_away_is_noticed(tmp_path: Path, name: str) -> None:
    old, new = MUTANTS[name]
    assert SOURCE.count(old) == 1, "the planted fault has lost its place"
    done = judged(SOURCE.replace(old, new), tmp_path)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout, done.stdout


@pytest.mark.skipif(PICKED is SOME, reason="the same tests run beside this one")
def test_control_the_source_itself_passes(tmp_path: Path) -> None:
    assert judged(SOURCE, tmp_path).returncode == 0
