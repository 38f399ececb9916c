"""Whatever the moment of a kill, every thing is judged once, every chain asked once, and a course
gets every row once and in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from edge.clock import NS_PER_S, ManualClock, WallAnchor
from edge.daemon.engine_link import Reply
from edge.daemon.item_lane import MAX_OWED, ItemLane, Stage, Terms
from edge.daemon.messages import Answer, Ask
from edge.daemon.progress import Progress, pack_progress, read_progress
from edge.pipeline.decide import Envelope, Ids
from edge.store.journal import Kept
from edge.types import Finding, Given, Provenance, Reason, SourceLost

PROVENANCE = Provenance("b", "d", "o", "fp32")
HOUR_NS = 3600 * NS_PER_S
TERMS = Terms(frozenset({"HR", "MAP"}), HOUR_NS, HOUR_NS)


class Folder:
    """A source that holds things until they are settled, as a disk does."""

    name = "in"

    def __init__(self, *things: Given) -> None:
        self.things, self.out, self.moved = list(things), False, list[tuple[str, str, bool]]()

    def fileno(self) -> None:
        return None

    def next_deadline_ns(self) -> None:
        return None

    def poll(self, now_ns: int) -> list[Given | SourceLost]:
        if self.out or not self.things:
            return []
        self.out = True
        return [self.things[0]]

    def settle(self, result: str, refused: bool) -> None:
        self.moved.append((self.things.pop(0).identity, result, refused))
        self.out = False


class Desk:
    """Answers what it is asked, when told to."""

    ready, failing = True, False

    def __init__(self, answer: Any) -> None:
        self.answer, self.waiting, self.asked = answer, deque[Any](), list[Ask]()

    def ask(self, ask: Ask, file: int | None, taker: Any) -> None:
        self.asked.append(ask)
        self.waiting.append((ask, taker))

    def poll(self) -> None:
        while self.waiting:
            ask, taker = self.waiting.popleft()
            found = self.answer(ask)
            lost = found is None
            taker(Reply(1, 0, 0, 0, None, "it ended" if lost else "", found))


@dataclass
class Disk:
    """What survives a kill: results and what was kept with them, committed after `delay` steps."""

    results: list[Any] = field(default_factory=list)
    kept: Kept | None = None
    commits: int = 0
    limit: int | None = None

    def emit(self, result: Any) -> None:
        self.results.append(result)

    def keep(self, kept: Kept, result: Any = None) -> int:
        if self.limit is not None and self.commits >= self.limit:
            return 1 << 60  # killed before this commit
        self.commits += 1
        self.kept = kept
        self.results += [] if result is None else [result]
        return self.commits


@dataclass
class Bed:
    """One folder, one disk; daemons come and go."""

    folder: Folder
    desks: dict[str, Desk]
    terms: Terms | None = None
    disk: Disk = field(default_factory=Disk)
    clock: ManualClock = field(default_factory=ManualClock)
    started: int = 0

    def lane(self, begun_anew: str = "") -> ItemLane:
        self.started += 1
        self.folder.out = False
        ids, anchor = Ids(f"s{self.started}"), WallAnchor(0, 0, "q")
        stages = {
            name: Stage(
                desk,  # type: ignore[arg-type]
                Envelope(ids, "bed", "in" if i == 0 else f"in > {name}", anchor, PROVENANCE),
                ("advice",) if name == "words" and "advice" in self.desks else (),
            )
            for i, (name, desk) in enumerate(self.desks.items())
        }
        progress = read_progress(self.disk.kept.body) if self.disk.kept else Progress()
        return ItemLane(
            self.folder, stages, next(iter(stages)), self.terms,
            self.disk, self.clock, progress, begun_anew,  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, lane: ItemLane, rounds: int = 60, unheard: int | None = None) -> None:
        """Lets it do all it can; of the commit `unheard` it does not hear any more."""
        for _ in range(rounds):
            lane.poll()
            for desk in self.desks.values():
                desk.poll()
            commits = self.disk.commits
            lane.settle(commits if commits != unheard else commits - 1)


def given(identity: str, **fields: Any) -> Given:
    return Given(0, "in", identity, **fields)


def named(ask: Ask) -> Answer:
    if ask.data == b"blue ears":
        return Answer(reason=Reason.OUT_OF_DISTRIBUTION, detail="foreign")
    return Answer((Finding("Disease " + ask.data.decode(), "", 0, 0, 0.9),))


def advised(ask: Ask) -> Answer:
    return Answer((Finding("advice on " + ask.data.decode(), "", 0, 0, 0.8),))


def counted(ask: Ask) -> Answer:
    """A course whose state is the rows it has seen."""
    seen = [*msgspec.json.decode(ask.course or b"[]"), *(row["HR"] for row in ask.rows)]
    told = (Finding(f"HR after {seen}", "", 0, len(seen) * HOUR_NS, value=seen[-1]),)
    return Answer(told, steps=len(seen), course=msgspec.json.encode(seen))


def words() -> Bed:
    folder = Folder(*(given(x, data=x.encode()) for x in ("a", "blue ears", "c")))
    return Bed(folder, {"words": Desk(named), "advice": Desk(advised)})


def rows() -> Bed:
    hours = ({"HR": float(n)} for n in range(1, 7))
    folder = Folder(
        given("1", rows=(next(hours), next(hours), next(hours))), given("2", rows=(next(hours),)),
        given("3", begins=True), given("4", rows=(next(hours), next(hours))),
    )  # fmt: skip
    return Bed(folder, {"rows": Desk(counted)}, TERMS)


def told(bed: Bed) -> list[Any]:
    """What somebody reads, but for ids."""
    return [
        (r.source, r.detail, [f.name for f in getattr(r, "findings", ())]) for r in bed.disk.results
    ]


def test_a_finding_leads_to_the_next_bundle_and_says_where_it_comes_from() -> None:
    bed = words()
    bed.run(bed.lane())
    first, second, withheld, *_ = bed.disk.results
    assert [r.source for r in bed.disk.results] == ["in", "in > advice", "in", "in", "in > advice"]
    assert (first.because, second.because) == (None, first.id)
    assert second.findings[0].name == "advice on Disease a"
    assert withheld.reason is Reason.OUT_OF_DISTRIBUTION  # and no second
    assert [(i, refused) for i, _, refused in bed.folder.moved] == [
        ("a", False), ("blue ears", False), ("c", False),
    ]  # fmt: skip
    assert bed.folder.moved[0][1] == second.id


def test_a_course_goes_on_over_files_and_begins_when_told() -> None:
    bed = rows()
    bed.run(bed.lane())
    assert [names[0] for _, _, names in told(bed)] == [
        "HR after [1.0]", "HR after [1.0, 2.0]", "HR after [1.0, 2.0, 3.0]",
        "HR after [1.0, 2.0, 3.0, 4.0]", "HR after [5.0]", "HR after [5.0, 6.0]",
    ]  # fmt: skip
    assert [r.t_ns // HOUR_NS for r in bed.disk.results] == [-2, -1, 0, 0, -1, 0]
    spans = [(f.t0_ns // HOUR_NS, f.t1_ns // HOUR_NS) for r in bed.disk.results for f in r.findings]
    assert spans == [(-3, -2), (-3, -1), (-3, 0), (-4, 0), (-2, -1), (-2, 0)]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("make", [words, rows])
def test_killed_after_any_commit_it_goes_on_without_loss_or_repeat(make: Any, heard: bool) -> None:
    """Before the thing was moved away because of it, or after."""
    whole = make()
    whole.run(whole.lane())
    for killed_after in range(whole.disk.commits + 1):
        bed = make()
        bed.disk.limit = killed_after
        bed.run(bed.lane(), unheard=None if heard else killed_after)
        bed.disk.limit = None
        bed.run(bed.lane())
        assert told(bed) == told(whole), killed_after
        assert [m[0] for m in bed.folder.moved] == [m[0] for m in whole.folder.moved]


@pytest.mark.parametrize("make", [words, rows])
def test_control_without_what_was_kept_it_repeats(make: Any) -> None:
    whole, bed = make(), make()
    whole.run(whole.lane())
    bed.disk.limit = 1
    bed.run(bed.lane())
    bed.disk.limit = bed.disk.kept = None
    bed.run(bed.lane())
    assert told(bed) != told(whole)


def test_a_row_without_an_answer_counts_with_the_next() -> None:
    bed = rows()
    falls = iter([False, True, True, False, False, False])
    bed.desks["rows"].answer = lambda ask: None if next(falls) else counted(ask)
    bed.run(bed.lane())
    lost = [r for r in bed.disk.results if getattr(r, "reason", None) is Reason.BACKEND_LOST]
    assert [r.detail for r in lost] == ["it ended; the row counts with the next one"] * 2
    assert [names[0] for _, _, names in told(bed) if names] == [
        "HR after [1.0]", "HR after [1.0, 2.0, 3.0, 4.0]", "HR after [5.0]", "HR after [5.0, 6.0]",
    ]  # fmt: skip


def test_too_many_of_them_and_the_course_begins_anew() -> None:
    count = MAX_OWED + 2
    hours = tuple({"HR": float(n)} for n in range(count))
    bed = Bed(Folder(given("1", rows=hours)), {"rows": Desk(None)}, TERMS)
    left = iter([True] * (MAX_OWED + 1) + [False])
    bed.desks["rows"].answer = lambda ask: None if next(left) else counted(ask)
    bed.run(bed.lane())
    assert "begins anew" in bed.disk.results[MAX_OWED].detail
    assert told(bed)[-1][2] == [f"HR after [{count - 1.0}]"]


def test_a_course_that_the_bundle_refuses_begins_anew_and_says_so() -> None:
    bed = rows()
    bed.run(bed.lane(begun_anew="the saved state is refused: it comes from bundle x"))
    first = bed.disk.results[0]
    assert first.reason is Reason.INVALID_INPUT and first.detail.endswith("begins anew")
    assert len(bed.disk.results) == 7
    refused = rows()
    refused.desks["rows"].answer = lambda _: Answer(reason=Reason.INVALID_INPUT, detail="its parts")
    refused.run(refused.lane())
    assert "its parts; the course begins anew" in refused.disk.results[0].detail


@pytest.mark.parametrize(
    "thing", [given("x", refused="no ordinary file"), given("x", rows=({"HUB": 1.0},))]
)
def test_what_cannot_be_read_asks_nothing(thing: Given) -> None:
    bed = Bed(Folder(thing, given("y", rows=({"HR": 1.0},))), {"rows": Desk(counted)}, TERMS)
    bed.run(bed.lane())
    assert bed.disk.results[0].reason is Reason.INVALID_INPUT
    assert [(i, refused) for i, _, refused in bed.folder.moved] == [("x", True), ("y", False)]
    assert len(bed.desks["rows"].asked) == 1


def test_impossible_values_are_named() -> None:
    bed = Bed(Folder(given("1", rows=({"HR": 1.0},))), {"rows": Desk(None)}, TERMS)
    bed.desks["rows"].answer = lambda ask: msgspec.structs.replace(
        counted(ask), impossible=("HR", "MAP")
    )
    bed.run(bed.lane())
    assert bed.disk.results[0].detail == "impossible, not taken: HR, MAP"


def test_rows_that_do_not_come_are_missed() -> None:
    bed = Bed(Folder(), {"rows": Desk(counted)}, TERMS)
    lane = bed.lane()
    said_at = []
    for quarter in range(1, 17):
        bed.clock.advance_to(quarter * HOUR_NS // 4)
        before = len(bed.disk.results)
        lane.poll()
        said_at += [quarter / 4] * (len(bed.disk.results) - before)
    assert said_at == [1.5, 2.5, 3.5]
    assert {r.reason for r in bed.disk.results} == {Reason.STALE}
    bed.folder.things.append(given("1", rows=({"HR": 1.0},)))
    bed.run(lane)
    assert lane.next_deadline_ns() is not None
    texts = words()  # control: nobody has to say anything
    assert texts.lane().next_deadline_ns() is None


def test_nothing_is_taken_before_the_engine_is_there() -> None:
    """Where it does not come up, that is said once a minute, and all still waits."""
    bed = words()
    desk = bed.desks["words"]
    desk.ready = False
    lane = bed.lane()
    bed.run(lane)
    assert not bed.disk.results and not bed.folder.moved
    desk.failing = True
    for seconds in (0, 1, 59, 61, 62):
        bed.clock.advance_to(seconds * NS_PER_S)
        bed.run(lane, rounds=3)
    assert [r.reason for r in bed.disk.results] == [Reason.BACKEND_LOST] * 2
    assert not desk.asked and not bed.folder.moved
    desk.ready, desk.failing = True, False
    bed.run(lane)
    assert len(bed.folder.moved) == 3


def test_what_is_kept_is_read_back_or_refused() -> None:
    progress = Progress(item="x", parts=2, course=b"c", rows=({"HR": None},))
    assert read_progress(pack_progress(progress)) == progress
    newer = pack_progress(msgspec.structs.replace(progress, schema=99))
    for data, why in (
        (b"", "truncated"), (b"\x93", "Expected"), (pack_progress(progress)[:-1], "truncated"),
        (b"\x01", "Expected"), (newer, "schema 99"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            read_progress(data)
