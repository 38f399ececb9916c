"""Spool folders: one thing at a time in the order of names, nothing read half, nothing lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import LinkError, StartError
from edge.sources import spool
from edge.sources.spool import IMAGES, ROWS, TEXTS, ImagesOptions, RowsOptions, Spool, TextsOptions
from edge.text.encode import MAX_BYTES
from edge.types import Given, SourceLost

KINDS: dict[str, Any] = {
    "texts": (TEXTS, TextsOptions), "images": (IMAGES, ImagesOptions), "rows": (ROWS, RowsOptions),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "POLL_S", 0.01)


class Opened:
    """Open spools of one folder, closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Spool] = []

    def __call__(self, kind: str = "texts") -> Spool:
        factory, options = KINDS[kind]
        self.made.append(factory(options(folder=str(self.folder))))
        self.made[-1].open(0)
        return self.made[-1]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path)
    yield opened
    for made in opened.made:
        made.close()


def nothing(source: Spool, seconds: float = 0.1) -> bool:
    time.sleep(seconds)
    return source.poll(1) == []


def next_of(source: Spool, seconds: float = 5.0) -> Any:
    limit_s = time.monotonic() + seconds
    while time.monotonic() < limit_s:
        if found := source.poll(7):
            (one,) = found
            return one
        time.sleep(0.002)
    raise AssertionError("nothing came")


def until(done: Any) -> None:
    limit_s = time.monotonic() + 5
    while not done():
        assert time.monotonic() < limit_s
        time.sleep(0.002)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_one_after_the_other_by_name_each_moved_when_settled(
    opened: Opened, tmp_path: Path
) -> None:
    for name in ("b.txt", "a.txt", ".hidden", "c.tmp", "d.part"):
        (tmp_path / name).write_text(name)
    source = opened()
    first = next_of(source)
    assert (first.data, first.t_ns, first.source) == (b"a.txt", 7, "texts")
    assert nothing(source), "the next one only when this one is settled"
    source.settle("r-1", refused=False)
    assert next_of(source).data == b"b.txt"
    source.settle("r-2", refused=True)
    until(lambda: names(tmp_path / "refused") == ["r-2.b.txt"])
    assert names(tmp_path / "taken") == ["r-1.a.txt"]
    assert nothing(source)
    (tmp_path / "c.tmp").rename(tmp_path / "c.txt")
    assert next_of(source).data == b"c.tmp"


def test_what_was_not_settled_is_found_again_as_the_same(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    before = next_of(opened())
    opened.made[-1].close()
    again = next_of(opened())
    assert (again.identity, again.data) == (before.identity, b"one")
    opened.made[-1].close()
    (tmp_path / "b").write_text("two")
    (tmp_path / "b").replace(tmp_path / "a")  # control: another one under the same name
    other = next_of(opened())
    assert other.data == b"two" and other.identity != before.identity


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("what", ["link", "pipe", "dangling"])
def test_only_ordinary_files_are_opened(
    opened: Opened, tmp_path: Path, kind: str, what: str
) -> None:
    folder, secret = tmp_path, tmp_path / ".secret"
    secret.write_text("not for you")
    if what == "pipe":
        os.mkfifo(folder / "x")
    else:
        (folder / "x").symlink_to(secret if what == "link" else folder / ".nothing")
    source = opened(kind)
    given = next_of(source)
    assert (given.refused, given.data, given.file) == ("no ordinary file", b"", None)
    source.settle("r", refused=True)
    until(lambda: names(folder / "refused") == ["r.x"])
    assert secret.read_text() == "not for you"


def test_enormous_files_are_not_read_whole(tmp_path: Path, opened: Opened) -> None:
    """Each is a hole of a gigabyte."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 30)
    text = next_of(opened("texts"))
    assert len(text.data) == MAX_BYTES + 1 and not text.refused
    for kind in ("images", "rows"):
        opened.made[-1].close()
        given = next_of(opened(kind))
        assert "bytes" in given.refused and given.file is None and given.data == b""


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a\nb\x1b[31m", b"$(reboot); rm -rf *", b"x" * 255, "π".encode() * 100]
)
def test_hostile_names_are_only_names(tmp_path: Path, opened: Opened, name: bytes) -> None:
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"hello")
    source = opened()
    given = next_of(source)
    assert given.data == b"hello"
    source.settle("r", refused=False)
    until(lambda: len(names(tmp_path / "taken")) == 1)
    (moved,) = os.listdir(os.fsencode(tmp_path / "taken"))
    assert moved == b"r." + name[-180:]
    assert source.counters()["items"] == 1


def test_rows_are_read_or_refused_whole(tmp_path: Path, opened: Opened) -> None:
    files = {
        "1": "HR,MAP\n88,\n90,70\n", "2": "HR,MAP\n88,70\n90\n", "3": "HR,HR\n1,2\n", "4": "HR\n",
        "5": "", "6": "HR\nmany\n", "7": "\xff", "8": "HR\n" + "80\n" * 1025, "9.reset": "HR\n60\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    source, found = opened("rows"), []
    for _ in files:
        found.append(next_of(source))
        source.settle("r", refused=bool(found[-1].refused))
    assert found[0].rows == ({"HR": 88.0, "MAP": None}, {"HR": 90.0, "MAP": 70.0})
    for given, why in zip(
        found[1:8], ("as many fields", "one name", "0 rows", "0 rows", "many", "utf-8", "1025 rows")
    ):
        assert why in given.refused and not given.rows and not given.begins
    assert found[8].begins and not found[8].rows


def test_an_image_is_handed_on_as_it_is(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "x.png").write_bytes(b"not looked at")
    given = next_of(opened("images"))
    assert isinstance(given, Given) and given.file is not None
    with os.fdopen(given.file, "rb") as file:
        assert file.read() == b"not looked at"


def test_a_folder_that_goes_away_is_said_and_may_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    folder.mkdir()
    source = TEXTS(TextsOptions(folder=str(folder)))
    source.open(0)
    try:
        for path in (folder / "taken", folder / "refused", folder):
            path.rmdir()
        lost = next_of(source)
        assert isinstance(lost, SourceLost) and "cannot be used" in lost.cause
        assert str(tmp_path) not in lost.cause
        assert nothing(source), "said once, and again only after a minute"
        folder.mkdir()
        (folder / ".a").write_text("back")
        (folder / ".a").rename(folder / "a")  # as whoever fills it has to: a file is there or not
        assert next_of(source).data == b"back"
        source.settle("r", refused=False)
        until(lambda: names(folder / "taken") == ["r.a"])
    finally:
        source.close()


def test_what_cannot_be_moved_away_holds_up_the_next(tmp_path: Path, opened: Opened) -> None:
    """Judged again it would be, if the next one were taken first and the daemon then killed."""
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    source = opened()
    next_of(source)
    (tmp_path / "taken").rmdir()
    (tmp_path / "taken").write_text("in the way")
    source.settle("r", refused=False)
    assert isinstance(next_of(source), SourceLost)
    assert nothing(source) and (tmp_path / "a").exists()
    (tmp_path / "taken").unlink()
    assert next_of(source).data == b"two"
    assert names(tmp_path / "taken") == ["r.a"]


def test_a_folder_belongs_to_one_source(opened: Opened) -> None:
    first = opened()
    with pytest.raises(StartError, match="another source's"):
        opened()
    first.close()
    opened().close()  # control


def test_a_folder_that_is_not_there_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no folder"):
        TEXTS(TextsOptions(folder=str(tmp_path / "nowhere"))).open(0)
