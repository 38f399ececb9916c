"""The C side of the link, built here and spoken to.

In virtual time through driver.c, and in real time as the reference firmware's host build on a pty.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from firmware_bridge.mcu import framing, protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
MCU = Path(protocol.__file__).parent
LINK_C = Path(os.environ.get("MEDGE_LINK_C", MCU / "medge_link.c"))  # or a mutant of it
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")


class Shown(NamedTuple):
    """What the C side shows after a line: its state, its alarm, its count of rejects, its bytes."""

    state: str
    level: str
    sound: bool
    line: str
    rejects: int
    sent: bytes


def shown(line: str) -> Shown:
    names = protocol.wire().names
    state, level, sound, alarm_line, rejects, sent = [*line.split(" "), ""][:6]
    return Shown(
        names["STATES"][int(state)].removeprefix("STATE_"),
        names["LEVELS"][int(level)].removeprefix("LEVEL_"),
        sound == "1",
        names["LINES"][int(alarm_line)].removeprefix("LINE_"),
        int(rejects),
        bytes.fromhex(sent),
    )


class Driver:
    """A built driver.c: `run` gives lines to a fresh process, `live` keeps one."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def run(self, lines: Sequence[str]) -> list[str]:
        done = subprocess.run(
            [self.program], input="".join(f"{x}\n" for x in lines), text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1:]

    def show(self, lines: Sequence[str]) -> list[Shown]:
        return [shown(line) for line in self.run(lines)]


class Live:
    """One running driver, asked line by line."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._read()

    def ask(self, line: str) -> Shown:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        return shown(self._read())

    def close(self) -> None:
        self._process.communicate(timeout=10)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds C sources with the strict flags and more, once for each set of flags."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler 'cc'")
    built: dict[tuple[object, ...], Path] = {}

    def build(sources: Sequence[Path], *flags: str) -> Path:
        key = (*sources, *flags)
        if key not in built:
            program = tmp_path_factory.mktemp("cc") / sources[0].stem
            command = [compiler, *STRICT, f"-I{MCU}", *flags, *map(str, sources), "-o", program]
            done = subprocess.run(command, capture_output=True, text=True, cwd=program.parent)
            assert done.returncode == 0, done.stderr
            built[key] = program
        return built[key]

    return build


@pytest.fixture(scope="session")
def build_driver(compiled: Callable[..., Path]) -> Callable[..., Driver]:
    return lambda *flags: Driver(compiled([HERE / "driver.c", LINK_C], *flags))


@pytest.fixture(scope="session")
def driver(build_driver: Callable[..., Driver]) -> Driver:
    return build_driver("-O1")


@pytest.fixture
def live(driver: Driver) -> Iterator[Callable[[], Live]]:
    running: list[Live] = []

    def start() -> Live:
        running.append(Live(driver.program))
        return running[-1]

    yield start
    for one in running:
        one.close()


class Host:
    """Makes frames as a host would, each with the next sequence number."""

    def __init__(self, session: int = 7) -> None:
        self.session = session
        self._seq = 0

    def frame(self, name: str, **fields: int) -> bytes:
        wire = protocol.wire()
        layout = wire.to_mcu[name]
        if "layout" in layout.fields:
            fields.setdefault("layout", wire.layout_hash)
        self._seq = (self._seq + 1) & 0xFFFF
        header = {"seq": self._seq, "session": self.session, "t_us": 1000 * self._seq}
        return framing.encode(wire, layout, header, layout.pack(fields))

    def beat(self, number: int, period_ms: int = 100, **fields: int) -> str:
        """A line for the driver: receive a heartbeat."""
        return "r " + self.frame("HOST_BEAT", beat=number, period_ms=period_ms, **fields).hex()

    def command(self, number: int, action: str, argument: int) -> str:
        """A line for the driver: receive a command."""
        code = protocol.wire().code(f"ACTION_{action}")
        return "r " + self.frame("COMMAND", id=number, action=code, argument=argument).hex()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def another_host() -> Host:
    return Host(session=8)


def mcuboot_image(version: tuple[int, int, int], behave: str = "good", size: int = 6000) -> bytes:
    """An image that does as it is told, with its hash, and a body that differs by version."""
    words = f"behave={behave} {version} ".encode()
    body = (words * (size // len(words) + 1))[:size]
    header = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, 32, 0, size, 0, *version, 0)
    digest = hashlib.sha256(header + body).digest()
    return header + body + struct.pack("<HHBxH", 0x6907, 40, 0x10, 32) + digest


class Board:
    """The reference firmware as a process, with its flash in a file and its port on a pty."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.flash = folder / "flash"
        self.port = folder / "port"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, image: bytes) -> None:
        """Flash an image in the factory."""
        file = self._folder / "factory.bin"
        file.write_bytes(image)
        command = [self._program, "--flash", self.flash, "--factory", file]
        subprocess.run(command, check=True)

    def power_on(self, **options: int) -> None:
        """With the options of host_main, as `trial_ms=100` for `--trial-ms 100`."""
        self.port.unlink(missing_ok=True)
        boots = len(self.lines("boot"))
        with self._log.open("ab") as log:
            command = [self._program, "--flash", self.flash, "--port", self.port]
            for name, value in options.items():
                command += ["--" + name.replace("_", "-"), str(value)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + 5
        while len(self.lines("boot")) == boots and self.ended() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def ended(self) -> int | None:
        """Its exit status, or None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def power_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lines(self, *words: str) -> list[list[str]]:
        """What it has printed of "alarm", "boot", "erase", "write" or "watchdog", split, in order;
        the first column is monotonic us."""
        text = self._log.read_text() if self._log.exists() else ""
        rows = [line.split() for line in text.splitlines()]
        return [row for row in rows if row[1] in words]


@pytest.fixture(scope="session")
def firmware(compiled: Callable[..., Path]) -> Path:
    """The host build of the reference firmware."""
    if os.name != "posix":
        pytest.skip("the host build needs POSIX")
    names = ("host_main", "firmware", "smp", "smp_cbor", "boot", "sha256", "flash_file")
    sources = [MCU / "example" / f"{name}.c" for name in names]
    return compiled([*sources, MCU / "medge_link.c"], "-O1", f"-I{MCU / 'example'}")


@pytest.fixture
def board(firmware: Path, tmp_path: Path) -> Iterator[Board]:
    one = Board(firmware, tmp_path)
    yield one
    one.power_off()


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    return mcuboot_image
