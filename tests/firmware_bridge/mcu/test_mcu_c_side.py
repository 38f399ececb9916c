"""The C side as a piece of firmware: what it needs, its warnings, its branches, its undefined
bytes. Its size is a benchmark."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.crc import crc_x25
from firmware_bridge.mcu import framing, protocol

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

MCU = Path(protocol.__file__).parent
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")


def arm(tool: str) -> str:
    found = shutil.which(f"arm-none-eabi-{tool}")
    if found is None:
        pytest.skip(f"no arm-none-eabi-{tool} (Debian: gcc-arm-none-eabi)")
    return found


def cortex_m4(source: Path, out: Path, *flags: str) -> Path:
    target = ("-Os", "-mcpu=cortex-m4", "-mthumb", "-c")
    command = [arm("gcc"), *STRICT, *target, *flags, f"-I{MCU}", str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def sizes(built: Path) -> tuple[int, int, int]:
    """text, data and bss bytes."""
    done = subprocess.run([arm("size"), built], capture_output=True, text=True, check=True)
    text, data, bss = done.stdout.splitlines()[1].split()[:3]
    return int(text), int(data), int(bss)


def test_it_needs_nothing_but_memcpy(tmp_path: Path) -> None:
    built = cortex_m4(MCU / "medge_link.c", tmp_path / "link.o")
    done = subprocess.run([arm("nm"), "-u", built], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["U", "memcpy"]


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3", "-Os"])
def test_no_warning_at_any_optimisation(compiled: Callable[..., Path], level: str) -> None:
    extra = ("-Wsign-conversion", "-Wshadow", "-Wcast-qual", "-Wstrict-prototypes", "-Wundef")
    empty = compiled([MCU / "medge_link.c"], level, *extra, "-c")
    assert empty.exists()


def test_control_a_warning_fails_the_build(compiled: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "narrow.c").write_text("char f(int x); char f(int x) { return x; }\n")
    with pytest.raises(AssertionError, match="conversion"):
        compiled([tmp_path / "narrow.c"], "-c")


def corpus(host: Any) -> list[str]:
    """Driver lines that between them take every branch: good, damaged and impossible."""
    rng = random.Random(4)
    beat, command = host.beat, host.command
    lines = ["Z", "i 1", "t 5000000", "h", "i 1", "t 0", beat(1), beat(2), beat(3), beat(3)]
    lines += [beat(2), beat(4, 10), beat(5, 2000), beat(6, layout=1)]
    lines += [command(1, "SET_LEVEL", 0), command(1, "SET_LEVEL", 0), command(0, "SET_LEVEL", 0)]
    lines += [command(2, "SET_LEVEL", 9), command(3, "SET_LEVEL", 2)]
    lines += [command(4, "PAUSE_SOUND", 500), "t 200000", beat(7), "t 490000", beat(8)]
    lines += ["t 500000"]
    lines += [command(5, "PAUSE_SOUND", 0), command(6, "PAUSE_SOUND", 200_000)]
    lines += [command(7, "SET_LEVEL", 0), command(8, "SET_LEVEL", 3)]
    lines += ["r " + host.frame("COMMAND", id=9, action=9, argument=0).hex()]
    lines += ["r " + host.frame("HELLO_REQUEST").hex()]
    host.session += 1
    lines += [
        command(10, "SET_LEVEL", 0),
        beat(1),
        "r " + host.frame("TIME_REQUEST", token=1).hex(),
    ]
    lines += ["r " + host.frame("HELLO_REQUEST", layout=0).hex(), "t 9000000"]
    lines += ["H", "B 100 2 1 2 3", "r 00", "r " + "05" * 100 + "00", "r 0200", "r 020100"]
    for frame in (bytes.fromhex(x[2:]) for x in list(lines) if x.startswith("r ")):
        for _ in range(6):
            damaged = bytearray(frame)
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            lines.append("r " + damaged.hex() + "00")
    lines += ["r " + resealed(host, at, value) for at, value in ((0, 2), (1, 0x99))]
    lines += ["r " + resealed(host, 1, code) for code in (0x81, 0x83, 0x84)]
    lines += ["r " + resealed(host, 1, 0x82, cut=1)]
    lines += ["r " + rng.randbytes(2000).hex() for _ in range(50)]
    for width, channels, count in ((3, 2, 3), (4, 1, 108), (3, 1, 144), (3, 1, 145), (2, 1, 1)):
        values = [rng.choice([0, 8388608, -8388609, 5]) for _ in range(channels * count)]
        lines.append(f"S 1 {channels} {width} {count} 0 250000 0 0 {' '.join(map(str, values))}")
    lines += ["S 1 0 3 5 0 1 0 0", "S 1 255 4 65535 0 1 0 0"]
    full = bytes(range(1, 255)).hex()
    lines += [f"e {full}", f"e {full}00", f"e {full}01", f"d ff{full}", f"d ff{full}01", "d 00"]
    return lines + [f"{what} {rng.randbytes(n).hex()}" for what in "ced" for n in (0, 1, 300, 600)]


def resealed(host: Any, at: int, value: int, cut: int = 0) -> str:
    """A heartbeat with one header byte changed, the end cut off, and a right check, in hex."""
    frame = host.frame("HOST_BEAT", beat=1, period_ms=100)
    raw = bytearray((framing.cobs_decode(frame[:-1]) or b"")[: -2 - cut])
    raw[at] = value
    sealed = bytes(raw) + crc_x25(raw).to_bytes(2, "little")
    return (framing.cobs_encode(sealed) + b"\0").hex()


def test_sanitizers_find_nothing(build_driver: Any, host: Any) -> None:
    sanitize = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    lines = corpus(host)
    assert len(build_driver(*sanitize).run(lines)) == len(lines)


def test_control_a_sanitizer_finds_one_byte_too_many(
    compiled: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "over.c").write_text(
        "#include <stdlib.h>\n#include <stdio.h>\n"
        "int main(void) { char *a = malloc(4); int n = getchar(); a[n] = 1; return a[n]; }\n"
    )
    program = compiled([tmp_path / "over.c"], "-O0", "-fsanitize=address,undefined")
    done = subprocess.run([program], input="\x04", text=True, capture_output=True)
    assert "heap-buffer-overflow" in done.stderr


def uncovered(driver: Any, lines: list[str]) -> list[str]:
    """Branches and lines of medge_link.c that the lines never take, by gcov."""
    if shutil.which("gcov") is None:
        pytest.skip("no gcov")
    driver.run(lines)
    folder = driver.program.parent
    notes = sorted(folder.glob("*medge_link.gcno"))
    done = subprocess.run(
        ["gcov", "-b", "-c", *notes], cwd=folder, capture_output=True, text=True, check=True
    )
    assert re.search(r"Branches executed:100.00% of \d+", done.stdout) or lines == ["Z"], (
        done.stdout
    )
    report = (folder / "medge_link.c.gcov").read_text()
    source, missed = "", []
    for line in report.splitlines():
        if re.match(r"\s*(\d+|-|#####)\*?:", line):
            source = line
            missed += [line] if "#####" in line else []
        elif re.match(r"branch +\d+ (taken 0|never executed)", line):
            missed.append(f"{source} / {line}")
    return missed


def test_every_branch_is_taken(build_driver: Any, host: Any) -> None:
    missed = uncovered(build_driver("-O0", "--coverage"), corpus(host))
    assert not missed, "\n".join(missed)


def test_control_a_branch_not_taken_is_seen(build_driver: Any, host: Any) -> None:
    built = build_driver("-O0", "--coverage", "-DANOTHER_BUILD")
    assert len(uncovered(built, ["Z"])) > 50


def documented(tool: str) -> str:
    """The command of the example's README that starts with a tool."""
    text = (MCU / "example" / "README.md").read_text("utf-8").replace("\\\n", " ")
    (command,) = re.findall(rf"^{tool} .*$", text, re.MULTILINE)
    return str(command)


@pytest.mark.parametrize("tool", ["arm-none-eabi-gcc", "cc"])
def test_the_reference_firmware_builds_as_documented(tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    shutil.copytree(MCU, tmp_path / "mcu")
    strict = documented(tool).replace(tool, f"{tool} {' '.join(STRICT)}", 1)
    folder = tmp_path / "mcu" / "example"
    done = subprocess.run(["sh", "-c", strict], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if tool != "cc":
        text, data, bss = sizes(folder / "firmware.elf")
        print(f"reference firmware: {text} bytes of text, {data + bss} of RAM")
        assert text < 32 * 1024
