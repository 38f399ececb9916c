"""New firmware for the microcontroller over the link's own port, by SMP (MCUmgr) with `smpclient`.

Owns the order of things: what to do next follows from what the device says its slots hold, so an
update that was cut off anywhere (power, cable, this process) is simply begun again and goes on from
there. An image is tried only after the device holds all of it, and kept only after it has run and
proved itself on the link: hello of the right version, our trust in it and its trust in us, no
condition. Otherwise it is left unconfirmed and the boot loader goes back to the one before.

Implements the host's half of "SMP Protocol Specification" (Zephyr, device management), groups 0, 1.
"""

from __future__ import annotations

import asyncio
import select
import struct
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from firmware_bridge.address import Address
from firmware_bridge.errors import LinkError
from firmware_bridge.mcu.cable import WIRE, Cable
from firmware_bridge.mcu.events import Code, Identified
from firmware_bridge.mcu.host import Mcu, new_session
from firmware_bridge.mcu.image import UpdateError
from firmware_bridge.ports import open_serial

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from firmware_bridge.mcu.image import Image

BEAT_S = 0.1
_QUIET_S = 0.1


@dataclass(frozen=True, slots=True)
class Slot:
    """What a device says of one of its slots."""

    number: int
    digest: bytes
    active: bool
    confirmed: bool
    pending: bool


class Step(Enum):
    """What is to be done next."""

    UPLOAD = "upload"
    TEST = "mark for a trial"
    RESET = "reset into the trial"
    PROVE = "prove, then confirm"
    DONE = "done"


class Result(str, Enum):
    UPDATED = "updated"
    ALREADY = "already"  # it ran, confirmed, before we did anything
    REVERTED = "reverted"  # the trial failed; the firmware of before runs again


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an update ended; `detail` says why a trial failed."""

    result: Result
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: for an answer, for the erasing before the first, for a device to boot.

    `healthy_s` is how long new firmware must run without a condition before it is kept. After
    `retries` failures in a row, `retry_s` apart, the update is given up (and can be begun again).
    """

    answer_s: float = 2.5
    erase_s: float = 40.0
    boot_s: float = 15.0
    healthy_s: float = 10.0
    retry_s: float = 0.5
    retries: int = 40


def next_step(slots: Sequence[Slot], image: Image) -> Step:
    """What to do about `image` on a device with these slots."""
    held = next((slot for slot in slots if slot.digest == image.digest), None)
    if held is None:
        return Step.UPLOAD
    if held.active:
        return Step.DONE if held.confirmed else Step.PROVE
    return Step.RESET if held.pending else Step.TEST


def update(
    path: str,
    image: Image,
    *,
    patience: Patience = Patience(),
    on_progress: Callable[[Step, int, int], None] = lambda step, done, total: None,
) -> Outcome:
    """Bring `image` onto the device at port `path`, and keep it if it proves itself.

    Nobody else may use the port meanwhile; the device's alarm is on until a host is back on the
    link. `on_progress` gets the step, and bytes done and in all. Raises `UpdateError` when the
    device cannot be reached or refuses; whatever it runs then is one whole image.
    """
    _smp()
    return _Update(path, image, patience, on_progress).run()


class _Update:
    """One run of an update; what it must remember is only whether this image was tried."""

    def __init__(
        self,
        path: str,
        image: Image,
        patience: Patience,
        on_progress: Callable[[Step, int, int], None],
    ) -> None:
        self._path = path
        self._image = image
        self._patience = patience
        self._on_progress = on_progress
        self._touched = False
        self._sent = False
        self._tried = False
        self._proved = False
        self._why = "it did not run"

    def run(self) -> Outcome:
        failures = 0
        while True:
            try:
                step = asyncio.run(self._one_session())
                failures = 0
            except _transient() as error:
                failures += 1
                if failures > self._patience.retries:
                    cause = f"no answer of an SMP server at {self._path} ({error})"
                    raise UpdateError(cause, "check cable and power, then update again") from error
                time.sleep(self._patience.retry_s)
                continue
            if step is Step.DONE:
                return Outcome(Result.UPDATED if self._touched else Result.ALREADY)
            if self._failed(step):
                return Outcome(Result.REVERTED, self._why)
            if step in (Step.RESET, Step.PROVE):
                self._prove()

    def _failed(self, step: Step) -> bool:
        """Whether the trial is over: this image does not run, or was passed over by the boot."""
        return self._tried and step not in (Step.PROVE, Step.DONE)

    async def _one_session(self) -> Step:
        """Talk to the device until something else than SMP is due, and return what."""
        async with _client(self._path, self._patience) as client:
            while True:
                step = next_step(await _slots(client), self._image)
                self._on_progress(step, 0, len(self._image.data))
                if step is Step.DONE or self._failed(step):
                    return step
                self._touched = True
                if step is Step.UPLOAD:
                    await self._upload(client)
                elif step is Step.TEST:
                    await self._mark(client)
                elif step is Step.RESET:
                    await _request(client, _smp().os.ResetWrite())
                    return step
                elif self._proved:
                    states = _smp().image.ImageStatesWrite(hash=self._image.digest, confirm=True)
                    await _request(client, states)
                else:
                    return step

    async def _upload(self, client: Any) -> None:
        total = len(self._image.data)
        upload = client.upload(
            self._image.data,
            first_timeout_s=self._patience.erase_s,
            subsequent_timeout_s=self._patience.answer_s,
        )
        try:
            async for done in upload:
                self._on_progress(Step.UPLOAD, done, total)
        except _smp().refused as error:
            if isinstance(error.args[0], str):
                raise  # no offset, or another hash than that of what was sent: once more
            raise UpdateError(f"device refuses the image ({error})", "see the code") from error
        if next_step(await _slots(client), self._image) is Step.UPLOAD:
            raise UpdateError("device does not hold the image that was sent", "update again")
        self._sent = True

    async def _mark(self, client: Any) -> None:
        """Mark for a trial; an image that was tried once before has to be sent again for that."""
        states = _smp().image.ImageStatesWrite(hash=self._image.digest)
        if self._sent:
            await _request(client, states)
        elif _smp().error(await client.request(states)):
            await _request(client, _smp().image.ImageErase())

    def _prove(self) -> None:
        """Watch the trial on the link; if it fails, reset it away."""
        self._tried = True
        failed = prove(self._path, self._image.version, self._patience)
        self._proved = failed is None
        self._why = failed or "it was well, and was reset before it could be kept"
        if failed is None:
            return
        try:
            asyncio.run(self._end_trial())
        except _transient():
            # Not even that: its watchdog will end the trial.
            time.sleep(self._patience.retry_s)

    async def _end_trial(self) -> None:
        async with _client(self._path, self._patience) as client:
            if next_step(await _slots(client), self._image) is Step.PROVE:
                await _request(client, _smp().os.ResetWrite())


def prove(path: str, version: str, patience: Patience) -> str | None:
    """Run the link with what has booted, and say why it is not well, or None if it is.

    Well is: the hello says `version`, the device trusts us within `boot_s`, and then no condition
    holds for `healthy_s`. The alarm is left as it is: on.
    """
    mcu = Mcu([], session=new_session())
    deadline_s = time.monotonic() + patience.boot_s + patience.healthy_s
    with closing(Cable(path, mcu)) as cable:
        seen = ""
        beat_s = 0.0
        well_since_s: float | None = None
        while (now_s := time.monotonic()) < deadline_s:
            if now_s >= beat_s:
                mcu.beat(time.monotonic_ns())
                beat_s = now_s + BEAT_S
            events = cable.poll(time.monotonic_ns())
            seen = next((e.firmware for e in events if isinstance(e, Identified)), seen)
            if Code.REFUSED in mcu.conditions:
                return mcu.conditions[Code.REFUSED]
            well = mcu.trusted and seen == version and not mcu.conditions
            well_since_s = (well_since_s or now_s) if well else None
            if well_since_s is not None and now_s - well_since_s >= patience.healthy_s:
                return None
            port = cable.fileno()
            select.select([] if port is None else [port], [], [], BEAT_S / 5)
    held = [f"{code.value} ({detail})" for code, detail in mcu.conditions.items()]
    if seen != version:
        # Not at once: the firmware of before may still say something on its way out.
        held.insert(0, f"it says that it is {seen}" if seen else "it said no hello")
    return ", ".join(held) or "it was not well for long enough"


async def _slots(client: Any) -> list[Slot]:
    answer = await _request(client, _smp().image.ImageStatesRead())
    return [
        Slot(i.slot, bytes(i.hash or b""), bool(i.active), bool(i.confirmed), bool(i.pending))
        for i in answer.images
    ]


async def _request(client: Any, request: Any) -> Any:
    """The answer to a request. Raises `UpdateError` if the device refuses it."""
    answer = await client.request(request)
    if _smp().error(answer):
        what = type(request).__name__
        raise UpdateError(f"device refuses {what} ({answer})", "see the code in the SMP documents")
    return answer


@asynccontextmanager
async def _client(path: str, patience: Patience) -> AsyncIterator[Any]:
    """A connected client, on a port where nothing but SMP is said any more."""
    smp = _smp()
    _hush(path)
    transport = smp.transport(baudrate=WIRE.baud, exclusive=True)
    client = smp.client(transport, path, timeout_s=patience.answer_s)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


def _hush(path: str) -> None:
    """Begin an SMP conversation, on which the device stops its link, and wait for silence."""
    smp = _smp()
    lines = b"".join(smp.encode(smp.os.EchoWrite(d="hush").BYTES))
    port = open_serial(Address("serial", path=path), WIRE)
    try:
        port.write(b"\0" + lines)
        deadline_s = time.monotonic() + 2.0
        while select.select([port.fileno()], [], [], _QUIET_S)[0]:
            port.read()
            if time.monotonic() > deadline_s:
                raise LinkError(f"device at {path} does not fall silent for SMP", "try again")
    finally:
        port.close()


@dataclass(frozen=True, slots=True)
class _Smp:
    """What is used of the package, so that importing this module does not need it."""

    client: Any
    transport: Any
    image: Any
    os: Any
    error: Any
    refused: type[Exception]
    encode: Any


def _smp() -> _Smp:
    try:
        from smp.packet import encode
        from smpclient import SMPClient
        from smpclient.exceptions import SMPUploadError
        from smpclient.generics import error
        from smpclient.requests import image_management, os_management
        from smpclient.transport.serial import SMPSerialTransport
    except ImportError as missing:
        raise UpdateError(
            "smpclient is not installed", "pip install '.[mcu]' in medge's folder"
        ) from missing
    groups = (image_management, os_management)
    return _Smp(SMPClient, SMPSerialTransport, *groups, error, SMPUploadError, encode)


def _transient() -> tuple[type[Exception], ...]:
    """What a cut cable, a booting device or a damaged line look like: worth another try."""
    from cbor2 import CBORError
    from smp.exceptions import SMPException
    from smpclient.exceptions import SMPClientException
    from smpclient.transport import SMPTransportDisconnected

    lost = (LinkError, OSError, asyncio.TimeoutError, ValueError, struct.error)
    return (*lost, CBORError, SMPException, SMPClientException, SMPTransportDisconnected)
