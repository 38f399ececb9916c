"""The configuration: TOML decoded strictly into frozen structs; an unknown key fails at any level.

Owns the file's shape and its error messages, not what a source or sink does: each registered
factory carries its own `Options` struct, decoded just as strictly.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Optional, get_args

import msgspec

from edge.errors import StartError
from edge.registry import load as load_target
from edge.registry import resolve
from firmware_bridge.registry import nearest_first

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
ITEM = r"\[.*?\]"
"""In msgspec's paths: which entry of a list."""
WIRED = ("bundle", "bed")
"""Keys of a source that are no option of its kind."""
PLUGIN_TABLES = ("sources", "sinks", "preprocess", "engines", "devices")

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unknown keys are refused."""


class BundleOptions(Strict, frozen=True, kw_only=True):
    """One bundle to run. `path`: directory, zip, or the name of an installed or reference one. The
    configuration speaks of it by its `id`: without one, the last part of its path. `deadline_ms`
    takes the place of the engine's for answers that take longer, or less."""

    path: str
    id: str = ""
    trusted_keys: tuple[str, ...] = ()
    deadline_ms: Optional[Positive] = None


class EngineOptions(Strict, frozen=True, kw_only=True):
    """Each bundle's engine child. No reply within `deadline_ms`: it is killed, another started."""

    deadline_ms: Positive = 500.0
    threads: int = 1


class ChainOptions(Strict, frozen=True, kw_only=True):
    """What one bundle finds becomes the text that another one is asked: their ids."""

    from_: str = msgspec.field(name="from")
    to: str


class Document(Strict, frozen=True, kw_only=True):
    """The whole file, sources and sinks still undecoded."""

    schema: int
    bed: str
    state_dir: str
    bundles: list[BundleOptions]
    engine: EngineOptions = EngineOptions()
    chain: list[ChainOptions] = []
    sources: list[dict[str, Any]]
    sinks: list[dict[str, Any]] = []
    plugins: dict[str, dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """A source or sink: its registered kind, its factory, and its decoded options. A source feeds
    the bundle of an id, or none, and speaks of a bed; to a sink they mean nothing."""

    kind: str
    factory: Any
    options: Any
    bundle: str = ""
    bed: str = ""

    @property
    def name(self) -> str:
        """What it is called in results: its option `name`."""
        return str(getattr(self.options, "name", self.kind))

    def build(self) -> Any:
        """A new instance; opening it is the caller's."""
        return self.factory(self.options)


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration. Relative paths count from the file's folder."""

    path: Path
    bed: str
    state_dir: Path
    bundles: tuple[BundleOptions, ...]
    engine: EngineOptions
    chain: tuple[ChainOptions, ...]
    sources: tuple[Part, ...]
    sinks: tuple[Part, ...]
    plugins: dict[str, dict[str, str]]


def load(path: str | Path) -> Config:
    """Read and check a configuration file. Raises `StartError` with the cause and the fix."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"cannot read configuration '{file}' ({error})", "name a TOML file"
        ) from None
    return parse(text, file)


def parse(text: str, file: Path) -> Config:
    """Decode TOML `text`; `file` is for messages and for resolving relative paths."""
    try:
        tree = tomllib.loads(text, parse_float=_finite)
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"{file}: not TOML ({error})", "correct the line named") from None
    except OverflowError as error:
        raise StartError(f"{file}: {error}", "write a number") from None
    document = convert(tree, Document, f"{file}")
    _check(document, file)
    config = Config(
        path=file,
        bed=document.bed,
        state_dir=_beside(file, document.state_dir),
        bundles=tuple(_with_paths(bundle, file) for bundle in document.bundles),
        engine=document.engine,
        chain=tuple(document.chain),
        sources=_sources(document, file),
        sinks=_parts(document, "sinks", document.sinks, file),
        plugins=document.plugins,
    )
    _check_wiring(config)
    return config


def _finite(text: str) -> float:
    """No setting is infinite or no number."""
    value = float(text)
    if not math.isfinite(value):
        raise OverflowError(f"'{text}' is no value of a setting")
    return value


def _check(document: Document, file: Path) -> None:
    if document.schema > SCHEMA:
        raise StartError(f"{file}: schema {document.schema} is newer than {SCHEMA}", "update medge")
    for name, entries in (("bundles", document.bundles), ("sources", document.sources)):
        if not entries:
            raise StartError(f"{file}: none of the {name}", f"add a [[{name}]] table")
    for table in document.plugins:
        if table not in PLUGIN_TABLES:
            known = ", ".join(nearest_first(table, PLUGIN_TABLES))
            raise StartError(f"{file}: unknown plugin table '{table}'", f"use one of: {known}")


def _check_wiring(config: Config) -> None:
    """Every id is known, every bundle fed, every name said once, and no chain comes back."""
    ids = [bundle.id for bundle in config.bundles]
    _require_once(config, "bundle", ids, "give each an id of its own")
    names = [part.name for part in config.sources]
    _require_once(config, "source", names, "give each a name of its own")
    feeding = [part for part in config.sources if part.bundle]
    for part in feeding:
        _require_known(config, part.bundle, f"source '{part.name}'", ids)
    links = [f"{link.from_} > {link.to}" for link in config.chain]
    _require_once(config, "chain", links, "leave one of them out")
    for link in config.chain:
        for end in (link.from_, link.to):
            _require_known(config, end, "[[chain]]", ids)
        if link.from_ in _after(config, link.to):
            raise StartError(
                f"{config.path}: the chain comes back to '{link.from_}'", "leave one step out"
            )
    fed = {part.bundle for part in feeding}
    for idle in [i for i in ids if not any(i in _after(config, start) for start in fed)]:
        or_else = ", or leave the bundle out" if len(ids) > 1 else ""
        raise StartError(
            f"{config.path}: nothing feeds bundle '{idle}'",
            f'add a source with bundle = "{idle}"{or_else}',
        )


def _after(config: Config, start: str) -> set[str]:
    """The bundle `start`, and those that chains lead to from it."""
    found, fresh = {start}, [start]
    while fresh:
        at = fresh.pop()
        following = {link.to for link in config.chain if link.from_ == at} - found
        found |= following
        fresh += following
    return found


def _require_once(config: Config, what: str, names: list[str], fix: str) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise StartError(f"{config.path}: two {what}s are called '{name}'", fix)


def _require_known(config: Config, name: str, where: str, known: list[str]) -> None:
    if name not in known:
        named = ", ".join(nearest_first(name, known))
        raise StartError(f"{config.path}: {where}: no bundle '{name}'", f"use one of: {named}")


def table(name: str, plugins: dict[str, dict[str, str]]) -> dict[str, str]:
    """The registry `name` with the operator's plugins added; his names may not shadow ours."""
    module = {
        "sources": "edge.sources:SOURCES",
        "sinks": "edge.sinks:SINKS",
        "preprocess": "edge.pipeline.preprocess:STEPS",
        "engines": "edge.engines:ENGINES",
        "devices": "firmware_bridge.devices:DEVICES",
    }[name]
    known: dict[str, str] = dict(load_target(module, f"registry {name}"))
    for plugin, target in plugins.get(name, {}).items():
        if plugin in known:
            raise StartError(f"plugin {name}.{plugin} shadows a built-in", "choose another name")
        known[plugin] = target
    return known


def _parts(
    document: Document, name: str, entries: list[dict[str, Any]], file: Path
) -> tuple[Part, ...]:
    known, parts = table(name, document.plugins), []
    for i, entry in enumerate(entries):
        part = _part(known, name, dict(entry), f"{file}: [[{name}]] {i + 1}", file)
        device = document.plugins.get("devices", {}).get(getattr(part.options, "device", ""))
        if device is not None:  # the operator's own: known to the source as "module:attr"
            part = replace(part, options=msgspec.structs.replace(part.options, device=device))
        parts.append(part)
    return tuple(parts)


def _sources(document: Document, file: Path) -> tuple[Part, ...]:
    """Which bundle each feeds may be left out where there is just one, its bed always."""
    entries = [{k: x for k, x in entry.items() if k not in WIRED} for entry in document.sources]
    parts = _parts(document, "sources", entries, file)
    wired = []
    for i, (part, entry) in enumerate(zip(parts, document.sources)):
        where = f"{file}: [[sources]] {i + 1}"
        bundle, bed = _fed(part, entry, document, where), entry.get("bed", document.bed)
        if not isinstance(bed, str):
            raise StartError(f"{where}: its bed is no text", "name the bed in quotes")
        wired.append(replace(part, bundle=bundle, bed=bed))
    return tuple(wired)


def _fed(part: Part, entry: dict[str, Any], document: Document, where: str) -> str:
    """The id of the bundle that a source feeds, empty of one that feeds none."""
    bundle, known = entry.get("bundle"), [_id(each) for each in document.bundles]
    if getattr(part.factory, "GIVES", "") is None:
        if bundle is not None:
            raise StartError(f"{where}: a {part.kind} feeds no bundle", "leave bundle out")
        return ""
    if bundle is None and len(known) == 1:
        return known[0]
    if not isinstance(bundle, str):
        raise StartError(
            f"{where}: it must say which bundle it feeds, as a text",
            f"add bundle = one of: {', '.join(known)}",
        )
    return bundle


def _part(
    known: dict[str, str],
    name: str,
    entry: dict[str, Any],
    where: str,
    file: Path,
) -> Part:
    kind = entry.pop("kind", None)
    if not isinstance(kind, str):
        raise StartError(f"{where}: no kind", f"add kind = one of: {', '.join(known)}")
    factory = resolve(known, kind, f"{name[:-1]} kind")
    also = ("kind", *WIRED) if name == "sources" else ("kind",)
    options = convert(entry, factory.Options, f"{where} ({kind})", also)
    for field in (f for f in getattr(factory, "PATHS", ()) if getattr(options, f)):
        options = msgspec.structs.replace(
            options, **{field: str(_beside(file, getattr(options, field)))}
        )
    return Part(kind, factory, options)


def _with_paths(bundle: BundleOptions, file: Path) -> BundleOptions:
    """Keys always are paths; a bundle is one when it says so with a separator or exists."""
    keys = tuple(str(_beside(file, key)) for key in bundle.trusted_keys)
    beside = _beside(file, bundle.path)
    path = str(beside) if beside.exists() else bundle.path
    return msgspec.structs.replace(bundle, path=path, trusted_keys=keys, id=_id(bundle))


def _id(bundle: BundleOptions) -> str:
    return bundle.id or Path(bundle.path).name.removesuffix(".zip")


def _beside(file: Path, path: str) -> Path:
    return file.parent / Path(path).expanduser()


def convert(tree: Any, kind: Any, where: str, also: tuple[str, ...] = ()) -> Any:
    """Decode `tree` strictly into `kind`; `also` are keys that were taken out of it before. Raises
    `StartError` naming the key and the nearest."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), kind, where, also) from None


def _explain(message: str, kind: Any, where: str, also: tuple[str, ...]) -> StartError:
    unknown = re.match(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", message)
    if unknown is None:
        return StartError(f"{where}: {message}", "correct the value")
    key, at = unknown.group(1), unknown.group(2) or ""
    known = nearest_first(key, (*_fields(kind, at), *also))
    place = f" in [{re.sub(ITEM, '', at)}]" if at else ""
    return StartError(f"{where}: unknown key '{key}'{place}", f"did you mean '{known[0]}'?")


def _fields(kind: Any, at: str) -> tuple[str, ...]:
    for part in filter(None, re.sub(ITEM, "", at).split(".")):
        kind = next(f.type for f in msgspec.structs.fields(kind) if f.encode_name == part)
        kind = next(iter(get_args(kind)), kind)
    return tuple(kind.__struct_encode_fields__)
