"""Modbus RTU: published frames, what is no reply to a request, and damage."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.modbus.rtu import (
    READ_HOLDING,
    READ_INPUT,
    ReplyFinder,
    crc16,
    exception_code,
    exception_reply,
    read_reply,
    read_request,
    write_request,
)

SCD30 = bytes.fromhex("6103002800064c60")
SCD30_REPLY = bytes.fromhex("61030c43db8c2e41d9e7ff42433a1b5007")
XY_MD02 = bytes.fromhex("010400010002200b")
XY_MD02_REPLY = bytes.fromhex("010404013102222ace")


def test_published_frames() -> None:
    assert read_request(0x61, READ_HOLDING, 0x28, 6) == SCD30
    assert read_request(1, READ_INPUT, 1, 2) == XY_MD02
    assert ReplyFinder(SCD30).feed(SCD30_REPLY) == [SCD30_REPLY]
    assert struct.unpack_from(">3f", SCD30_REPLY, 3) == pytest.approx((439.10, 27.24, 48.81), abs=0.01)
    assert ReplyFinder(XY_MD02).feed(XY_MD02_REPLY) == [XY_MD02_REPLY]
    assert struct.unpack_from(">2h", XY_MD02_REPLY, 3) == (305, 546)
    assert read_reply(1, READ_INPUT, XY_MD02_REPLY[3:7]) == XY_MD02_REPLY


@pytest.mark.parametrize("noise", [b"", b"\x00", b"\x01", b"\x01\x04", b"\xff\x01\x04\x04", XY_MD02, XY_MD02 * 2])
def test_a_reply_is_found_in_any_pieces_behind_noise_and_echoes(noise: bytes) -> None:
    stream = noise + XY_MD02_REPLY
    for cut in range(len(stream)):
        finder = ReplyFinder(XY_MD02)
        assert finder.feed(stream[:cut]) + finder.feed(stream[cut:]) == [XY_MD02_REPLY]
        assert finder.skipped_bytes == len(noise)


@pytest.mark.parametrize(
    "other",
    [
        read_reply(2, READ_INPUT, bytes(4)),  # another unit answers for it
        read_reply(1, READ_HOLDING, bytes(4)),
        read_reply(1, READ_INPUT, bytes(2)),
        exception_reply(2, READ_INPUT, 2),
    ],
)
def test_what_is_no_reply_to_the_request(other: bytes) -> None:
    finder = ReplyFinder(XY_MD02)
    assert finder.feed(other) == []
    assert finder.feed(XY_MD02_REPLY) == [XY_MD02_REPLY]


def test_an_exception_is_an_answer() -> None:
    refused = exception_reply(1, READ_INPUT, 2)
    (found,) = ReplyFinder(XY_MD02).feed(b"\x00" + refused)
    assert exception_code(found) == 2
    assert exception_code(XY_MD02_REPLY) is None


def test_a_write_is_answered_by_itself() -> None:
    asked = write_request(0x61, 0x36, 0)
    assert ReplyFinder(asked).feed(asked) == [asked]
    assert ReplyFinder(asked).feed(write_request(0x61, 0x36, 1)) == []


@given(st.binary(max_size=80), st.integers(0, 80))
def test_any_bytes_are_accounted_for(noise: bytes, cut: int) -> None:
    whole, split = ReplyFinder(XY_MD02), ReplyFinder(XY_MD02)
    frames = whole.feed(noise)
    assert split.feed(noise[:cut]) + split.feed(noise[cut:]) == frames
    assert split.skipped_bytes == whole.skipped_bytes
    assert 0 <= len(noise) - whole.skipped_bytes - sum(map(len, frames)) < 10


@given(st.binary(max_size=64))
def test_a_checksum_behind_its_content_leaves_nothing(content: bytes) -> None:
    assert crc16(content + crc16(content)) == b"\x00\x00"
