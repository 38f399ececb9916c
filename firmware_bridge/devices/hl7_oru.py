"""Monitors and gateways that report by HL7 v2 ORU^R01 over MLLP: they connect and send.

Implements HL7 v2.6 chapters 2 (MSH, ACK) and 7 (ORU, OBX), IHE PCD Technical Framework volume 2,
PCD-01 "Communicate PCD Data" (OBX-3 by MDC code, OBX-11, OBX-14). Mindray's gateways speak this
profile; observations under a vendor's own codes are counted as `unknown code`, never guessed.

Each message is answered at once: AA when it was understood, AR for another kind of message, AE for
one that cannot be read. A message sent again (same MSH-10, of the same time) is acknowledged again
and not taken twice.

One link is one bed: the one that it was made for (`at`, PV1-3), else the first that is heard, also
after a loss. A gateway that reports others as well is answered and their values are not taken; nor
are those of a message that names several, or not the patient (PID-3) or the bed that is known.
`ANOTHER_FOR` messages in a row of another patient in this very bed are a new patient, with whom the
link begins anew; where no bed is named nobody can tell, and none follows. Of both fields only a
hash is kept.

What is not of now or not of a patient is QUESTIONABLE: any MSH-11 but P (debugging, training,
archives), what was observed `OLD_S` or more before it was sent (a queue after an outage; a cuff
pressure: 30 min), and by OBX-8 what the sender doubts, demonstrates, or marks by what we do not
know.
"""

from __future__ import annotations

import calendar
import re
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.freshness import EPISODIC_S
from firmware_bridge.mllp import Unframer, framed
from firmware_bridge.nomenclature import TERMS, UNITS, WITH_NUMBER, numeric
from firmware_bridge.session import NS_PER_S, Event, listening
from firmware_bridge.types import Another, Counters, Device, Message, Send, Sign, Validity, Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_S = 120.0  # gateways send once a minute, some every second
REMEMBERED = 64
MAX_CONTROL_CHARS = 199
NOT_AVAILABLE = 8388607  # IEEE 11073 NaN of a FLOAT, as some gateways print it

VALIDITIES = {  # OBX-11, HL7 table 0085
    "R": Validity.VALID,  # entered, not verified: what every monitor sends
    "F": Validity.VALID,
    "C": Validity.VALID,
    "P": Validity.QUESTIONABLE,
    "S": Validity.QUESTIONABLE,
    "": Validity.VALID,
}
"""Every other status, X (cannot be obtained) first, means that there is no value."""

FLAGS = {  # OBX-8: HL7 table 0078 (and alarms), the null flavors and states of IHE PCD
    **dict.fromkeys(("N", "A", "AA", "L", "LL", "H", "HH", "U", "D", "B", "W"), Validity.VALID),
    **dict.fromkeys(("S", "R", "I", "SP", "ST", "SA", "PH", "PM", "PL", "PN"), Validity.VALID),
    **dict.fromkeys(("NI", "NA", "NAV", "OFF", "MSK", "OTH", "NAN"), Validity.UNAVAILABLE),
    **dict.fromkeys(("INV", "TEST", "CAL", "CALIB"), Validity.INVALID),
    **dict.fromkeys((">", "PINF"), Validity.OVER),
    **dict.fromkeys(("<", "NINF"), Validity.UNDER),
}
"""All others are doubts."""

OLD_S = 120.0
ANOTHER_FOR = 8  # messages
WHOSE = ("PID", "PV1")

_BY_CODE = {str(term.code): name for name, term in TERMS.items() if term.code is not None}
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?(?:\.(\d{1,4}))?([+-]\d{4})?")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?|[+-]?\.\d+")

NUMERICS = (
    "MDC_ECG_HEART_RATE",
    "MDC_PULS_OXIM_PULS_RATE",
    "MDC_PULS_OXIM_SAT_O2",
    "MDC_PRESS_BLD_NONINV_SYS",
    "MDC_PRESS_BLD_NONINV_DIA",
    "MDC_PRESS_BLD_NONINV_MEAN",
    "MDC_RESP_RATE",
    "MDC_TEMP",
)
"""What the emulator and every multi-parameter monitor send; other known codes are taken too."""


@dataclass(frozen=True, slots=True)
class Header:
    """What MSH says of all values: when they were sent, the zone of times, whether they are real
    and of now."""

    sent_ns: int | None
    zone: str
    of_now: bool


class Segment:
    """One segment's fields, counted from 1 as HL7 does; absent ones are empty."""

    def __init__(self, line: str, separators: str) -> None:
        self._fields = line.split(separators[0])
        self._component, self._repetition = separators[1], separators[2]
        self.name = self._fields[0]

    def field(self, n: int) -> str:
        """Field `n`; of MSH, field 1 is the separator itself."""
        i = n - 1 if self.name == "MSH" else n
        return self._fields[i] if 0 <= i < len(self._fields) else ""

    def components(self, n: int) -> list[str]:
        """The components of field `n`, at least three."""
        return [*self.field(n).split(self._component), "", "", ""]

    def codes(self, n: int) -> list[str]:
        """The code of each repetition of field `n`, none for an empty field."""
        each = self.field(n).split(self._repetition) if self.field(n) else []
        return [one.split(self._component)[0].strip().upper() for one in each]


def segments(message: bytes) -> list[Segment]:
    """The segments of a message. Raises `ValueError` for what is no HL7."""
    text = message.decode("utf-8", "replace")
    if not text.startswith("MSH") or len(text) < 8:
        raise ValueError("it does not begin with MSH")
    separators = text[3:8]
    if len(set(separators)) != 5 or any(c.isalnum() or c.isspace() for c in separators):
        raise ValueError("MSH-1 and MSH-2 are no separators")
    lines = text.replace("\n", "\r").split("\r")
    return [Segment(line, separators) for line in lines if line]


def time_ns(text: str, zone: str = "") -> int | None:
    """An HL7 time in ns since 1970; None where it is none. One without a zone is of `zone`, that of
    the message's own time (HL7 v2.6, MSH-7), and without that as if UTC."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute = (int(found[i]) for i in range(1, 6))
    second = int(found[6] or 0)
    is_day = year >= 1 and 1 <= month <= 12 and 1 <= day <= 31
    if not (is_day and hour < 24 and minute < 60 and second < 61):
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if zone := found[8] or zone:
        east_s = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
        seconds -= east_s if zone[0] == "+" else -east_s
    return seconds * NS_PER_S + int((found[7] or "0").ljust(9, "0"))


def zone_of(text: str) -> str:
    """The zone of an HL7 time, "" where it says none."""
    found = _TIME.fullmatch(text)
    return (found[8] or "") if found else ""


def acknowledgement(msh: Segment | None, code: str, text: str = "") -> bytes:
    """The framed ACK of a message: `code` AA, AE or AR."""
    control, version = (msh.field(10), msh.field(12)) if msh else ("", "2.6")
    sender = "|".join(msh.field(n)[:MAX_CONTROL_CHARS] for n in (5, 6, 3, 4)) if msh else "|||"
    # What is repeated from the message must not open a segment or a block of its own.
    clean = re.sub(r"[\x00-\x1f|]", "", control)[:MAX_CONTROL_CHARS]
    head = f"MSH|^~\\&|{re.sub(r'[^ -~]', '', sender)}|||ACK|{clean}|P|{version[:8] or '2.6'}"
    said = f"MSA|{code}|{clean}" + (f"|{text}" if text else "")
    return framed(f"{head}\r{said}\r".encode())


class Decoder:
    """MLLP bytes in; numerics, and the acknowledgement of each message, out. `place` is the bed, as
    PV1-3 has it."""

    def __init__(self, place: str = "") -> None:
        self._unframer = Unframer()
        self._seen: deque[int] = deque(maxlen=REMEMBERED)  # hashes of control id and time
        self._whose = {"PV1": hash(place)} if place else {}  # by segment
        self._another: dict[str, int] = {}  # whose the last message was, if not theirs
        self._others = 0  # how many of that one in a row
        self._tally: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()

    @property
    def counters(self) -> Counters:
        """Totals since the decoder was made."""
        return Counters(
            **self._tally,
            skipped_bytes=self._unframer.tally["skipped_bytes"],
            rejects=dict(self._rejects + self._unframer.rejected),
        )

    def after_loss(self) -> Decoder:
        """One that goes on with the same bed."""
        decoder = Decoder()
        decoder._whose, decoder._seen = self._whose, self._seen
        return decoder

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        return [m for message in self._unframer.feed(data) for m in self._message(message)]

    def _message(self, message: bytes) -> list[Message]:
        try:
            found = segments(message)
        except ValueError as error:
            self._rejects["no HL7"] += 1
            return [Send(acknowledgement(None, "AE", str(error)))]
        msh, control = found[0], found[0].field(10)
        if msh.components(9)[:2] != ["ORU", "R01"] or not control:
            self._rejects["not ORU^R01"] += 1
            return [Send(acknowledgement(msh, "AR", "ORU^R01 with a control id is understood"))]
        accepted = Send(acknowledgement(msh, "AA"))
        once = hash((control, msh.field(7)))  # control ids alone begin anew with the gateway
        if once in self._seen:
            self._tally["duplicates"] += 1
            return [accepted, Sign(Event.ALIVE)]
        self._seen.append(once)
        self._tally["frames"] += 1
        whose = _whose(found)
        if whose is None or not self._is_ours(whose):
            self._rejects["another patient"] += 1
            if whose is None or not self._follows(whose):
                return [accepted, Sign(Event.ALIVE)]
            self._whose, self._another = whose, {}
            return [Another("another patient"), *self._values(found), accepted]
        self._whose.update(whose)
        self._another = {}
        return [*(self._values(found) or [Sign(Event.ALIVE)]), accepted]

    def _is_ours(self, whose: dict[str, int]) -> bool:
        """The known patient's, if that is named; before a patient is known, the known bed's."""
        needed = {"PID"} & self._whose.keys() or self._whose.keys()
        same = all(self._whose.get(name, who) == who for name, who in whose.items())
        return same and needed <= whose.keys()

    def _follows(self, whose: dict[str, int]) -> bool:
        """Whether this is the patient after ours: the same bed, and for a while nobody else."""
        self._others = self._others + 1 if whose == self._another else 1
        self._another = whose
        bed = self._whose.get("PV1")
        return self._others >= ANOTHER_FOR and bed is not None and whose.get("PV1") == bed

    def _values(self, found: Sequence[Segment]) -> list[Message]:
        """The numerics of all OBX rows; their own time, else the OBR's, else the message's."""
        out: list[Message] = []
        header = Header(
            sent_ns=time_ns(found[0].field(7)),
            zone=zone_of(found[0].field(7)),
            of_now=found[0].components(11)[:2] in (["P", ""], ["P", "T"]),
        )
        observed_ns = header.sent_ns
        for segment in found:
            if segment.name == "OBR":
                observed_ns = time_ns(segment.field(7), header.zone) or header.sent_ns
            elif segment.name == "OBX" and segment.field(2) == "NM":
                out += self._numeric(segment, observed_ns, header)
        return out

    def _numeric(self, obx: Segment, observed_ns: int | None, header: Header) -> list[Message]:
        code, name, system = obx.components(3)[:3]
        channel = _BY_CODE.get(code, name) if system == "MDC" else ""
        if channel not in TERMS:
            self._rejects["unknown code"] += 1
            return []
        if name in TERMS and name != channel:
            self._rejects["code and name differ"] += 1
            return []
        if not self._in_its_unit(obx, channel):
            self._rejects["unit"] += 1
            return []
        t_ns = time_ns(obx.field(14), header.zone) or observed_ns
        of_now = header.of_now and not _is_old(channel, t_ns, header.sent_ns)
        validity = _worst([
            VALIDITIES.get(obx.field(11), Validity.UNAVAILABLE),
            *(FLAGS.get(flag, Validity.QUESTIONABLE) for flag in obx.codes(8)),
            Validity.VALID if of_now else Validity.QUESTIONABLE,
        ])  # fmt: skip
        text = obx.field(5).strip()
        value = float(text) if _NUMBER.fullmatch(text) else None
        if not text or value == NOT_AVAILABLE:
            validity = Validity.UNAVAILABLE
        return [numeric(channel, value, validity, t_ns)]

    @staticmethod
    def _in_its_unit(obx: Segment, channel: str) -> bool:
        """A row without value may leave the unit away; one with another unit is not taken."""
        code, name, system = obx.components(6)[:3]
        if not code and not name:
            return not obx.field(5).strip()
        unit = UNITS.get(name) or UNITS.get(code) if system == "MDC" else code
        return unit == TERMS[channel].unit


def _whose(found: Sequence[Segment]) -> dict[str, int] | None:
    """Hashes of whom a message names, by segment; None where it names several."""
    named = {(s.name, hash(s.field(3))) for s in found if s.name in WHOSE and s.field(3)}
    whose = dict(named)
    return whose if len(whose) == len(named) else None


def _is_old(channel: str, observed_ns: int | None, sent_ns: int | None) -> bool:
    """Both times are the sender's: no clock of ours comes in."""
    limit_s = EPISODIC_S.get(channel, OLD_S)
    if observed_ns is None or sent_ns is None:
        return False
    return sent_ns - observed_ns > limit_s * NS_PER_S


def _worst(found: Sequence[Validity]) -> Validity:
    """The first that leaves no number, else the first doubt."""
    without = [v for v in found if v not in WITH_NUMBER]
    doubts = [v for v in found if v is not Validity.VALID]
    return (without or doubts or [Validity.VALID])[0]


DEVICE: Device = Device(
    name="hl7-oru",
    title="HL7 v2 ORU^R01 over MLLP (Mindray and other gateways)",
    spec="HL7 v2.6 chapters 2 and 7, MLLP; IHE PCD-01",
    wire=Wire(1_000_000),
    dialogue=listening(SILENT_S),
    decoder=Decoder,
    numerics=NUMERICS,
    outlives_calls=True,  # some call for each message; whose they are must be remembered
    at=lambda place: replace(DEVICE, decoder=partial(Decoder, place)),
    proved_by="python-hl7, hl7apy and node-hl7-client send to it and read its acknowledgement",
    unproved="a real monitor or gateway; vendors' own codes are not taken",
)
