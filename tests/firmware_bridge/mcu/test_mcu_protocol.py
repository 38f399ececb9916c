"""medge_link.h is the one definition: Python reads what the C preprocessor reads, or refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmware_bridge.mcu import protocol

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

SOURCE = protocol.HEADER_FILE.read_text("utf-8")


def test_the_c_preprocessor_reads_the_same_layout(driver: Any) -> None:
    (text,) = driver.run(["L"])
    assert text.replace("|", "\n") == protocol.wire().text


def test_a_message_packs_little_endian() -> None:
    beat = protocol.wire().to_mcu["HOST_BEAT"]
    body = beat.pack({"layout": 0x01020304, "beat": 5, "period_ms": 0x0607})
    assert body.hex() == "04030201050000000706"
    assert beat.unpack(body) == {"layout": 0x01020304, "beat": 5, "period_ms": 0x0607}


def test_codes_of_names() -> None:
    assert protocol.wire().code("LEVEL_HIGH") == 3
    with pytest.raises(KeyError):
        protocol.wire().code("LEVEL_LOUD")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("F(u32, token)", "F(u64, token)", "MEDGE_LAYOUT_HASH is not that.*set it to 0x"),
        ("MAX_TAIL 432", "MAX_TAIL 433", "MEDGE_LAYOUT_HASH is not that"),
        ("E(LEVEL_LOW, 1)", "E(LEVEL_LOW, 2)", "MEDGE_LAYOUT_HASH is not that"),
        ("F(u32, token)", "F(float, token)", "message TIME_REPLY has no such fields.*u8, u16"),
        ("F(u32, token)", "F(u32)", "message TIME_REPLY has no such fields"),
        ("F(u32, token)", "G(u32, token)", "line that is no definition"),
        ("F(u8, level)", "F(u8, sound)", "sound is the field of BEAT twice"),
        ("0x02, NONE", "0x01, NONE", "1 is the type of a message twice"),
        ("0x05, COUNTS", "0x05, MORE", "message SAMPLES has no such fields or tail"),
        ("M(ACK, ack, 0x04, NONE)", "M(ACK, ack, 0x04)", "list TO_HOST cannot be read"),
        ("MEDGE_TO_HOST(M)", "MEDGE_TO_NOBODY(M)", "list TO_HOST cannot be read"),
        ("#define MEDGE_ACK(F)", "#define MEDGE_BEAT(F)", "MEDGE_BEAT is defined twice"),
        ("#define MEDGE_MAX_TAIL 432", "#define MEDGE_MAX_TAIL (2 * 216)", "no definition"),
        ("#define MEDGE_MAX_TAIL 432", "typedef int tail;", "no definition: 'typedef int tail;'"),
        ("/* wire end */", "", "no single wire part"),
    ],
)
def test_another_header_is_refused(old: str, new: str, says: str) -> None:
    assert old in SOURCE
    with pytest.raises(protocol.LayoutError, match=says):
        protocol.read_wire(SOURCE.replace(old, new, 1))


def test_a_comment_outside_the_wire_part_changes_nothing() -> None:
    assert protocol.read_wire("/* new */\n" + SOURCE).layout_hash == protocol.wire().layout_hash


def test_a_link_holds_less_than_a_kilobyte(driver: Any, tmp_path: Path) -> None:
    link_bytes, frame_bytes = map(int, driver.run(["Z"])[0].split())
    assert link_bytes + frame_bytes <= 1024
