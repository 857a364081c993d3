"""The Plantower codec: a published frame, streams that are cut and damaged, and bytes of any kind."""

import struct
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.serial_line.framing import FrameFinder
from device_drivers.serial_line.plantower import FRAME_BYTES, HEADER, PLANTOWER, Frame, decode, encode

VECTOR = bytes.fromhex("424d001c0005000d00160005000d001602fd00fc001d000f00060006970003c5")
DECODED = Frame(
    pm1_standard=5,
    pm2_5_standard=13,
    pm10_standard=22,
    pm1=5,
    pm2_5=13,
    pm10=22,
    particles_0_3=765,
    particles_0_5=252,
    particles_1=29,
    particles_2_5=15,
    particles_5=6,
    particles_10=6,
    version=0x97,
)

WORDS = st.integers(0, 0xFFFF)
BYTES = st.integers(0, 0xFF)
FRAMES = st.builds(Frame, *[WORDS] * 12, BYTES, BYTES)


class PlantowerDecoder(FrameFinder):
    """Finds frames and reads them."""

    def __init__(self) -> None:
        super().__init__(PLANTOWER.framing)

    def frames(self, data: bytes) -> list[Frame]:
        return [decode(frame) for frame in self.feed(data)]


def test_vector_whole() -> None:
    decoder = PlantowerDecoder()
    assert decoder.frames(VECTOR) == [DECODED]
    assert (decoder.skipped_bytes, decoder.bad_checksums) == (0, 0)


def test_vector_byte_by_byte() -> None:
    decoder = PlantowerDecoder()
    given_at = [decoder.frames(bytes([byte])) for byte in VECTOR]
    assert given_at == [[]] * (FRAME_BYTES - 1) + [[DECODED]]
    assert decoder.skipped_bytes == 0


@pytest.mark.parametrize("noise", [b"\x00", b"\x42", b"\x42\x4d", b"\x42\x42\x4d\x00", VECTOR[5:], b"B" * 100])
def test_leading_noise_is_skipped_and_counted(noise: bytes) -> None:
    decoder = PlantowerDecoder()
    assert decoder.frames(noise + VECTOR) == [DECODED]
    assert decoder.skipped_bytes == len(noise)


def test_trailing_bytes_begin_the_next_frame() -> None:
    decoder = PlantowerDecoder()
    assert decoder.frames(VECTOR + VECTOR[:7]) == [DECODED]
    assert decoder.frames(VECTOR[7:]) == [DECODED]
    assert decoder.skipped_bytes == 0


def test_several_frames_at_once() -> None:
    assert PlantowerDecoder().frames(VECTOR * 3) == [DECODED] * 3


def test_encode_gives_the_vector() -> None:
    assert encode(DECODED) == VECTOR


def test_encode_refuses_what_does_not_fit() -> None:
    with pytest.raises(struct.error):
        encode(Frame(pm1=0x10000))


@given(FRAMES)
def test_decode_undoes_encode(frame: Frame) -> None:
    assert PlantowerDecoder().frames(encode(frame)) == [frame]


@pytest.mark.parametrize("position", range(4, FRAME_BYTES))
def test_a_damaged_byte_drops_the_frame_and_no_other(position: int) -> None:
    damaged = bytearray(VECTOR)
    damaged[position] ^= 0x01
    decoder = PlantowerDecoder()
    assert decoder.frames(VECTOR + damaged + VECTOR) == [DECODED] * 2
    assert decoder.bad_checksums == 1
    assert decoder.skipped_bytes == FRAME_BYTES


def test_an_answer_of_another_length_is_no_frame() -> None:
    # The sensor's answer to a command (manual, appendix II): same start, length 4.
    decoder = PlantowerDecoder()
    answer = bytes.fromhex("424d0004e1000174")
    assert decoder.frames(answer + VECTOR) == [DECODED]
    assert decoder.skipped_bytes == len(answer)


@pytest.mark.parametrize("cut", range(1, FRAME_BYTES))
def test_a_frame_cut_in_two_by_noise_is_dropped_alone(cut: int) -> None:
    decoder = PlantowerDecoder()
    assert decoder.frames(VECTOR[:cut] + b"\xff\x00\xaa" + VECTOR[cut:] + VECTOR) == [DECODED]
    assert decoder.skipped_bytes == FRAME_BYTES + 3


@pytest.mark.parametrize("cut", range(1, FRAME_BYTES))
def test_a_frame_that_breaks_off_does_not_cost_the_next(cut: int) -> None:
    assert PlantowerDecoder().frames(VECTOR[:cut] + VECTOR) == [DECODED]


PIECES = st.lists(
    st.one_of(st.binary(max_size=80), FRAMES.map(encode), st.just(HEADER), st.just(VECTOR[:9])), max_size=12
)


@given(PIECES, st.lists(st.integers(0, 400), max_size=10))
def test_any_bytes_in_any_pieces_are_accounted_for(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    whole = PlantowerDecoder()
    frames = whole.frames(stream)
    held = len(stream) - whole.skipped_bytes - FRAME_BYTES * len(frames)
    assert 0 <= held < FRAME_BYTES

    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    split = PlantowerDecoder()
    assert [frame for a, b in pairwise(edges) for frame in split.frames(stream[a:b])] == frames
    assert (split.skipped_bytes, split.bad_checksums) == (whole.skipped_bytes, whole.bad_checksums)


@given(st.lists(st.tuples(st.binary().map(lambda noise: noise.replace(b"\x42", b"\x00")), FRAMES), max_size=5))
def test_frames_are_found_between_noise_that_does_not_look_like_one(parts: list[tuple[bytes, Frame]]) -> None:
    decoder = PlantowerDecoder()
    assert decoder.frames(b"".join(noise + encode(frame) for noise, frame in parts)) == [f for _, f in parts]


@pytest.mark.parametrize("unit", [b"\x00", b"\x42", b"\x42\x4d", HEADER, b"\x00\xff\x42\x4d\x00"])
@pytest.mark.parametrize("piece_bytes", [97, 1 << 20])
def test_a_megabyte_without_a_frame_is_neither_kept_nor_slow(unit: bytes, piece_bytes: int) -> None:
    stream = unit * ((1 << 20) // len(unit))
    decoder = PlantowerDecoder()
    started = time.process_time()
    for position in range(0, len(stream), piece_bytes):
        assert decoder.frames(stream[position : position + piece_bytes]) == []
    assert len(stream) - decoder.skipped_bytes < FRAME_BYTES
    # A line gives a megabyte in 18 minutes; going through the buffer again for each byte would take that long.
    assert time.process_time() - started < 10
