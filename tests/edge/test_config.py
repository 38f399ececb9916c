"""An unknown key fails at every level, with the nearest known key; plugins extend, never shadow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.config import Config, load, parse
from edge.errors import StartError

GOOD = """
schema = 1
bed = "icu-3"
state_dir = "state"

[[bundles]]
path = "ecg-beat"

[engine]
deadline_ms = 300.0

[[sources]]
kind = "monitor"
device = "cyton"
port = "/dev/ttyUSB0"
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "mV"

[[sinks]]
kind = "jsonl"
path = "out.jsonl"
"""


TWO = f"""{GOOD}
[[bundles]]
path = "./other.zip"
id = "words"

[[bundles]]
path = "advice.zip"

[[chain]]
from = "words"
to = "advice"

[[sources]]
kind = "synthetic"
bundle = "words"
bed = "icu-4"
""".replace('kind = "monitor"', 'kind = "monitor"\nbundle = "ecg-beat"')


def parsed(text: str, folder: Path = Path("/etc/medge")) -> Config:
    return parse(text, folder / "bedside.toml")


def test_the_good_one_is_good() -> None:
    config = parsed(GOOD)
    assert config.bed == "icu-3"
    assert config.state_dir == Path("/etc/medge/state")
    assert [(b.id, b.path) for b in config.bundles] == [("ecg-beat", "ecg-beat")]
    assert (config.sources[0].bundle, config.sources[0].bed) == ("ecg-beat", "icu-3")
    assert config.sinks[0].options.path == "/etc/medge/out.jsonl"
    assert config.sources[0].options.channel == 1


@pytest.mark.parametrize(
    ("anchor", "line", "nearest"),
    [
        ("schema = 1", "bedd = 1", "bed"),
        ("[[bundles]]", "pathh = 'x'", "path"),
        ("[engine]", "deadline = 1.0", "deadline_ms"),
        ("[[chain]]", "too = 'x'", "to"),
        ('kind = "monitor"', "devise = 'x'", "device"),
        ('kind = "synthetic"', "bundel = 'x'", "bundle"),
        ('kind = "synthetic"', "bad = 'x'", "bed"),
        ('kind = "jsonl"', "paths = 'x'", "path"),
    ],
)
def test_unknown_key_at_every_level(anchor: str, line: str, nearest: str) -> None:
    with pytest.raises(StartError) as caught:
        parsed(TWO.replace(anchor, f"{anchor}\n{line}", 1))
    key = line.split()[0]
    assert f"unknown key '{key}'" in caught.value.cause
    assert nearest in caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("schema = 1", "schema = 99", "newer"),
        ('kind = "monitor"', 'kind = "moniter"', "monitor"),
        ('kind = "monitor"', "", "no kind"),
        ('bed = "icu-3"', "bed = 3", "bed"),
        ('bed = "icu-3"', "bed = ", "not TOML"),
        ("[[sources]]", "[[sinks]]", "sources"),
        ("schema = 1", "schema = 1e999", "'1e999' is no value of a setting; write a number"),
        ('kind = "monitor"', 'kind = "monitor"\nrate_hz = nan', "'nan' is no value"),
        ('kind = "monitor"', 'kind = "monitor"\nrate_hz = -250', "`float` >= 0.0"),
        ('kind = "monitor"', 'kind = "vitals"\ndue_s = -1', "`float` >= 0.0"),
    ],
)
def test_wrong_values_say_what_to_do(before: str, after: str, words: str) -> None:
    with pytest.raises(StartError) as caught:
        parsed(GOOD.replace(before, after))
    assert words in str(caught.value)


def test_several_bundles_are_told_apart() -> None:
    config = parsed(TWO)
    assert [bundle.id for bundle in config.bundles] == ["ecg-beat", "words", "advice"]
    assert [(s.bundle, s.bed) for s in config.sources] == [
        ("ecg-beat", "icu-3"), ("words", "icu-4"),
    ]  # fmt: skip
    assert [(link.from_, link.to) for link in config.chain] == [("words", "advice")]


BACK = '[[chain]]\nfrom = "advice"\nto = "words"\n[[sources]]\nbundle = "words"\nkind = "synthetic"'


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('bundle = "words"', 'bundle = "word"', "no bundle 'word'; use one of: words"),
        ('bundle = "words"', "", "which bundle it feeds"),
        ('bundle = "words"', "bundle = 3", "which bundle it feeds"),
        ('bed = "icu-4"', "bed = 4", "its bed is no text"),
        ('kind = "synthetic"', 'kind = "device"\nport = "x"', "feeds no bundle; leave bundle out"),
        ('bundle = "words"', 'bundle = "ecg-beat"', "nothing feeds bundle 'words'"),
        ('to = "advice"', 'to = "advise"', "no bundle 'advise'; use one of: advice"),
        ('to = "advice"', 'to = "words"', "comes back to 'words'"),
        ("[[sources]]", f"{BACK}\nname = 'x'\n[[sources]]", "comes back"),
        ("[[chain]]", '[[chain]]\nfrom = "words"\nto = "advice"\n[[chain]]', "two chains are"),
        ("[[bundles]]", "[bundle]\npath = 'x'\n[[bundles]]", "did you mean 'bundles'"),
        ('id = "words"', 'id = "advice"', "two bundles are called 'advice'"),
        ('bed = "icu-4"', 'name = "monitor"', "two sources are called 'monitor'"),
    ],
)
def test_what_does_not_fit_together_is_refused(before: str, after: str, words: str) -> None:
    with pytest.raises(StartError) as caught:
        parsed(TWO.replace(before, after, 1))
    assert words in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(StartError, match="cannot read"):
        load("/nowhere/bedside.toml")


PLUGIN = """
import msgspec

class Sink:
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        colour: str
    def __init__(self, options):
        self.options = options
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "ward_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ward_plugin", raising=False)
    return (
        '\n[[sinks]]\nkind = "mine"\ncolour = "red"\n\n[plugins]\nsinks.mine = "ward_plugin:Sink"\n'
    )


def test_plugin_sink_with_its_own_strict_options(plugin: str) -> None:
    assert parsed(GOOD + plugin).sinks[1].build().options.colour == "red"
    with pytest.raises(StartError, match="unknown key 'color'"):
        parsed(GOOD + plugin.replace("colour =", "color ="))


def test_plugin_may_not_shadow(plugin: str) -> None:
    with pytest.raises(StartError, match="shadows"):
        parsed(GOOD + plugin.replace("mine", "jsonl"))
    with pytest.raises(StartError, match="unknown plugin table"):
        parsed(GOOD + plugin.replace("sinks.mine", "sinkz.mine"))
