"""A gateway's spool as a long outage leaves it, made through the spool's own code.

Every reading in it follows from its number, so that the database itself can tell whether each is there, once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from device_drivers.reading import Reading, Series
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import encode_data
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from gateway.state_owner import claim

SERIES = 50
_TOGETHER = 256  # batches in one transaction: what a commit costs is not what is to be measured

_CHECK = """
WITH found AS (
    SELECT ((extract(epoch FROM r.recorded_at) * 1000000)::bigint - %(began)s) / %(step)s AS number,
           ((extract(epoch FROM r.recorded_at) * 1000000)::bigint - %(began)s) %% %(step)s AS off,
           right(d.device, 2)::int AS series, r.value
      FROM iot_service.sensor_readings r
      JOIN iot_service.series s USING (series_id)
      JOIN iot_service.iot_devices d USING (device_id)
     WHERE d.device LIKE 'outage-%%'
)
SELECT count(*), count(DISTINCT number),
       count(*) FILTER (WHERE off <> 0 OR number NOT BETWEEN 0 AND %(readings)s - 1 OR series <> number %% %(series)s
                           OR value <> (2000 + (number * 7919 %% 10007) %% 500)::double precision / 100)
  FROM found
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """seconds: how long the outage lasted. began_at_us: Unix µs of the first reading; step_us: between two; epoch: of
    the spool that holds them.
    """

    epoch: int
    seconds: int
    batches: int
    readings: int
    began_at_us: int
    step_us: int


def value(number: int) -> float:
    """20.00 … 24.99; the check says it once more in SQL."""
    return (2000 + (number * 7919 % 10007) % 500) / 100


def prepare(
    state_dir: Path, identity: str, *, seconds: int, readings_per_s: int, ended_at_us: int, bound_bytes: int = 2**30
) -> Prepared:
    """Fills the state folder of the gateway `identity` with a batch for each second until ended_at_us (Unix µs).

    As if it had run without a server, and was stopped then. Raises OSError, SpoolError.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    fault = claim(state_dir, identity)
    assert fault is None, fault
    step_us = 1_000_000 // readings_per_s
    began_at_us = ended_at_us - seconds * 1_000_000
    # A boot of its own, whose clock began with it.
    spool = Spool.open(
        state_dir / "spool.sqlite3", SpoolOptions(bound_bytes, 259_200.0), Boot("before", 0), began_at_us / 1e6
    )
    try:
        spool.set_anchor(Anchor(began_at_us, 1_000, ClockSource.SYSTEM))
        for first in range(0, seconds, _TOGETHER):
            last = min(seconds, first + _TOGETHER)
            works = [partial(_append, second=n, count=readings_per_s, step_us=step_us) for n in range(first, last)]
            for outcome in spool.group(works):
                if outcome.error is not None:
                    raise outcome.error
        return Prepared(spool.epoch, seconds, seconds, seconds * readings_per_s, began_at_us, step_us)
    finally:
        spool.close()


def _append(spool: Spool, *, second: int, count: int, step_us: int) -> None:
    readings = list(_readings(second * count, count, step_us))
    spool.append(encode_data(readings), count, readings[0].taken_at_us, readings[-1].taken_at_us)


def _readings(first: int, count: int, step_us: int) -> Iterator[Reading]:
    for number in range(first, first + count):
        yield Reading(_SERIES[number % SERIES], value(number), number * step_us)


_SERIES = [Series(f"outage-{n:02d}", "temperature", "temperature", "°C", "simulator/1", "1") for n in range(SERIES)]


def faults(dsn: str, prepared: Prepared) -> list[str]:
    """What is wrong with what the database has of it; nothing is what it should be."""
    given = {
        "began": prepared.began_at_us,
        "step": prepared.step_us,
        "readings": prepared.readings,
        "series": SERIES,
    }
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_CHECK, given).fetchone()
    assert row is not None
    rows, distinct, wrong = row
    told = []
    if rows != prepared.readings or distinct != prepared.readings:
        told.append(f"{rows} rows of {distinct} different readings, where {prepared.readings} were sealed")
    if wrong:
        told.append(f"{wrong} rows have a time, a series or a value that was never sealed")
    return told
