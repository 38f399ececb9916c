"""What is inside MEDIBUS responses: readings, alarms, settings, texts, the clock, identities.

Pure functions of a response's data (without code and checksum), each None where it is not as it
must be, so that nothing of it is used. Layouts as in `medibus_frames`' sources. Codes are two
hexadecimal digits; what they mean is `medibus_codes`'.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

from firmware_bridge.session import NS_PER_S

READING_CHARS, SETTING_CHARS, ALARM_CHARS, STREAM_CHARS = 6, 7, 15, 23
MAX_PRIORITY = 31
MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAI": 5, "MAY": 5, "JUN": 6, "JUL": 7, "AUG": 8,
    "SEP": 9, "OKT": 10, "OCT": 10, "NOV": 11, "DEZ": 12, "DEC": 12,
}  # fmt: skip
"""German and English."""

_CODE = re.compile(rb"[0-9A-F]{2}")
_NUMBER = re.compile(r" *(-?) *(\d+\.?\d*|\.\d+) *")
_WHOLE = re.compile(r" *([0-9]+) *")
_CLOCK = re.compile(r" *(\d{1,2}):(\d\d)(?::(\d\d))? *(\d{1,2})-([A-Z]{3})-(\d\d)")


@dataclass(frozen=True, slots=True)
class Alarm:
    """`priority` 1 (advisory) to 31 (warning), the alarm's code, and its words."""

    priority: int
    code: int
    phrase: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What a device can send in realtime: each `interval_us` a number 0..`top_count` that stands
    for `low`..`high` in the unit of its code."""

    code: int
    interval_us: int
    low: float
    high: float
    top_count: int

    def value(self, count: int) -> float | None:
        """The value of a reading, None above its range."""
        if count > self.top_count:
            return None
        return count / self.top_count * (self.high - self.low) + self.low


def number(text: str) -> float | None:
    """A number padded with spaces, also after its sign; None for anything else (not available)."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else float(match[1] + match[2])


def readings(data: bytes, width: int = READING_CHARS) -> list[tuple[int, float | None]] | None:
    """Codes and numbers of measured values and limits (`READING_CHARS`) or settings
    (`SETTING_CHARS`), in their order."""
    if len(data) % width:
        return None
    out = []
    for at in range(0, len(data), width):
        if not _CODE.fullmatch(data[at : at + 2]):
            return None
        text = data[at + 2 : at + width].decode("ascii")
        out.append((int(data[at : at + 2], 16), number(text)))
    return out


def alarms(data: bytes) -> list[Alarm] | None:
    """All alarms that are on, n x (priority, code, phrase of 12)."""
    if len(data) % ALARM_CHARS:
        return None
    out = []
    for at in range(0, len(data), ALARM_CHARS):
        priority, code = data[at] - 0x30, data[at + 1 : at + 3]
        if not 0 <= priority <= MAX_PRIORITY or not _CODE.fullmatch(code):
            return None
        phrase = data[at + 3 : at + ALARM_CHARS].decode("ascii").strip()
        out.append(Alarm(priority, int(code, 16), phrase))
    return out


def texts(data: bytes) -> dict[int, str] | None:
    """All texts that are on, by code: n x (code, length + 30H, text, ETX)."""
    out, at = {}, 0
    while at < len(data):
        end = at + 3 + (data[at + 2] - 0x30 if at + 2 < len(data) else -3)
        if end < at + 3 or data[end : end + 1] != b"\x03" or not _CODE.fullmatch(data[at : at + 2]):
            return None
        out[int(data[at : at + 2], 16)] = data[at + 3 : end].decode("ascii")
        at = end + 1
    return out


def clock_ns(data: bytes) -> int | None:
    """The device's date and time, `hh:mm[:ss]dd-MON-yy`, in ns since 1970 as if it were UTC."""
    match = _CLOCK.fullmatch(data.decode("ascii"))
    if match is None or match[5] not in MONTHS:
        return None
    hour, minute, second, day = (int(match[i] or 0) for i in (1, 2, 3, 4))
    year, month = 2000 + int(match[6]), MONTHS[match[5]]
    days = calendar.monthrange(year, month)[1]
    if not (hour < 24 and minute < 60 and second < 60 and 1 <= day <= days):
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) * NS_PER_S


def identity(data: bytes) -> tuple[str, str, str] | None:
    """A device's number (4 characters), name and revision (`device:MEDIBUS`)."""
    match = re.fullmatch(r"(.{4})'([^']*)'(.{0,11})", data.decode("ascii"))
    return None if match is None else (match[1], match[2], match[3].strip())


def streams(data: bytes) -> list[Stream] | None:
    """The realtime configuration, n x (code, interval 8, low 5, high 5, highest count 3 hex). An
    interval is digits alone, 1 us at least: what has no rate is no stream."""
    if len(data) % STREAM_CHARS:
        return None
    out = []
    for at in range(0, len(data), STREAM_CHARS):
        one = data[at : at + STREAM_CHARS].decode("ascii")
        interval, low, high = _WHOLE.fullmatch(one[2:10]), number(one[10:15]), number(one[15:20])
        if not re.fullmatch(r"[0-9A-F]{2}", one[:2]) or not re.fullmatch(
            r" *[0-9A-F]* *", one[20:]
        ):
            return None
        top = int(one[20:].strip() or "0", 16)
        interval_us = 0 if interval is None else int(interval[1])
        if not interval_us or low is None or high is None or top == 0 or high <= low:
            return None
        out.append(Stream(int(one[:2], 16), interval_us, low, high, top))
    return out
