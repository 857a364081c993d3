"""Replies of every sensor that is asked: whole, byte by byte, in noise, back to back, broken off, each bit flipped."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.modbus import rtu
from device_drivers.serial_line import mhz19b, shdlc, sps30
from device_drivers.serial_line.framing import Finder, FrameFinder


@dataclass(frozen=True)
class Vector:
    """A reply, and what finds it after its request."""

    name: str
    reply: bytes
    finder: Callable[[], Finder]


SCD30 = bytes.fromhex("6103002800064c60")
XY_MD02 = bytes.fromhex("010400010002200b")
COILS = rtu.read_request(1, rtu.READ_COILS, 3, 17)
BEGIN = rtu.write_request(0x61, 0x36, 0)

VECTORS = [
    # As published (the project's sources: manuals, interface descriptions).
    Vector("mhz19b", bytes.fromhex("ff8601f40000000085"), lambda: FrameFinder(mhz19b.REPLY)),
    Vector("scd30", bytes.fromhex("61030c43db8c2e41d9e7ff42433a1b5007"), lambda: rtu.ReplyFinder(SCD30)),
    Vector("xy-md02", bytes.fromhex("010404013102222ace"), lambda: rtu.ReplyFinder(XY_MD02)),
    # Made by our own encoders.
    Vector(
        "sps30",
        sps30.encode(*(0.1 * n for n in range(10))),
        lambda: shdlc.ReplyFinder(sps30.ADDRESS, sps30.READ),
    ),
    Vector("sps30 nothing new", sps30.encode(), lambda: shdlc.ReplyFinder(sps30.ADDRESS, sps30.READ)),
    Vector("coils", rtu.read_reply(1, rtu.READ_COILS, b"\x55\xaa\x01"), lambda: rtu.ReplyFinder(COILS)),
    Vector("exception", rtu.exception_reply(1, rtu.READ_INPUT, 2), lambda: rtu.ReplyFinder(XY_MD02)),
    Vector("write", BEGIN, lambda: rtu.ReplyFinder(BEGIN)),
]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


@each_vector
def test_byte_by_byte(vector: Vector) -> None:
    finder = vector.finder()
    given_at = [finder.feed(bytes([byte])) for byte in vector.reply]
    assert given_at == [[]] * (len(vector.reply) - 1) + [[vector.reply]]
    assert (finder.skipped_bytes, finder.bad_checksums) == (0, 0)


@each_vector
@pytest.mark.parametrize("noise", [b"\x00", b"\xff\xff\x00", bytes(range(1, 20)), b"\x7e"])
def test_in_noise_and_back_to_back(vector: Vector, noise: bytes) -> None:
    finder = vector.finder()
    stream = noise + vector.reply * 3 + noise + vector.reply
    assert finder.feed(stream) == [vector.reply] * 4
    assert finder.skipped_bytes == 2 * len(noise)


@each_vector
def test_every_flipped_bit_is_refused_and_the_next_reply_found(vector: Vector) -> None:
    for bit in range(8 * len(vector.reply)):
        damaged = bytearray(vector.reply)
        damaged[bit // 8] ^= 1 << bit % 8
        finder = vector.finder()
        assert finder.feed(bytes(damaged)) == []
        # Of what is pending at most one delimiter or one length of bytes may swallow what follows.
        assert finder.feed(vector.reply * 2)[-1:] == [vector.reply]


@each_vector
def test_a_reply_that_breaks_off_does_not_cost_the_next_but_one(vector: Vector) -> None:
    for cut in range(1, len(vector.reply)):
        assert vector.finder().feed(vector.reply[:cut] + vector.reply * 2)[-1:] == [vector.reply]


@each_vector
@given(
    pieces=st.lists(st.one_of(st.binary(max_size=40), st.none(), st.integers(1, 20)), max_size=8),
    cuts=st.lists(st.integers(0, 300), max_size=6),
)
def test_any_bytes_in_any_pieces_are_accounted_for(
    vector: Vector, pieces: list[bytes | int | None], cuts: list[int]
) -> None:
    stream = b"".join(
        vector.reply if piece is None else vector.reply[:piece] if isinstance(piece, int) else piece for piece in pieces
    )
    whole, split = vector.finder(), vector.finder()
    frames = whole.feed(stream)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert [frame for a, b in pairwise(edges) for frame in split.feed(stream[a:b])] == frames
    assert split.skipped_bytes == whole.skipped_bytes
    assert 0 <= len(stream) - whole.skipped_bytes - sum(map(len, frames)) <= 600
