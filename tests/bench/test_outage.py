"""A prepared outage is a spool like any other, and all of it arrives."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.outage import faults, prepare, value
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from heal7_iot.demo.books import read_spool
from tests.end_to_end.line import GATEWAY, Line, short_directory

_20_MINUTES_S = 1200
_PATIENCE_S = 300.0


@pytest.fixture
def line() -> Iterator[Line]:
    directory = short_directory("outage")
    try:
        made = Line(directory)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(directory)


def test_a_prepared_spool_holds_what_an_outage_leaves(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, GATEWAY, seconds=300, readings_per_s=20, ended_at_us=1_795_262_400_000_000)
    book = read_spool(tmp_path / "spool.sqlite3")
    assert (book.batches, book.sealed, book.in_flight, book.never_sealed) == (300, 6000, 6000, 0)
    assert len({value(number) for number in range(6000)}) == 500
    spool = Spool.open(tmp_path / "spool.sqlite3", SpoolOptions(2**30, 3600.0), Boot("next", 1), None)
    try:
        # Of a boot whose clock was known: it can be sent at once, though this boot's is not.
        (first,) = spool.sendable(None, 1, 1_000_000)
        assert (first.identity.epoch, first.identity.seq, first.readings) == (prepared.epoch, 0, 20)
    finally:
        spool.close()


@pytest.mark.slow
def test_twenty_minutes_of_outage_arrive_beside_live_readings_each_once(line: Line) -> None:
    prepared = prepare(
        line.state,
        GATEWAY,
        seconds=_20_MINUTES_S,
        readings_per_s=100,
        ended_at_us=time.time_ns() // 1000 - 60_000_000,
    )
    assert faults(line.dsn, prepared), "nothing is there yet"
    line.start_ingest()
    line.start_gateway()
    line.wait("the outage has drained", lambda: line.committed() >= prepared.readings, _PATIENCE_S)
    line.let_sensors_send(25)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    assert faults(line.dsn, prepared) == []
    line.assert_exactly_once()
    assert line.committed() > prepared.readings
    assert line.audit() == 0
