"""Rollups equal what brute force makes of the readings, whatever happened to these and in whatever order."""

import asyncio
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_drivers.reading import Series
from ingest_server.decoder import Int64s
from ingest_server.storage.connection import Connection, connect, transaction
from ingest_server.storage.erasure import erasing
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.keeping.rollups import refresh, refresh_all, refreshes
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rollup_log import COPY_LOG, log_bytes
from ingest_server.storage.line.rows import HEADER, TRAILER, Rows
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.registry import places
from tests.ingest_server.line import NOW_US, SECOND, data, open_writer, reading, settle
from tests.ingest_server.rollup_oracle import brute_force, stored, us_of
from tests.peers.postgres import Database

_sites = itertools.count(1)

# Around what is odd: both of Berlin's days that have no 24 hours, the end of February, the end of a year.
MOMENTS = [
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    datetime(2028, 2, 29, 15, 0, tzinfo=UTC),
    datetime(2026, 2, 28, 23, 0, tzinfo=UTC),
    datetime(2025, 12, 31, 23, 30, tzinfo=UTC),
]
ZONES = ["UTC", "Asia/Seoul", "Europe/Berlin", "Asia/Kathmandu"]


@dataclass(frozen=True)
class Write:
    """Readings of one transaction: (series, seconds from the moment, value)."""

    readings: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Correct:
    """A standing correction of a series' readings between two times."""

    series: int
    from_s: int
    to_s: int
    by: float


@dataclass(frozen=True)
class Erase:
    """A device's readings between two times."""

    device: int
    from_s: int
    to_s: int


@dataclass(frozen=True)
class Refresh:
    most: int


Step = Write | Correct | Erase | Refresh

_SECONDS = st.one_of(st.integers(-90_000, 90_000), st.sampled_from([-3600, -60, -1, 0, 1, 59, 60, 3599, 3600, 86_399]))
_VALUES = st.integers(-4000, 4000).map(lambda n: n / 4)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Write, st.lists(st.tuples(st.integers(0, 3), _SECONDS, _VALUES), min_size=1, max_size=30).map(tuple)),
    st.builds(Correct, st.integers(0, 3), _SECONDS, _SECONDS, _VALUES),
    st.builds(Erase, st.integers(0, 1), _SECONDS, _SECONDS),
    st.builds(Refresh, st.integers(1, 40)),
)


@dataclass
class Center:
    """A site of its own with two devices of two channels each."""

    writer: Writer
    site: str
    moment: datetime
    series_ids: list[int]
    flavour: Flavour
    rules: int = 0
    _ties: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    async def made(cls, writer: Writer, moment: datetime, time_zone: str) -> "Center":
        site = f"site-{next(_sites)}"
        series = [
            Series(device, channel, channel, "x", "p/1", "1") for device in ("d-0", "d-1") for channel in ("a", "b")
        ]
        table = await writer.catalogue.table(f"{site}/gw", series, 0.0)
        await places.set_time_zone(writer.connection, site, time_zone)
        flavour = await recorded(writer.connection)
        assert flavour is not None
        return cls(writer, site, moment, table.ids.tolist(), flavour, writer.catalogue.rules.number)

    def at(self, seconds: int) -> datetime:
        return self.moment + timedelta(seconds=seconds)

    def rows(self, write: Write) -> Rows:
        times = np.array([us_of(self.at(s)) for _, s, _ in write.readings], dtype=np.int64)
        ids = np.array([self.series_ids[n] for n, _, _ in write.readings], dtype=np.int32)
        values = np.array([v for _, _, v in write.readings])
        zeros = np.zeros(len(ids), dtype=np.int32)
        if self.flavour is Flavour.TIMESCALEDB:
            # Which of two readings of one microsecond is the first, its aggregates leave open.
            times += np.array([next(self._ties) for _ in ids], dtype=np.int64)
        return Rows(times, ids, values, zeros + 100, zeros)

    async def write(self, connection: Connection, write: Write) -> None:
        rows = self.rows(write)
        await self.writer.partitions.ensure(connection, rows.times_us)
        while True:
            try:
                async with transaction(connection):
                    await copy_rows(connection, [rows], self.rules)
            except RulesChanged:
                await self.writer.catalogue.rules.follow(connection)
                self.rules = self.writer.catalogue.rules.number
            else:
                return

    async def correct(self, connection: Connection, step: Correct) -> None:
        series = self.series_ids[step.series]
        first, last = sorted((step.from_s, step.to_s))
        interval = (self.at(first), self.at(last + 1))
        async with transaction(connection):
            await connection.execute(
                "UPDATE iot_service.sensor_readings SET value = value + %s, revision = revision + 1"
                " WHERE series_id = %s AND recorded_at >= %s AND recorded_at < %s",
                (step.by, series, *interval),
            )
            await connection.execute(
                "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids) VALUES (%s, %s, %s)",
                (*interval, [series]),
            )

    async def erase(self, connection: Connection, step: Erase) -> None:
        first, last = sorted((step.from_s, step.to_s))
        scope = erasing.Scope(self.site, None, f"d-{step.device}", self.at(first), self.at(last + 1))
        erasure_id, _ = await erasing.request(connection, scope, reason="test", by="test")
        await erasing.carry_out(connection, erasure_id)

    async def do(self, connection: Connection, step: Step) -> None:
        match step:
            case Write():
                await self.write(connection, step)
            case Correct():
                await self.correct(connection, step)
            case Erase():
                await self.erase(connection, step)
            case Refresh():
                await refresh(connection, step.most)


async def play(database: Database, moment: datetime, time_zone: str, lanes: Sequence[Sequence[Step]]) -> None:
    """Each lane on a connection of its own, side by side; then the log is worked off, and all compared."""
    async with open_writer(database) as writer:
        center = await Center.made(writer, moment, time_zone)
        connections = [await connect(database.dsn, "test", 30) for _ in lanes]
        try:
            await asyncio.gather(
                *(_lane(center, connection, lane) for connection, lane in zip(connections, lanes, strict=True))
            )
        finally:
            for connection in connections:
                await connection.close()
        await refresh_all(writer.connection)
        expected = brute_force(database, center.series_ids, time_zone)
        assert stored(database, center.series_ids) == expected
        # Again, of everything: the same.
        async with transaction(writer.connection):
            await writer.connection.execute(
                "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids) VALUES (%s, %s, %s)",
                (center.at(-100_000), center.at(100_000), center.series_ids),
            )
        await refresh_all(writer.connection)
        assert stored(database, center.series_ids) == expected


async def _lane(center: Center, connection: Connection, lane: Sequence[Step]) -> None:
    for step in lane:
        await center.do(connection, step)


_SETTINGS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_SETTINGS
@given(st.sampled_from(MOMENTS), st.sampled_from(ZONES), st.lists(_STEPS, min_size=1, max_size=12))
def test_rollups_equal_brute_force(any_database: Database, moment: datetime, zone: str, steps: list[Step]) -> None:
    asyncio.run(play(any_database, moment, zone, [steps]))


@_SETTINGS
@given(
    st.sampled_from(MOMENTS),
    st.sampled_from(ZONES),
    st.lists(st.lists(_STEPS, min_size=1, max_size=6), min_size=2, max_size=4),
)
def test_rollups_equal_brute_force_with_concurrent_writers(
    any_database: Database, moment: datetime, zone: str, lanes: list[list[Step]]
) -> None:
    asyncio.run(play(any_database, moment, zone, lanes))


@settings(_SETTINGS, max_examples=6)
@given(st.sampled_from(MOMENTS), st.sampled_from(ZONES), st.lists(_STEPS, min_size=1, max_size=8))
def test_continuous_aggregates_equal_brute_force(
    migrated_timescale: Database, moment: datetime, zone: str, steps: list[Step]
) -> None:
    asyncio.run(play(migrated_timescale, moment, zone, [steps]))


async def test_late_data_touches_only_its_own_buckets(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(writer, MOMENTS[0], "UTC")
        await center.write(writer.connection, Write(tuple((n % 4, 60 * n, n / 4) for n in range(240))))
        await refresh_all(writer.connection)
        before = _versions(database)
        await center.write(writer.connection, Write(((0, 7200, 5.0),)))
        await refresh_all(writer.connection)
        changed = {key for key, version in _versions(database).items() if before.get(key) != version}
        at = center.at(7200)
        assert changed == {
            ("rollup_1m", center.series_ids[0], at.isoformat()),
            ("rollup_1h", center.series_ids[0], at.replace(minute=0).isoformat()),
            ("rollup_1d", center.series_ids[0], at.replace(hour=0, minute=0).isoformat()),
        }


def _versions(database: Database) -> dict[tuple[str, int, str], str]:
    return {
        (table, series_id, bucket.isoformat()): version
        for table in ("rollup_1m", "rollup_1h", "rollup_1d")
        for series_id, bucket, version in database.query(
            f"SELECT series_id, bucket, xmin::text FROM iot_service.{table}"
        )
    }


async def test_what_is_before_the_horizon_is_never_computed_again(database: Database) -> None:
    """Its readings have been archived: an empty bucket would take the place of what is known of it."""
    async with open_writer(database) as writer:
        center = await Center.made(writer, MOMENTS[4], "Asia/Seoul")
        await center.write(writer.connection, Write(tuple((n % 4, 600 * n - 5000, n / 4) for n in range(20))))
        await refresh_all(writer.connection)
        before = stored(database, center.series_ids)
        database.query("UPDATE iot_service.raw_horizon SET begins = '2026-01-01+00'")
        database.query("DELETE FROM iot_service.sensor_readings WHERE recorded_at < '2026-01-01+00'")
        database.query(
            "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids) VALUES (%s, %s, %s)",
            center.at(-9000),
            center.at(9000),
            center.series_ids,
        )
        await refresh_all(writer.connection)
        assert stored(database, center.series_ids) == before


async def test_wide_entries_are_worked_off_a_few_at_a_time(database: Database) -> None:
    """What a restore or an erasure enters: all at once would meet the statement's timeout, at each retry anew."""
    async with open_writer(database) as writer:
        center = await Center.made(writer, MOMENTS[0], "UTC")
        await center.write(writer.connection, Write(tuple((n % 4, 60 * n, n / 4) for n in range(240))))
        database.query(
            "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)"
            " SELECT %s, %s::timestamptz + interval '10000 hours', ARRAY[series_id, series_id, series_id]"
            "   FROM unnest(%s::integer[]) AS series_id",
            center.at(0),
            center.at(0),
            center.series_ids,
        )
        taken = [entries async for entries in refreshes(writer.connection)]
        # 30,000 hours each: the third is the first that begins beyond the bound. The group's own entries are small.
        assert (len(taken), taken[1]) == (2, 2)
        assert stored(database, center.series_ids) == brute_force(database, center.series_ids, "UTC")


@pytest.mark.parametrize("step_s", [1, 61, 3_601, 90_000])
def test_a_groups_entries_cover_its_rows_and_stay_few(step_s: int, database: Database) -> None:
    """However far apart: minutes, then hours, then days."""
    n = 5_000
    times = np.arange(n, dtype=np.int64) * step_s * 1_000_000 + us_of(MOMENTS[0])
    ids = np.arange(n, dtype=np.int32) % 7 + 1
    zeros = np.zeros(n, dtype=np.int32)
    rows = Rows(times, ids, np.zeros(n), zeros, zeros)

    async def copy() -> None:
        connection = await connect(database.dsn, "test", 30)
        try:
            async with connection.cursor() as cursor, cursor.copy(COPY_LOG) as copying:
                await copying.write(log_bytes(rows, [rows]))
        finally:
            await connection.close()

    asyncio.run(copy())
    entries = database.query("SELECT from_at, to_at, series_ids FROM iot_service.rollup_log")
    assert 0 < len(entries) <= 1_000
    covered = {
        (series, minute)
        for from_at, to_at, series_ids in entries
        if us_of(to_at) - us_of(from_at) <= 86_400_000_000
        for series in series_ids
        for minute in range(us_of(from_at) // 60_000_000, us_of(to_at) // 60_000_000)
    }
    wide = [e for e in entries if us_of(e[1]) - us_of(e[0]) > 86_400_000_000]
    for series, at in zip(ids.tolist(), times.tolist(), strict=True):
        assert (series, at // 60_000_000) in covered or any(
            us_of(f) <= at < us_of(t) and series in s for f, t, s in wide
        )


def test_a_batch_of_many_days_widens_only_its_own_entries() -> None:
    minute_us, hour_us = 60_000_000, 3_600_000_000
    start_us = us_of(MOMENTS[0])
    own = _rows(np.full(500, start_us + minute_us), np.arange(1, 501))
    wide = _rows(start_us - hour_us * np.arange(2_000), np.full(2_000, 9_999))
    entries = _entries_of(log_bytes(Rows.joined([own, wide]), [own, wide]))
    assert {span for span, ids in entries if 1 in ids} == {minute_us}
    assert {span for span, ids in entries if 9_999 in ids} == {24 * hour_us}
    assert len(entries) < 1_000


def _rows(times_us: Int64s, series_ids: Int64s) -> Rows:
    zeros = np.zeros(len(times_us), np.int32)
    return Rows(times_us, series_ids.astype(np.int32), np.zeros(len(times_us)), zeros, zeros)


def _entries_of(copied: bytes) -> list[tuple[int, set[int]]]:
    """The width (µs) and the series of each entry, out of the bytes of its binary COPY."""
    found, at = [], len(HEADER)
    while copied[at : at + 2] == b"\0\3":
        _, _, begins, _, ends, size = struct.unpack_from(">hiqiqi", copied, at)
        at += struct.calcsize(">hiqiqi")
        elements = np.frombuffer(copied[at + 20 : at + size], dtype=[("length", ">i4"), ("value", ">i4")])
        found.append((ends - begins, set(elements["value"].tolist())))
        at += size
    assert copied[at:] == TRAILER
    return found


@pytest.mark.parametrize("time_zone", ["Asia/Seoul", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "UTC"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: f"{m:%Y-%m-%d}")
async def test_days_are_those_of_the_sites_calendar(database: Database, moment: datetime, time_zone: str) -> None:
    """A reading each 7 minutes for four days: 23 and 25 hours in Berlin's odd days, the end of February, midnights that
    are none of UTC's hours. One batch crosses the border of a month."""
    async with open_writer(database) as writer:
        center = await Center.made(writer, moment, time_zone)
        await center.write(writer.connection, Write(tuple((n % 4, 420 * n - 172_800, n / 4) for n in range(823))))
        await refresh_all(writer.connection)
    expected = brute_force(database, center.series_ids, time_zone)
    assert stored(database, center.series_ids) == expected
    assert 4 <= len({day for _, day in expected.site_days}) <= 5


async def test_berlins_odd_days_have_23_and_25_hours(database: Database) -> None:
    async with open_writer(database) as writer:
        for moment, hours in ((MOMENTS[0], 23), (MOMENTS[1], 25)):
            center = await Center.made(writer, moment, "Europe/Berlin")
            await center.write(writer.connection, Write(tuple((0, 600 * n - 172_800, 1.0) for n in range(600))))
            await refresh_all(writer.connection)
            assert (
                database.one(
                    "SELECT reading_count FROM iot_service.fact_sensor_daily WHERE series_id = %s AND reading_date=%s",
                    center.series_ids[0],
                    moment.date(),
                )
                == 6 * hours
            )


async def test_another_time_zone_counts_the_days_anew(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(writer, MOMENTS[2], "UTC")
        await center.write(writer.connection, Write(tuple((n % 4, 420 * n - 172_800, n / 4) for n in range(823))))
        await refresh_all(writer.connection)
        days = await places.set_time_zone(writer.connection, center.site, "Asia/Kathmandu")
        expected = brute_force(database, center.series_ids, "Asia/Kathmandu")
        assert stored(database, center.series_ids) == expected
        assert days == len(expected.site_days)
        with pytest.raises(places.NoSuchThing, match=r"Asia/Seul.*Asia/Seoul"):
            await places.set_time_zone(writer.connection, center.site, "Asia/Seul")


async def test_no_reading_stops_the_rollups(database: Database) -> None:
    """PostgreSQL raises an error where a sum or a square overflows, or a quotient comes to 0: for all devices."""
    sent = [1.7e308, 1.7e308, -1.7e308, 1e200, 5e-324, 0.0, 1e100, 1e100, -1e-100, 3.4e38]
    await settle(database, data(0, [reading(value, NOW_US - n * SECOND) for n, value in enumerate(sent)]))
    async with open_writer(database) as writer:
        await refresh_all(writer.connection)
    assert database.query("SELECT reason, indices FROM iot_service.quarantine") == [
        ("value_not_finite", [0, 1, 2, 3, 4])
    ]
    assert database.one("SELECT sum(reading_count) FROM iot_service.hourly_sensor_averages") == 5
    assert database.one("SELECT avg(value) > 0 FROM iot_service.readings")
    assert database.one("SELECT count(avg_value) FROM iot_service.fact_sensor_daily") == 1
