"""Batches as bytes: what goes in comes out, and nothing that comes in does harm."""

import math
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from device_drivers.reading import Reading, Series
from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.errors import DamagedBatch, UnsupportedVersion, UnusableBatch, WireError
from gateway.link.wire import Batch, Envelope, Gap, Kind
from ingest_server.decoder import Columns, open_body
from tests.golden.wire import independent

GATEWAY = "seoul-1/lobby"
ANCHOR = Anchor(1_795_255_200_000_000, 2_000, ClockSource.KERNEL)

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=32)
SERIES = st.builds(
    Series,
    device=NAMES,
    channel=NAMES,
    quantity=NAMES,
    unit=NAMES | st.just(""),
    profile=NAMES | st.just(""),
    firmware=NAMES | st.just(""),
)
READINGS = st.lists(
    st.builds(
        Reading,
        series=SERIES,
        value=st.floats(),
        taken_at_us=st.integers(-(2**61), 2**61),
        reliability=st.integers(0, 100),
        causes=st.integers(0, 2**32 - 1),
        frame=st.none() | st.binary(max_size=40),
    ),
    min_size=1,
    max_size=12,
)
GAPS = st.lists(
    st.builds(
        Gap,
        reason=st.sampled_from(["bound", "bad_copy", "too_large", "unclean_stop", "overrun", "unencodable"]),
        epoch=st.integers(1, wire.MAX_EPOCH),
        first=st.integers(0, wire.MAX_SEQ - 8),
        counts=st.lists(st.integers(0, wire.MAX_READINGS), max_size=8).map(tuple),
        readings=st.none() | st.integers(0, wire.MAX_EPOCH),
        from_us=st.none() | st.integers(-(2**60), 2**60),
        to_us=st.none() | st.integers(-(2**60), 2**60),
    ),
    max_size=6,
)
ANCHORS = st.builds(
    Anchor,
    offset_us=st.integers(-(2**61), 2**61),
    uncertainty_us=st.integers(0, 2**64 - 1),
    source=st.sampled_from(ClockSource),
)
ENVELOPE_NUMBERS = st.tuples(
    st.integers(1, wire.MAX_EPOCH),
    st.integers(0, wire.MAX_SEQ - 1),
    st.integers(0, wire.MAX_SEALED),
    st.integers(1, wire.MAX_EPOCH),
)


def data(readings: list[Reading], *, anchor: Anchor = ANCHOR, seq: int = 0) -> bytes:
    return wire.encode(
        Batch(Envelope(Kind.DATA, GATEWAY, 7, seq, len(readings), 0, anchor, 5), wire.encode_data(readings))
    )


def one(value: float = 21.5, device: str = "hall-1") -> Reading:
    return Reading(Series(device, "t", "temperature", "°C", "p", "1"), value, 1_000_000)


ONE = data([one()])


@given(READINGS, ANCHORS, ENVELOPE_NUMBERS)
def test_readings_come_out_as_they_went_in(
    readings: list[Reading], anchor: Anchor, numbers: tuple[int, int, int, int]
) -> None:
    epoch, seq, before, instance = numbers
    envelope = Envelope(Kind.DATA, GATEWAY, epoch, seq, len(readings), before, anchor, instance)
    payload = wire.encode(Batch(envelope, wire.encode_data(readings)))
    batch = wire.decode(payload, GATEWAY)
    assert batch.envelope == envelope
    columns = open_body(batch)
    assert isinstance(columns, Columns)
    table = wire.decode_series(columns.table)
    assert [table[n] for n in columns.series] == [r.series for r in readings]
    assert columns.times_us.tolist() == [r.taken_at_us + anchor.offset_us for r in readings]
    assert [v.hex() for v in columns.values.tolist()] == [r.value.hex() for r in readings]
    assert columns.frames == {n: r.frame for n, r in enumerate(readings) if r.frame is not None}
    said = independent.read(payload, GATEWAY)
    assert said["series"] == [[s.device, s.channel, s.quantity, s.unit, s.profile, s.firmware] for s in table]
    assert said["recorded_at_us"] == columns.times_us.tolist()
    assert said["reliability"] == columns.reliability.tolist()
    assert said["causes"] == [c & 0xFFFF_FFFF for c in columns.causes.tolist()]
    assert said["value"] == [v.hex() for v in columns.values.tolist()]


@given(GAPS, ENVELOPE_NUMBERS)
def test_gaps_come_out_as_they_went_in(gaps: list[Gap], numbers: tuple[int, int, int, int]) -> None:
    epoch, seq, before, instance = numbers
    envelope = Envelope(Kind.GAP, GATEWAY, epoch, seq, 0, before, ANCHOR, instance)
    payload = wire.encode(Batch(envelope, wire.encode_gaps(gaps)))
    assert open_body(wire.decode(payload, GATEWAY)) == gaps
    assert [g["counts"] for g in independent.read(payload, GATEWAY)["gaps"]] == [list(g.counts) for g in gaps]


@given(st.binary(max_size=300))
@example(b"")
@example(wire.MAGIC)
@example(wire.MAGIC + bytes(76))
def test_random_bytes_are_damaged_or_of_another_version(garbage: bytes) -> None:
    with pytest.raises((DamagedBatch, UnsupportedVersion)):
        wire.decode(garbage, GATEWAY)


@given(st.data())
def test_any_flipped_bit_is_damage(draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, 8 * len(ONE) - 1))
    payload = bytearray(ONE)
    payload[at // 8] ^= 1 << at % 8
    # Only the version's own byte says anything else, before its checksum can be looked for.
    with pytest.raises(UnsupportedVersion if at // 8 == 4 else DamagedBatch):
        wire.decode(bytes(payload), GATEWAY)


@given(st.integers(0, len(ONE) - 1))
def test_any_cut_is_damage(length: int) -> None:
    with pytest.raises(DamagedBatch):
        wire.decode(ONE[:length], GATEWAY)


MAKERS: list[Callable[[bytes], bytes]] = [
    lambda body: independent.Plan(body, 1).payload(),
    lambda body: independent.Plan(body, 3, encoding=1).payload(),
    lambda body: independent.Plan(body, 0, kind=1).payload(),
]


@settings(max_examples=300)
@given(st.sampled_from(MAKERS), st.data())
def test_a_body_that_was_written_wrong_is_unusable_and_both_readers_agree(
    make: Callable[[bytes], bytes], draw: st.DataObject
) -> None:
    """Bodies under right checksums: noise, and good ones with bytes changed."""
    good = [
        independent.data_body(
            [["d", "c", "q", "u", "p", "f"]], [(n, 0, 1.0, 100) for n in range(count)], frames={0: b"x"}
        )
        for count in (1, 3)
    ] + [independent.gap_body([independent.gap("bound", 3, 0, [1, 2])])]
    body = bytearray(draw.draw(st.sampled_from(good) | st.binary(max_size=80)))
    for at, value in draw.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)):
        if at < len(body):
            body[at] = value
    payload = make(bytes(body))
    try:
        expected = independent.read(payload, GATEWAY)
    except independent.Fate:
        # Its checksums are right, so it is not damaged.
        with pytest.raises(UnusableBatch):
            _open_wholly(payload)
        return
    if "gaps" in expected:
        assert open_body(wire.decode(payload, GATEWAY)) is not None
    else:
        assert _open_wholly(payload).times_us.tolist() == expected["recorded_at_us"]


def _open_wholly(payload: bytes) -> Columns:
    columns = open_body(wire.decode(payload, GATEWAY))
    if not isinstance(columns, Columns):
        raise UnusableBatch("is a gap")
    if int(columns.series.max()) >= len(wire.decode_series(columns.table)):
        raise UnusableBatch("series out of the table")
    return columns


@given(READINGS, st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_times_never_wrap_around(readings: list[Reading], first: int, offset: int) -> None:
    assume(-(2**63) <= first <= 2**63 - 1)
    body = independent.data_body([["d", "c", "q", "u", "p", "f"]], [(first, 0, 1.0, 100)])
    payload = independent.Plan(body, 1, offset=offset).payload()
    if abs(first) < 2**62 and abs(offset) < 2**62:
        assert _open_wholly(payload).times_us.tolist() == [first + offset]
    else:
        with pytest.raises(UnusableBatch):
            _open_wholly(payload)


@pytest.mark.parametrize("device", ["", "a\0b", "a\nb", "half \ud800", "x" * 129, "가" * 43, "a\x7fb"])
def test_names_that_the_wire_does_not_allow_are_told_before_they_are_sent(device: str) -> None:
    assert wire.series_fault(Series(device, "c", "q", "u", "p", "f")) is not None


@pytest.mark.parametrize("device", ["가" * 42, "a" * 128, "😀 roof", "tab-less", "\u2028", "ΩÅ"])
def test_names_that_the_wire_allows_arrive(device: str) -> None:
    assert wire.series_fault(Series(device, "c", "q", "u", "p", "f")) is None
    columns = open_body(wire.decode(data([one(device=device)]), GATEWAY))
    assert isinstance(columns, Columns)
    assert wire.decode_series(columns.table)[0].device == device


def test_the_greatest_batch_of_like_readings_fits_and_one_reading_more_is_damaged() -> None:
    most = [one(20.0)] * wire.MAX_READINGS
    payload = data(most)
    assert len(payload) <= wire.MAX_PAYLOAD
    columns = open_body(wire.decode(payload, GATEWAY))
    assert isinstance(columns, Columns)
    assert len(columns.times_us) == wire.MAX_READINGS
    with pytest.raises(DamagedBatch):
        wire.decode(data([*most, one()]), GATEWAY)


def test_a_batch_of_another_gateway_is_damaged() -> None:
    for topic in ("seoul-1/attic", "server/lobby", "seoul-1", "seoul-1/lobby/x"):
        with pytest.raises(DamagedBatch):
            wire.decode(ONE, topic)


def test_a_hostile_frame_allocates_no_more_than_a_body_may_have() -> None:
    """A frame that does not state its size is stopped at the size that the envelope states."""
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000))
    payload = independent.Plan(b"", 1, encoding=1).around(bomb, wire.MAX_BODY)
    with pytest.raises(UnusableBatch, match="zstd"):
        open_body(wire.decode(payload, GATEWAY))


def test_a_body_knows_whether_its_bytes_are_still_those_that_were_sealed() -> None:
    body = wire.encode_data([one(math.pi)])
    assert body.intact()
    assert not wire.Body(body.encoding, body.stored[:-1] + b"!", body.length, body.crc).intact()


def test_every_fault_of_the_wire_is_a_wire_error() -> None:
    assert all(issubclass(kind, WireError) for kind in (DamagedBatch, UnsupportedVersion, UnusableBatch))
    assert UnsupportedVersion(9).version == 9
