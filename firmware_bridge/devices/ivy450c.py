"""Ivy Biomedical 450C vital signs monitor, its "ANSAR-B" output, as far as one capture shows.

No public document is known. The layout is that of a real capture of 28 seconds (public repository
`mdpnp`, BSD-2, with the reader `AnsarB.java` beside it), 9600 8N1, one message a second:

    FF | "ANSAR-B " | 200 ECG | 50 breathing | 50 pleth | 50 P1 | 50 P2 | lines | FE

Wave bytes are 0..250; 251 fills a wave without a sensor. A line is `NAME=n;v1;..;vn;label;alarm`
and a CR; a blank value is not available. Read here: HR, RR, SPO2 (with PR in its label), NIBP (sys,
dia, mean, pulse), P1 (sys, dia, mean), whole numbers only. The rates 200 and 50 Hz are certain:
the beats in the waves come at the HR, the breaths at the RR that the lines say.

Not claimed: ETCO2, T1 and T2 (blank in the capture, so their unit is not known), P2 (a second
pressure, nothing says of what), the scale of all waves (they are counts, unit 1, also where P1
follows its numbers one to one). NIBP carries no time: it is told when it changes, and the first one
as questionable, because its age is unknown. A label other than the usual one of its line is passed
on as a technical alert, an alarm field as an alert of unknown kind: the capture holds no alarm.

There is no checksum. A message is trusted when its nine fixed bytes, every wave byte and every line
(known name, its number of fields, digits where digits belong) are right, HR first: random bytes
pass less than once in 2^72 positions. Damage that turns a digit into a digit cannot be seen.
Messages carry no number: bytes skipped between two count as the messages that would fill them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.framing import Stepping
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import listening
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Device,
    Feed,
    Priority,
    SampleBlock,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WIRE = Wire(9600)
SILENT_S = 2.5
HEAD = b"\xffANSAR-B "
END = 0xFE
ECG_BYTES = 200
SLOW_BYTES = 50
WAVES_END = len(HEAD) + ECG_BYTES + 4 * SLOW_BYTES
MAX_TEXT_BYTES = 512
NO_SENSOR = 251
ECG_HZ, SLOW_HZ = 200.0, 50.0

VALUES = {"HR": 1, "RR": 1, "ETCO2": 1, "SPO2": 1, "NIBP": 4, "P1": 3, "P2": 3, "T1": 1, "T2": 1}
"""The lines there are, and how many values each has."""

CHANNELS = {
    "HR": ("MDC_ECG_HEART_RATE",),
    "RR": ("MDC_RESP_RATE",),
    "SPO2": ("MDC_PULS_OXIM_SAT_O2",),
    "NIBP": (
        "MDC_PRESS_BLD_NONINV_SYS",
        "MDC_PRESS_BLD_NONINV_DIA",
        "MDC_PRESS_BLD_NONINV_MEAN",
        "MDC_PULS_RATE",
    ),
    "P1": ("MDC_PRESS_BLD_SYS", "MDC_PRESS_BLD_DIA", "MDC_PRESS_BLD_MEAN"),
}
PULSE = "MDC_PULS_OXIM_PULS_RATE"
USUAL_LABEL = {
    "HR": re.compile(r"ECG-.+"),
    "RR": re.compile(r"(APNEA: \d+ SEC)?"),
    "SPO2": re.compile(r"(PR=\d* *)?"),
    "NIBP": re.compile(""),
    "P1": re.compile(""),
}
ECG_FEED = Feed("ecg", ("MDC_ECG_ELEC_POTL",), ECG_HZ, "1", 1.0, 0.0, 250.0)
SLOW_FEED = Feed(
    "slow", ("MDC_RESP", "MDC_PULS_OXIM_PLETH", "MDC_PRESS_BLD", ""), SLOW_HZ, "1", 1.0, 0.0, 250.0
)

_LINE = re.compile(r"([A-Z0-9]+)=(\d)((?:;[^;]*)+)")
_VALUE = re.compile(r" *\d{0,3}(\.\d{1,2})? *")


def encode(waves: NDArray[np.uint8], lines: Mapping[str, tuple[list[str], str, str]]) -> bytes:
    """One message of wave bytes `[400]` and, by name, the values, label and alarm of its lines."""
    text = "".join(
        f"{name}={len(values)};{';'.join(values)};{label};{alarm}\r"
        for name, (values, label, alarm) in lines.items()
    )
    return HEAD + waves.tobytes() + text.encode("ascii") + bytes([END])


def parse_lines(text: bytes) -> dict[str, tuple[list[str], str, str]] | None:
    """Values, label and alarm of each line by name; None unless all of them are as they must be."""
    if not text.endswith(b"\r") or not text.isascii():
        return None
    out: dict[str, tuple[list[str], str, str]] = {}
    for line in text[:-1].decode("ascii").split("\r"):
        match = _LINE.fullmatch(line)
        if match is None or not line.isprintable():
            return None
        name, count, fields = match[1], int(match[2]), match[3][1:].split(";")
        if VALUES.get(name) != count or len(fields) != count + 2 or name in out:
            return None
        if not all(_VALUE.fullmatch(value) for value in fields[:count]):
            return None
        out[name] = (fields[:count], fields[-2], fields[-1])
    return out if next(iter(out)) == "HR" else None


class Decoder(Stepping):
    """Bytes in, `SampleBlock`, `Numeric` and `Alert` out; see the module for what is trusted.

    Holds back at most one message.
    """

    def __init__(self) -> None:
        super().__init__()
        self._messages = 0  # that were or would have been, so far
        self._size = 0  # of the last one
        self._nibp: list[str] | None = None
        self._alerts: dict[str, Alert] = {}

    def _step(self, buffer: bytes, at: int) -> int:
        if buffer[at] != HEAD[0]:
            found = buffer.find(HEAD[0], at)
            return self._skip((found if found >= 0 else len(buffer)) - at)
        if not HEAD.startswith(buffer[at : at + len(HEAD)]):
            return self._reject("header")
        start, limit = at + WAVES_END, at + WAVES_END + MAX_TEXT_BYTES
        end = buffer.find(END, start, limit)
        if end < 0:
            return 0 if len(buffer) < limit else self._reject("length")
        waves = np.frombuffer(buffer, np.uint8, WAVES_END - len(HEAD), at + len(HEAD))
        if waves.max() > NO_SENSOR:
            return self._reject("wave")
        lines = parse_lines(buffer[start:end])
        if lines is None:
            return self._reject("line")
        self._accept(waves, lines, end + 1 - at)
        return end + 1 - at

    def _accept(
        self, waves: NDArray[np.uint8], lines: Mapping[str, tuple[list[str], str, str]], size: int
    ) -> None:
        lost = round(self._since / self._size) if self._size else 0
        self._tally["resyncs"] += self._size > 0 and self._since > 0
        self._tally["frames"] += 1
        self._tally["lost"] += lost
        self._messages += lost
        self._size, self._since = size, 0
        self._give_waves(waves, lost)
        for name, channels in CHANNELS.items():
            values, label, alarm = lines.get(name, ([""] * VALUES[name], "", ""))
            self._give_values(name, channels, values, label)
            self._give_alerts(name, label, alarm)
        self._messages += 1

    def _give_waves(self, waves: NDArray[np.uint8], lost: int) -> None:
        samples = waves.astype(np.float32)
        samples[waves == NO_SENSOR] = np.nan
        ecg = samples[:ECG_BYTES].reshape(-1, 1)
        slow = samples[ECG_BYTES:].reshape(4, SLOW_BYTES).T
        for feed, block in ((ECG_FEED, ecg), (SLOW_FEED, np.ascontiguousarray(slow))):
            n = len(block)
            self._out.append(
                SampleBlock(self._messages * n, lost * n, feed.rate_hz, "1", block, feed.name)
            )

    def _give_values(
        self, name: str, channels: tuple[str, ...], values: list[str], label: str
    ) -> None:
        trust = Validity.VALID
        if name == "NIBP":
            if values == self._nibp:
                return
            trust = Validity.QUESTIONABLE if self._nibp is None else Validity.VALID
            self._nibp = values
        elif name == "HR" and not label.startswith("ECG-"):
            trust = Validity.QUESTIONABLE  # a rate of something else, or a lead is off
        elif name == "SPO2":
            values = [*values, label[3:] if label.startswith("PR=") else ""]
            channels = (*channels, PULSE)
        for channel, value in zip(channels, values):
            self._out.append(
                numeric(channel, _whole(value), trust if value.strip() else Validity.UNAVAILABLE)
            )

    def _give_alerts(self, name: str, label: str, alarm: str) -> None:
        """What the line says besides its values, when it begins and when it ends."""
        unusual = "" if USUAL_LABEL[name].fullmatch(label) else label.strip()
        channel = CHANNELS[name][0]
        for key, text, kind, priority in (
            (f"{name} label", unusual, AlertKind.TECHNICAL, Priority.LOW),
            (f"{name} alarm", alarm.strip(), AlertKind.OTHER, Priority.MEDIUM),
        ):
            before = self._alerts.get(key)
            if before is not None and before.text != text:
                self._out.append(
                    Alert(before.code, before.kind, before.priority, False, before.text, channel)
                )
                del self._alerts[key]
            if text and key not in self._alerts:
                code = f"ivy-450c:{name} {text}"
                self._alerts[key] = Alert(code, kind, priority, True, text, channel)
                self._out.append(self._alerts[key])

    def _reject(self, reason: str) -> int:
        self._rejects[reason] += 1
        return self._skip(1)


def _whole(value: str) -> float | None:
    """A whole number; None for anything else, a decimal included: its unit would be another."""
    return float(value) if value.strip().isdigit() else None


DEVICE = Device(
    name="ivy-450c",
    title="Ivy Biomedical 450C",
    spec='a capture of its "ANSAR-B" output; no document',
    wire=WIRE,
    dialogue=listening(SILENT_S),
    decoder=Decoder,
    feeds=(ECG_FEED, SLOW_FEED),
    numerics=(*(c for channels in CHANNELS.values() for c in channels), PULSE),
    sure_frames=2,
    proved_by="27 seconds captured from a real monitor",
    unproved="alarms, leads off, ETCO2, T1, T2, P2, the scale of the waves: not in the capture",
)
