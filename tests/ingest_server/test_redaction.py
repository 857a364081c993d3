"""A redacted payload is a batch of the same identity that says of what is kept exactly what it said before."""

import random
from dataclasses import replace

import numpy as np
import pytest

from device_drivers.interpretation import raw_reading, raw_series
from device_drivers.reading import Reading
from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from ingest_server.decoder import Columns, open_body
from ingest_server.redaction import redacted
from tests.ingest_server.line import ANCHOR, GATEWAY, HUMIDITY, NOW_US, SECOND, TEMPERATURE, data, reading

RAW = raw_series("lobby-air", "250")


def some(draw: random.Random) -> list[Reading]:
    held = []
    for n in range(draw.randint(2, 50)):
        at_us = NOW_US + draw.randint(-1_000, 1_000) * SECOND
        measured = reading(draw.choice([draw.random(), float("nan")]), at_us, draw.choice([TEMPERATURE, HUMIDITY]))
        raw = raw_reading(RAW, bytes([n]), at_us - ANCHOR.offset_us)
        held.append(draw.choice([measured, replace(measured, reliability=40, causes=3), raw]))
    return held


@pytest.mark.parametrize("uncertainty_us", [2_000, 5 * SECOND])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_kept_reads_as_before(seed: int, uncertainty_us: int) -> None:
    draw = random.Random(seed)
    held = some(draw)
    payload = data(7, held, anchor=Anchor(ANCHOR.offset_us, uncertainty_us, ClockSource.KERNEL))
    batch = wire.decode(payload, GATEWAY)
    whole = open_body(batch)
    assert isinstance(whole, Columns)
    kept = np.array([draw.random() < 0.5 for _ in held])
    kept[draw.randrange(len(held))] = True
    again = wire.decode(redacted(batch, whole, kept), GATEWAY)
    assert again.envelope == replace(batch.envelope, readings=int(kept.sum()))
    left = open_body(again)
    assert isinstance(left, Columns)
    for column in ("times_us", "series", "values", "reliability", "causes"):
        np.testing.assert_array_equal(getattr(left, column), getattr(whole, column)[kept])
    assert wire.decode_series(left.table) == wire.decode_series(whole.table)
    numbers = np.flatnonzero(kept).tolist()
    assert left.frames == {n: whole.frames[was] for n, was in enumerate(numbers) if was in whole.frames}


def test_nothing_of_the_others_remains() -> None:
    frame = bytes(range(64))
    batch = wire.decode(data(0, [raw_reading(RAW, frame, 1), reading(1.5), reading(2.5)]), GATEWAY)
    columns = open_body(batch)
    assert isinstance(columns, Columns)
    again = wire.decode(redacted(batch, columns, np.array([False, True, False])), GATEWAY)
    content = wire.unpack(again)
    assert set(content) == {"series", "t", "s", "v", "q", "c"}
    assert [len(v) for k, v in content.items() if isinstance(v, bytes) and k != "series"] == [8, 2, 8, 1, 4]
