"""The configuration: TOML decoded strictly into frozen structs; an unknown key fails at any level.

Owns the file's shape and its error messages, not what a source or sink does: each registered
factory carries its own `Options` struct, decoded just as strictly.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import StartError
from edge.registry import load as load_target
from edge.registry import nearest_first, resolve

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
PLUGIN_TABLES = ("sources", "sinks", "preprocess", "engines", "devices")


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unknown keys are refused."""


class BundleOptions(Strict, frozen=True, kw_only=True):
    """Which bundle to run. `path`: directory, zip, or the name of an installed or reference one."""

    path: str
    trusted_keys: tuple[str, ...] = ()


class EngineOptions(Strict, frozen=True, kw_only=True):
    """The engine child. No reply within `deadline_ms`: it is killed, a new one is started."""

    deadline_ms: float = 500.0
    threads: int = 1


class Document(Strict, frozen=True, kw_only=True):
    """The whole file, sources and sinks still undecoded."""

    schema: int
    bed: str
    state_dir: str
    bundle: BundleOptions
    engine: EngineOptions = EngineOptions()
    sources: list[dict[str, Any]]
    sinks: list[dict[str, Any]] = []
    plugins: dict[str, dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """A source or sink: its registered kind, its factory, and its decoded options."""

    kind: str
    factory: Any
    options: Any

    def build(self) -> Any:
        """A new instance; opening it is the caller's."""
        return self.factory(self.options)


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration. Relative paths count from the file's folder."""

    path: Path
    bed: str
    state_dir: Path
    bundle: BundleOptions
    engine: EngineOptions
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
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"{file}: not TOML ({error})", "correct the line named") from None
    document = convert(tree, Document, f"{file}")
    _check(document, file)
    return Config(
        path=file,
        bed=document.bed,
        state_dir=_beside(file, document.state_dir),
        bundle=_with_paths(document.bundle, file),
        engine=document.engine,
        sources=_parts(document, "sources", document.sources, file),
        sinks=_parts(document, "sinks", document.sinks, file),
        plugins=document.plugins,
    )


def _check(document: Document, file: Path) -> None:
    if document.schema > SCHEMA:
        raise StartError(f"{file}: schema {document.schema} is newer than {SCHEMA}", "update medge")
    if not document.sources:
        raise StartError(f"{file}: no source", "add a [[sources]] table")
    for table in document.plugins:
        if table not in PLUGIN_TABLES:
            known = ", ".join(nearest_first(table, PLUGIN_TABLES))
            raise StartError(f"{file}: unknown plugin table '{table}'", f"use one of: {known}")


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
    options = convert(entry, factory.Options, f"{where} ({kind})")
    for field in getattr(factory, "PATHS", ()):
        options = msgspec.structs.replace(
            options, **{field: str(_beside(file, getattr(options, field)))}
        )
    return Part(kind, factory, options)


def _with_paths(bundle: BundleOptions, file: Path) -> BundleOptions:
    """Keys always are paths; a bundle is one when it says so with a separator or exists."""
    keys = tuple(str(_beside(file, key)) for key in bundle.trusted_keys)
    beside = _beside(file, bundle.path)
    path = str(beside) if beside.exists() else bundle.path
    return BundleOptions(path=path, trusted_keys=keys)


def _beside(file: Path, path: str) -> Path:
    return file.parent / Path(path).expanduser()


def convert(tree: Any, kind: Any, where: str) -> Any:
    """Decode `tree` strictly into `kind`. Raises `StartError` naming the key and the nearest."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), kind, where) from None


def _explain(message: str, kind: Any, where: str) -> StartError:
    unknown = re.match(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", message)
    if unknown is None:
        return StartError(f"{where}: {message}", "correct the value")
    key, at = unknown.group(1), unknown.group(2) or ""
    known = nearest_first(key, _fields(kind, at))
    place = f" in [{at}]" if at else ""
    return StartError(f"{where}: unknown key '{key}'{place}", f"did you mean '{known[0]}'?")


def _fields(kind: Any, at: str) -> tuple[str, ...]:
    for part in filter(None, re.sub(r"\[.*?\]", "", at).split(".")):
        kind = next(f.type for f in msgspec.structs.fields(kind) if f.encode_name == part)
    return tuple(kind.__struct_fields__)
