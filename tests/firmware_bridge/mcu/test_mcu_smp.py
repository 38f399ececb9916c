"""The SMP server in C, asked by the package `smpclient` over a pty, and by damaged lines."""

from __future__ import annotations

import asyncio
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.mcu import protocol
from firmware_bridge.mcu.image import read_image

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
MCU = Path(protocol.__file__).parent
FLASH_SLOT_BYTES = 32768


@pytest.fixture
def ask(board: Any, make_image: Callable[..., bytes]) -> Callable[..., Any]:
    """Runs a coroutine function with a connected SMPClient against a board with version 1.0.0."""
    smpclient = pytest.importorskip("smpclient")
    serial = pytest.importorskip("smpclient.transport.serial")
    board.make(make_image((1, 0, 0)))
    board.power_on()

    def run(talk: Callable[[Any], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            from firmware_bridge.mcu import dfu

            dfu._hush(str(board.port))
            transport = serial.SMPSerialTransport()
            async with smpclient.SMPClient(transport, str(board.port), timeout_s=2.0) as client:
                return await talk(client)

        return asyncio.run(connected())

    return run


def image_requests() -> Any:
    from smpclient.requests import image_management

    return image_management


def test_echo_and_parameters(ask: Callable[..., Any]) -> None:
    from smpclient.requests import os_management

    async def talk(client: Any) -> Any:
        long = await client.request(os_management.EchoWrite(d="x" * 330))
        return long, await client.request(os_management.MCUMgrParametersRead())

    echo, parameters = ask(talk)
    assert echo.r == "x" * 330
    assert (parameters.buf_size, parameters.buf_count) == (512, 1)


def test_what_it_does_not_know_is_an_error(ask: Callable[..., Any]) -> None:
    from smpclient.requests import os_management

    answer = ask(lambda client: client.request(os_management.DateTimeRead()))
    assert answer.rc == 8  # MGMT_ERR_ENOTSUP


def test_states_and_what_is_denied(
    ask: Callable[..., Any], make_image: Callable[..., bytes]
) -> None:
    old, new = read_image(make_image((1, 0, 0))), read_image(make_image((1, 1, 0)))

    async def talk(client: Any) -> Any:
        group = image_requests()
        before = await client.request(group.ImageStatesRead())
        sizes = [done async for done in client.upload(new.data)]
        write = group.ImageStatesWrite
        answers = [
            await client.request(write(hash=old.digest)),
            await client.request(write(hash=new.digest, confirm=True)),
            await client.request(write(hash=b"?" * 32)),
            await client.request(write(hash=new.digest)),
            await client.request(group.ImageErase()),
            await client.request(
                group.ImageUploadWrite(off=0, data=b"x", len=9, sha=b"y" * 32, image=0)
            ),
        ]
        return before, sizes, answers

    before, sizes, answers = ask(talk)
    (running,) = before.images
    assert (running.slot, running.version, bytes(running.hash)) == (0, "1.0.0", old.digest)
    assert running.active and running.confirmed and not running.pending
    assert sizes[-1] == len(new.data)
    # Running already; not seen to run; unknown; marked; kept while marked, twice.
    assert [answer.err.rc for answer in (*answers[:3], *answers[4:])] == [33, 32, 24, 28, 28]
    marked = {image.version: (image.pending, image.active) for image in answers[3].images}
    assert marked == {"1.0.0": (False, True), "1.1.0": (True, False)}


def test_an_upload_goes_on_where_the_cable_was_pulled(
    ask: Callable[..., Any], make_image: Callable[..., bytes]
) -> None:
    new = make_image((1, 1, 0))

    async def half(client: Any) -> int:
        async for done in client.upload(new):
            if done > len(new) // 2:
                return int(done)
        return 0

    async def rest(client: Any) -> list[int]:
        return [done async for done in client.upload(new)]

    reached = ask(half)
    offsets = ask(rest)
    assert offsets[0] == reached
    assert offsets[-1] == len(new)


def test_an_upload_with_a_wrong_hash_does_not_match(
    ask: Callable[..., Any], make_image: Callable[..., bytes]
) -> None:
    async def talk(client: Any) -> Any:
        group = image_requests()
        data = make_image((1, 1, 0), size=100)
        request = group.ImageUploadWrite(off=0, data=data, len=len(data), sha=b"z" * 32, image=0)
        return await client.request(request)

    answer = ask(talk)
    assert answer.match is False


def lines_of(requests: list[Any]) -> list[bytes]:
    encode = pytest.importorskip("smp.packet").encode
    return [b"".join(encode(request.BYTES)) for request in requests]


def some_requests(new: bytes) -> list[Any]:
    from smpclient.requests import os_management

    group = image_requests()
    return [
        os_management.EchoWrite(d="hello " * 20),
        os_management.ResetWrite(),
        group.ImageStatesRead(),
        group.ImageUploadWrite(off=0, data=new[:300], len=len(new), sha=b"s" * 32, image=0),
        group.ImageUploadWrite(off=300, data=new[300:500]),
        group.ImageStatesWrite(hash=b"h" * 32, confirm=True),
        group.ImageErase(),
    ]


@pytest.fixture
def server(compiled: Callable[..., Path], board: Any, make_image: Any) -> Callable[[bytes], bytes]:
    """The server under the sanitizers: bytes in, replies out."""
    names = ("smp", "smp_cbor", "boot", "sha256", "flash_file")
    sources = [HERE / "smp_driver.c", *(MCU / "example" / f"{name}.c" for name in names)]
    sanitize = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = compiled(sources, *sanitize, f"-I{MCU / 'example'}")
    board.make(make_image((1, 0, 0)))

    def feed(data: bytes) -> bytes:
        done = subprocess.run([program, board.flash], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return feed


def test_damaged_lines_break_nothing(
    server: Callable[[bytes], bytes], make_image: Callable[..., bytes]
) -> None:
    """Flipped, cut, joined and made-up lines, and sound ones with damaged contents."""
    pytest.importorskip("smpclient")
    packet = pytest.importorskip("smp.packet")
    rng = random.Random(7)
    requests = some_requests(make_image((1, 1, 0)))
    stream = b""
    for _ in range(3000):
        message = bytearray(rng.choice(requests).BYTES)
        for _ in range(rng.randrange(4)):
            message[rng.randrange(8, len(message))] = rng.randrange(256)
        if rng.random() < 0.2:
            message = message[: rng.randrange(len(message))]
        line = bytearray(b"".join(packet.encode(bytes(message))))
        if rng.random() < 0.2:
            line[rng.randrange(len(line))] = rng.randrange(256)
        stream += rng.choice([b"", b"", b"\0", rng.randbytes(5) + b"\0"]) + bytes(line)
    replies = server(stream)
    assert replies.count(b"\x06\x09") > 500


def test_link_frames_pass_and_lines_do_not(server: Callable[[bytes], bytes]) -> None:
    """Each byte that is the link's comes out of the driver as 00."""
    pytest.importorskip("smpclient")
    (line,) = lines_of(some_requests(b"")[2:3])
    assert server(b"\x04\x05\x06\x09\x0a\0") == b"\0" * 6
    assert server(b"\x06\x05\x09\0") == b"\0" * 4
    assert server(b"\0\0" + line)[:4] == b"\0\0\x06\x09"
    assert server(line + b"\x05\x06\0" + line).count(b"\0") == 3
    assert server(b"\x06\x09AAAA") == b""
    assert server(b"\x06\x09" + b"A" * 200 + b"\0" + line).count(b"\x06\x09") == 1
