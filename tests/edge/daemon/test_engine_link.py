"""The engine link against real child processes that lie, die, hang, or never start."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge.clock import MonotonicClock
from edge.daemon.engine_link import EngineLink, Reply
from edge.daemon.messages import Answer, Ask, Load, pack_message, unpack_answer
from edge.errors import StartError
from edge.types import Reason

# Each engine adds 1 to x, except when x is 13: then it shows its fault.
ENGINES = """
import os, time
import numpy as np

class Engine:
    backend, precision, threads = "rogue", "fp32", 1
    def __init__(self, fault):
        self.fault = fault
        self.inputs = {"x": np.zeros((1, 4), np.float32)}
        self.outputs = {"y": np.zeros((1, 4), np.float32)}
    def run(self):
        if self.inputs["x"][0, 0] == 13:
            self.fault(self)
        self.outputs["y"][...] = self.inputs["x"] + 1
    def close(self):
        pass

def resize(engine):
    engine.outputs["z"] = np.zeros((1, 3), np.float32)

def dies(*_): return Engine(lambda e: os._exit(7))
def hangs(*_): return Engine(lambda e: time.sleep(60))
def lies(*_): return Engine(resize)
def good(*_): return Engine(lambda e: None)

class Slow(Engine):
    def run(self):
        time.sleep(0.2)
        super().run()

def slow(*_): return Slow(lambda e: None)
"""


def some_onnx() -> bytes:
    """A file that is ONNX at all; the engines here do not look at it."""
    onnx = pytest.importorskip("onnx", reason="the file is made with onnx")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (h.make_tensor_value_info(name, kind, ["N", 4]) for name in "xy")
    graph = h.make_graph([h.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def link_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "rogue_engines.py").write_text(ENGINES)
    monkeypatch.syspath_prepend(str(tmp_path))
    links = []

    def make(kind: str) -> EngineLink:
        load = Load("rogue", f"rogue_engines:{kind}", "fp32", 1, some_onnx())
        links.append(EngineLink(load, deadline_ms=300.0, clock=MonotonicClock()))
        links[-1].open()
        return links[-1]

    yield make
    for link in links:
        link.close()


def polled(link: EngineLink, seconds: float = 5.0) -> list[Reply]:
    """Replies once there are some, or none within `seconds`."""
    limit_s = time.monotonic() + seconds
    while time.monotonic() < limit_s:
        if replies := link.poll():
            return replies
        time.sleep(0.005)
    return []


def wait_ready(link: EngineLink) -> None:
    limit_s = time.monotonic() + 10
    while not link.ready:
        link.poll()
        assert time.monotonic() < limit_s
        time.sleep(0.005)


def ask(link: EngineLink, key: int, value: float) -> None:
    link.submit(key, {"x": np.full((1, 4), value, np.float32)})


@pytest.mark.parametrize("kind", ["dies", "hangs", "lies"])
def test_a_faulty_engine_costs_its_window_and_is_replaced(link_to, kind: str) -> None:
    link = link_to(kind)
    wait_ready(link)
    ask(link, 1, 2.0)
    (good,) = polled(link)
    assert good.outputs is not None
    assert good.outputs["y"].tolist() == [[3.0] * 4]
    ask(link, 2, 13.0)
    (lost,) = polled(link)
    assert (lost.key, lost.outputs) == (2, None)
    assert lost.cause
    wait_ready(link)
    ask(link, 3, 4.0)
    (again,) = polled(link)
    assert again.outputs is not None
    assert again.outputs["y"][0, 0] == 5.0
    assert link.starts == 2


def test_control_a_good_engine_is_not_replaced(link_to) -> None:
    link = link_to("good")
    wait_ready(link)
    for key in range(50):
        ask(link, key, float(key))
        (reply,) = polled(link)
        assert reply.key == key
        assert reply.outputs is not None
    assert link.starts == 1


def test_waiting_for_others_is_not_being_late(link_to) -> None:
    """Each answer takes 0.2 s of the 0.3 s that it may; the third one is there after 0.6 s."""
    link = link_to("slow")
    wait_ready(link)
    for key in range(3):
        ask(link, key, 1.0)
    replies: list[Reply] = []
    while len(replies) < 3:
        replies += polled(link)
    assert [r.outputs is not None for r in replies] == [True] * 3
    assert link.starts == 1
    assert replies[2].replied_ns - replies[2].submitted_ns > 0.5e9


def test_an_answer_that_is_none_is_nonsense() -> None:
    good = pack_message(7, 9, Answer(reason=Reason.STALE, steps=3, course=b"x"))
    assert unpack_answer(memoryview(good)) == (
        7, 9, Answer(reason=Reason.STALE, steps=3, course=b"x"),
    )  # fmt: skip
    for wrong in (b"", good[:10], good[:-1], good + b"x", pack_message(7, 9, Ask(b"x"))[:-1]):
        with pytest.raises(ValueError, match=r"\w"):
            unpack_answer(memoryview(wrong))


def test_before_it_is_ready_there_is_no_answer(link_to) -> None:
    link = link_to("good")
    ask(link, 1, 2.0)
    (lost,) = link.poll()
    assert "starting" in lost.cause


def test_an_engine_that_cannot_open_stops_the_start(link_to) -> None:
    link = link_to("missing")
    with pytest.raises(StartError, match="missing"):
        wait_ready(link)
