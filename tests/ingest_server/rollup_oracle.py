"""Rollups computed by brute force: every reading of a series, added up in Python by the wall clock of its site."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.peers.postgres import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Bucket:
    """What is stored of a bucket. Sums are exact in these tests: values are multiples of 1/4."""

    total: float
    readings: int
    minimum: float
    maximum: float
    first: float
    last: float


@dataclass(frozen=True)
class Rollups:
    """By (series_id, begin of the bucket in µs), and by (series_id, day)."""

    minutes: dict[tuple[int, int], Bucket]
    hours: dict[tuple[int, int], Bucket]
    days: dict[tuple[int, int], Bucket]
    site_days: dict[tuple[int, date], Bucket]


def us_of(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def brute_force(database: Database, series_ids: Iterable[int], time_zone: str) -> Rollups:
    """From what is in the table of readings now."""
    zone = ZoneInfo(time_zone)
    found: tuple[dict[tuple[int, int], list[float]], ...] = tuple(defaultdict(list) for _ in range(3))
    site_days: dict[tuple[int, date], list[float]] = defaultdict(list)
    rows = database.query(
        "SELECT series_id, recorded_at, value FROM iot_service.sensor_readings WHERE series_id = ANY(%s)"
        " ORDER BY recorded_at, value",
        list(series_ids),
    )
    for series_id, recorded_at, value in rows:
        at_us = us_of(recorded_at)
        for level, width_s in zip(found, (60, 3600, 86_400), strict=True):
            level[series_id, at_us - at_us % (width_s * 1_000_000)].append(value)
        site_days[series_id, recorded_at.astimezone(zone).date()].append(value)
    minutes, hours, days = ({key: _bucket(values) for key, values in level.items()} for level in found)
    return Rollups(minutes, hours, days, site_days={key: _bucket(values) for key, values in site_days.items()})


def stored(database: Database, series_ids: Iterable[int]) -> Rollups:
    """As the tables, or the continuous aggregates, have them."""
    ids = list(series_ids)
    columns = "total, readings, minimum, maximum, first, last"
    minutes, hours, days = (
        {
            (series_id, us_of(bucket)): Bucket(*rest)
            for series_id, bucket, *rest in database.query(
                f"SELECT series_id, bucket, {columns} FROM iot_service.{table} WHERE series_id = ANY(%s)", ids
            )
        }
        for table in ("rollup_1m", "rollup_1h", "rollup_1d")
    )
    site_days = {
        (series_id, day): Bucket(*rest)
        for series_id, day, *rest in database.query(
            f"SELECT series_id, reading_date, {columns} FROM iot_service.rollup_site_day WHERE series_id = ANY(%s)", ids
        )
    }
    return Rollups(minutes, hours, days, site_days)


def _bucket(values: list[float]) -> Bucket:
    return Bucket(sum(values), len(values), min(values), max(values), values[0], values[-1])
