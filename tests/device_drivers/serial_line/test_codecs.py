"""Every codec of a sensor that sends by itself, with a published frame: whole, cut, in noise, back to back, damaged."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.serial_line import ld2410, ld2450, sds011
from device_drivers.serial_line.codecs import STREAM_CODECS
from device_drivers.serial_line.framing import FrameFinder


@dataclass(frozen=True)
class Vector:
    """A frame as published, and what of it is said. unnoticed: bytes of the frame in which a flipped bit may pass."""

    kind: str
    frame: bytes
    values: dict[str, float]
    unnoticed: frozenset[int] = frozenset()


VECTORS = [
    Vector(
        "pms5003",
        bytes.fromhex("424d001c0005000d00160005000d001602fd00fc001d000f00060006970003c5"),
        {"pm1": 5, "pm2_5": 13, "pm10": 22},
    ),
    Vector("sds011", bytes.fromhex("aac0d4043a0aa1601dab"), {"pm2_5": 1236, "pm10": 2618}),
    # Without a checksum: state, distances, energies.
    Vector(
        "ld2410",
        bytes.fromhex("f4f3f2f10d0002aa0251000000003b00005500f8f7f6f5"),
        {"presence": 1, "moving": 0, "still": 1, "moving_distance": 81, "still_energy": 59},
        frozenset(range(8, 17)),
    ),
    # Coordinates, speed and resolution of each target; a target of zeros is none until a bit of it flips.
    Vector(
        "ld2450",
        bytes.fromhex("aaff03000e03b18610004001") + bytes(16) + bytes.fromhex("55cc"),
        {"presence": 1, "targets": 1, "target1_x": -782, "target1_y": 1713, "target1_speed": -16},
        frozenset(range(4, 28)),
    ),
]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.kind)


def finder(vector: Vector) -> FrameFinder:
    return FrameFinder(STREAM_CODECS[vector.kind].framing)


def test_every_codec_has_a_vector() -> None:
    assert {vector.kind for vector in VECTORS} == set(STREAM_CODECS)


@each_vector
def test_a_published_frame_says_what_was_published(vector: Vector) -> None:
    codec = STREAM_CODECS[vector.kind]
    sample = codec.read_whole(vector.frame)
    assert sample is not None
    assert {name: sample.values[name] for name in vector.values} == vector.values
    assert set(sample.values) <= set(codec.channels)
    assert codec.read_whole(vector.frame + b"\x00") is None
    assert codec.read_whole(vector.frame[:-1]) is None


@each_vector
def test_byte_by_byte(vector: Vector) -> None:
    found = finder(vector)
    given_at = [found.feed(bytes([byte])) for byte in vector.frame]
    assert given_at == [[]] * (len(vector.frame) - 1) + [[vector.frame]]
    assert (found.skipped_bytes, found.bad_checksums) == (0, 0)


@each_vector
def test_back_to_back_and_in_noise(vector: Vector) -> None:
    found, noise = finder(vector), vector.frame[1:7] + b"\xff\x00"
    assert found.feed(vector.frame * 3 + noise + vector.frame + vector.frame[:5]) == [vector.frame] * 4
    assert found.skipped_bytes == len(noise)
    assert found.feed(vector.frame[5:]) == [vector.frame]


@each_vector
def test_a_flipped_bit_is_refused_or_lies_in_a_value(vector: Vector) -> None:
    """The frames with a checksum refuse every one; of the others those that pass are known by their bytes."""
    passed = set()
    for position in range(len(vector.frame) * 8):
        damaged = bytearray(vector.frame)
        damaged[position // 8] ^= 1 << position % 8
        found = finder(vector).feed(bytes(damaged) + vector.frame)
        assert found[-1:] == [vector.frame], "the next frame is not lost with it"
        if len(found) == 2:
            passed.add(position // 8)
    assert passed <= vector.unnoticed


@each_vector
def test_a_frame_that_breaks_off_does_not_cost_the_next(vector: Vector) -> None:
    for cut in range(1, len(vector.frame)):
        assert finder(vector).feed(vector.frame[:cut] + vector.frame) == [vector.frame]


@each_vector
@given(
    pieces=st.lists(st.one_of(st.binary(max_size=60), st.none(), st.integers(1, 40)), max_size=10),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_any_bytes_in_any_pieces_are_accounted_for(
    vector: Vector, pieces: list[bytes | int | None], cuts: list[int]
) -> None:
    stream = b"".join(
        vector.frame if piece is None else vector.frame[:piece] if isinstance(piece, int) else piece for piece in pieces
    )
    whole = finder(vector)
    frames = whole.feed(stream)
    held = len(stream) - whole.skipped_bytes - sum(map(len, frames))
    assert 0 <= held < 64
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    split = finder(vector)
    assert [frame for a, b in pairwise(edges) for frame in split.feed(stream[a:b])] == frames
    assert (split.skipped_bytes, split.bad_checksums) == (whole.skipped_bytes, whole.bad_checksums)


def test_what_emulated_sensors_send_is_what_is_published() -> None:
    assert sds011.encode(1236, 2618, 0x60A1) == VECTORS[1].frame
    assert ld2410.encode(2, 81, 0, 0, 59, 0) == VECTORS[2].frame
    sent = bytearray(ld2450.encode([(-782, 1713, -16)]))
    assert bytes(sent) == VECTORS[3].frame


def test_a_radar_in_engineering_mode_says_the_same_and_more() -> None:
    """With the energies of its gates: nine of each kind."""
    basic = ld2410.encode(3, 120, 60, 90, 40, 110)
    body = b"\x01" + basic[7:-6] + b"\x08\x08" + bytes(18) + b"\x00\x01" + basic[-6:-4]
    frame = basic[:4] + len(body).to_bytes(2, "little") + body + basic[-4:]
    codec = STREAM_CODECS["ld2410"]
    sample, plain = codec.read_whole(frame), codec.read_whole(basic)
    assert sample == plain is not None


@pytest.mark.parametrize(
    "frame",
    [
        ld2410.encode(4, 81, 0, 0, 59, 0),  # a state that there is not
        ld2410.encode(2, 81, 101, 0, 59, 0),  # more than all energy
        ld2410.encode(2, 801, 0, 0, 59, 0),  # further than its last gate
    ],
)
def test_a_report_that_is_not_plausible_is_damage(frame: bytes) -> None:
    found = FrameFinder(STREAM_CODECS["ld2410"].framing)
    assert found.feed(frame) == []
    assert found.bad_checksums == 1


@pytest.mark.parametrize("target", [(7_001, 100, 0), (0, 8_001, 0), (0, -1, 0), (0, 1, 1_001)])
def test_a_target_where_none_can_be_is_damage(target: tuple[int, int, int]) -> None:
    assert FrameFinder(STREAM_CODECS["ld2450"].framing).feed(ld2450.encode([target])) == []
