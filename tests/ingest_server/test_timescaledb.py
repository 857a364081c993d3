"""TimescaleDB's flavour on the real extension: the line, the contract, columnstore, retention, policies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heal7_iot.simulate.backfill.load import Loader
from heal7_iot.simulate.backfill.plan import Backfill
from ingest_server.errors import SchemaError
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.erasure import erasing
from ingest_server.storage.flavour import Flavour, Wanted, choose
from ingest_server.storage.frames.reading import undecoded
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.keeping.timescaledb import (
    TimescaleOptions,
    advance_horizon,
    apply_policies,
    failed_jobs,
    require_direct_compress,
)
from ingest_server.storage.line.corrected import Calibration
from ingest_server.storage.queries import history
from ingest_server.storage.schema import migrations
from tests.ingest_server.line import DAY, NOW_US, SECOND, books_of, data, reading, running_line, settle, values
from tests.ingest_server.rollup_oracle import brute_force, stored, us_of
from tests.peers.postgres import Database

OUR_POLICIES = {
    ("policy_compression", "sensor_readings"),
    ("policy_retention", "sensor_readings"),
    ("policy_retention", "rollup_1m"),
}


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Connection]:
    connection = await connect(database.dsn, "test", 30)
    try:
        yield connection
    finally:
        await connection.close()


def policies(database: Database) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (kind, relation): config
        for kind, relation, config in database.query(
            "SELECT proc_name, hypertable_name, config FROM timescaledb_information.jobs WHERE job_id >= 1000"
        )
    }


def run_job(database: Database, kind: str, relation: str) -> None:
    job = database.one(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s AND hypertable_name = %s", kind, relation
    )
    database.query(f"CALL run_job({job})")


def compressed(database: Database) -> int:
    return int(
        database.one(
            "SELECT count(*) FROM timescaledb_information.chunks"
            " WHERE hypertable_name = 'sensor_readings' AND is_compressed"
        )
    )


async def test_readings_and_their_ledger_entry_commit_together(migrated_timescale: Database) -> None:
    line = await settle(migrated_timescale, data(0), data(1), data(1))
    assert values(migrated_timescale) == [0.25, 0.5, 1.25, 1.5]
    assert line.counters.duplicates == 1
    books = await books_of(migrated_timescale)
    assert (books.sealed, books.committed, books.balanced) == (4, 4, True)
    assert migrated_timescale.one("SELECT count(*) FROM timescaledb_information.chunks") == 1


async def test_a_batch_that_is_refused_leaves_nothing(migrated_timescale: Database) -> None:
    """A CHECK of the platform's: COPY fails, the ledger has nothing, the others of the group commit."""
    migrated_timescale.query("ALTER TABLE iot_service.sensor_readings ADD CONSTRAINT sane CHECK (value <> 666)")
    async with running_line(migrated_timescale) as line:
        await line.settle(data(0), data(1, [reading(666.0), reading(1.0)]), data(2))
    assert values(migrated_timescale) == [0.25, 0.5, 2.25, 2.5]
    books = await books_of(migrated_timescale)
    assert (books.committed, books.quarantined, books.balanced) == (4, 2, True)


async def test_late_data_reaches_compressed_chunks_and_every_rollup(migrated_timescale: Database) -> None:
    days = 12
    old = [
        data(n, [reading(n + 0.25 * k, NOW_US - (days - n) * DAY + k * 700 * SECOND) for k in range(40)], before=40 * n)
        for n in range(days)
    ]
    await settle(migrated_timescale, *old)
    async with connected(migrated_timescale) as connection:
        await apply_policies(connection, TimescaleOptions(columnstore_after_days=3))
        await refresh_all(connection)
        run_job(migrated_timescale, "policy_compression", "sensor_readings")
        assert compressed(migrated_timescale) > 5
        late = [reading(100.5, NOW_US - 9 * DAY + 5 * SECOND), reading(-7.25, NOW_US - 8 * DAY + 3_601 * SECOND)]
        await settle(migrated_timescale, data(days, late, before=40 * days))
        assert -7.25 in values(migrated_timescale)
        await refresh_all(connection)
        ids = [row[0] for row in migrated_timescale.query("SELECT series_id FROM iot_service.series")]
        assert stored(migrated_timescale, ids) == brute_force(migrated_timescale, ids, "UTC")


async def test_a_correction_reaches_compressed_chunks_and_their_aggregates(migrated_timescale: Database) -> None:
    days = 6
    batches = [
        data(n, [reading(n + 0.25 * k, NOW_US - (days - n) * DAY + k * 700 * SECOND) for k in range(40)], before=40 * n)
        for n in range(days)
    ]
    await settle(migrated_timescale, *batches)
    before = values(migrated_timescale)
    async with connected(migrated_timescale) as connection:
        await apply_policies(connection, TimescaleOptions(columnstore_after_days=1))
        await refresh_all(connection)
        run_job(migrated_timescale, "policy_compression", "sensor_readings")
        assert compressed(migrated_timescale) > 2
        device = await entries.device_id(connection, "seoul-1", "hall-1")
        rule = Calibration(0, "temperature", "°C", NOW_US - 30 * DAY, (0.5, 2.0))
        number = await entries.calibrate(connection, device, rule, Signed("kim", "test"))
        worked_off: list[int] = []
        assert await carry_out(connection, number, undecoded, None, worked_off.append) == len(before)
        assert sum(worked_off) == 1
        ids = [row[0] for row in migrated_timescale.query("SELECT series_id FROM iot_service.series")]
        assert stored(migrated_timescale, ids) == brute_force(migrated_timescale, ids, "UTC")
    assert values(migrated_timescale) == [2 * value + 0.5 for value in before]


async def test_an_erasure_reaches_compressed_chunks_and_stays(migrated_timescale: Database) -> None:
    days = 6
    batches = [
        data(n, [reading(n + 0.25 * k, NOW_US - (days - n) * DAY + k * 700 * SECOND) for k in range(40)], before=40 * n)
        for n in range(days)
    ]
    await settle(migrated_timescale, *batches)
    async with connected(migrated_timescale) as connection:
        await apply_policies(connection, TimescaleOptions(columnstore_after_days=1))
        await refresh_all(connection)
        run_job(migrated_timescale, "policy_compression", "sensor_readings")
        assert compressed(migrated_timescale) > 2
        from_at, to_at = (datetime.fromtimestamp((NOW_US - n * DAY) / 1e6, UTC) for n in (days - 1, days - 3))
        scope = erasing.Scope("seoul-1", None, "hall-1", from_at, to_at)
        erasure_id, rules = await erasing.request(connection, scope, reason="test", by="test")
        assert rules == 1
        assert await erasing.carry_out(connection, erasure_id) == 80
        await refresh_all(connection)
        ids = [row[0] for row in migrated_timescale.query("SELECT series_id FROM iot_service.series")]
        assert stored(migrated_timescale, ids) == brute_force(migrated_timescale, ids, "UTC")
    left = values(migrated_timescale)
    # The same readings again, in an epoch that nobody knows.
    again = [
        data(
            n - 1,
            [reading(n + 0.25 * k, NOW_US - (days - n) * DAY + k * 700 * SECOND) for k in range(40)],
            before=40 * (n - 1),
            epoch=99,
        )
        for n in (1, 2)
    ]
    await settle(migrated_timescale, *again)
    assert len(values(migrated_timescale)) == len(left)
    books = await books_of(migrated_timescale)
    assert (books.dropped, books.balanced) == (80, True)


async def test_an_erasure_decompresses_what_it_must_and_no_more(migrated_timescale: Database) -> None:
    """More than TimescaleDB lets a statement decompress by itself (100,000 readings; here 10); not every chunk."""
    rows = [reading(day + k / 100, NOW_US - day * DAY + k * SECOND) for day in range(1, 6) for k in range(50)]
    await settle(migrated_timescale, data(0, rows))
    async with connected(migrated_timescale) as connection:
        await refresh_all(connection)
        chunks = [row[0] for row in migrated_timescale.query("SELECT show_chunks('iot_service.sensor_readings')::text")]
        for chunk in chunks:
            migrated_timescale.query(f"CALL convert_to_columnstore('{chunk}')")
        third = datetime.fromtimestamp((NOW_US - 3 * DAY) / 1e6, UTC)
        scope = erasing.Scope("seoul-1", None, "hall-1", third, third + timedelta(seconds=20))
        erasure_id, _ = await erasing.request(connection, scope, reason="test", by="test")
        limit = "timescaledb.max_tuples_decompressed_per_dml_transaction"
        await connection.execute(f"SET {limit} = 10".encode())
        try:
            assert await erasing.carry_out(connection, erasure_id) == 20
        finally:
            # There is one session for all.
            await connection.execute(f"RESET {limit}".encode())
    assert len(values(migrated_timescale)) == 230
    assert sum(migrated_timescale.one("SELECT pg_relation_size(%s::regclass) > 0", chunk) for chunk in chunks) == 1


async def test_what_nobody_has_refreshed_yet_shows_in_real_time(migrated_timescale: Database) -> None:
    await settle(migrated_timescale, data(0, [reading(21.5), reading(22.5, NOW_US + SECOND)]))
    assert migrated_timescale.query(
        "SELECT reading_type, avg_value, min_value, max_value, reading_count FROM iot_service.hourly_sensor_averages"
    ) == [("temperature", 22.0, 21.5, 22.5, 2)]


async def test_policies_become_what_the_configuration_says(migrated_timescale: Database) -> None:
    async with connected(migrated_timescale) as connection:
        changed = await apply_policies(connection, TimescaleOptions())
        assert set(policies(migrated_timescale)) == OUR_POLICIES
        assert len(changed) == len(OUR_POLICIES)
        assert await apply_policies(connection, TimescaleOptions()) == []
        changed = await apply_policies(
            connection, TimescaleOptions(chunk_days=7, columnstore_after_days=30, keep_days=100)
        )
        assert set(policies(migrated_timescale)) == OUR_POLICIES
        assert len(changed) == 4  # chunks, columnstore, two retentions
        assert policies(migrated_timescale)["policy_compression", "sensor_readings"]["compress_after"] == "30 days"
        assert policies(migrated_timescale)["policy_retention", "rollup_1m"]["drop_after"] == "100 days"
        assert migrated_timescale.one(
            "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'sensor_readings'"
        ) == timedelta(days=7)


async def test_retention_drops_readings_and_leaves_hours_and_days(migrated_timescale: Database) -> None:
    """And a refresh afterwards does not take them away."""
    then = NOW_US - 90 * DAY
    await settle(migrated_timescale, data(0, [reading(5.0, then)]), data(1, [reading(6.0)], before=1))
    async with connected(migrated_timescale) as connection:
        await refresh_all(connection)
        await apply_policies(connection, TimescaleOptions(keep_days=60))
        await advance_horizon(connection, NOW_US, 60)
        # By the real clock: everything of November 2026 may be in the future of a machine that runs this later.
        migrated_timescale.query(
            "SELECT drop_chunks('iot_service.sensor_readings', timestamptz 'epoch' + %s * interval '1 microsecond')",
            NOW_US - 60 * DAY,
        )
        assert values(migrated_timescale) == [6.0]
        migrated_timescale.query(
            "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids) VALUES"
            " ('2026-01-01+00', '2026-12-01+00', '{1}')"
        )
        await refresh_all(connection)
    assert migrated_timescale.one("SELECT count(*) FROM iot_service.rollup_1d") == 2
    assert migrated_timescale.one("SELECT count(*) FROM iot_service.fact_sensor_daily") == 2


async def test_policies_run_as_jobs(migrated_timescale: Database) -> None:
    await settle(migrated_timescale, data(0))
    async with connected(migrated_timescale) as connection:
        await apply_policies(connection, TimescaleOptions())
        for kind, relation in sorted(OUR_POLICIES):
            run_job(migrated_timescale, kind, relation)
        assert await failed_jobs(connection) == []


async def test_direct_compress_is_refused_where_it_could_lose_readings(migrated_timescale: Database) -> None:
    async with connected(migrated_timescale) as connection:
        with pytest.raises(SchemaError, match=r"direct_compress needs TimescaleDB 2\.28\.1 or newer, this is 2\.23"):
            await require_direct_compress(connection)


async def test_an_operator_may_insist(
    timescale_database: Database, database: Database, empty_database: Database
) -> None:
    async with connected(timescale_database) as connection:
        assert await choose(connection, Wanted.AUTO) is Flavour.TIMESCALEDB
        await migrations.migrate(connection, wanted=Wanted.NATIVE)
        assert timescale_database.one("SELECT to_regproc('iot_service.make_month') IS NOT NULL")
        assert await choose(connection, Wanted.AUTO) is Flavour.NATIVE
        with pytest.raises(SchemaError, match="this database is native, and timescaledb is asked for"):
            await migrations.migrate(connection, wanted=Wanted.TIMESCALEDB)
        # Back to before the flavours part, and forth as the other one.
        await migrations.migrate(connection, to=3)
        await migrations.migrate(connection, wanted=Wanted.TIMESCALEDB)
        assert await choose(connection, Wanted.AUTO) is Flavour.TIMESCALEDB
    async with connected(empty_database) as connection:
        with pytest.raises(SchemaError, match="this server does not have it"):
            await migrations.migrate(connection, wanted=Wanted.TIMESCALEDB)
    async with connected(database) as connection:
        assert await choose(connection, Wanted.AUTO) is Flavour.NATIVE


async def test_a_timescaledb_that_is_too_old_is_refused(
    timescale_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_server.storage.flavour.OLDEST_TIMESCALEDB", (3, 0))
    async with connected(timescale_database) as connection:
        with pytest.raises(SchemaError, match=r"TimescaleDB 2\.23.* is too old: 3\.0 or newer.*--flavour native"):
            await choose(connection, Wanted.AUTO)


async def test_a_database_is_filled_and_answers_as_the_other_flavour_does(migrated_timescale: Database) -> None:
    end = datetime(2026, 11, 20, 15, tzinfo=UTC)
    plan = Backfill("sim", 1, 5, 1 / 1800, 0.1, 7, us_of(end), 2.0)
    async with Loader.open(migrated_timescale.dsn, plan, "Asia/Seoul") as loader:
        steps = [step async for step in loader.run()]
    assert sum(step.readings for step in steps) == plan.readings == 96 * 25
    async with connected(migrated_timescale) as connection:
        device = await history.device_named(connection, "sim", "sim-0001-s001")
        assert len(await history.latest_of_device(connection, device)) == 5
        page = await history.raw_of_device(connection, device, end - timedelta(days=1), end)
        assert len(page.readings) == 48 * 5
        hours = await history.hours_of_device(connection, device, end - timedelta(days=1), end, reading_type="co2")
        assert [h.reading_count for h in hours] == [2] * 24
        days = await history.days_of_device(connection, device, end.date(), end.date(), reading_type="co2")
        assert [d.reading_count for d in days] == [48]
        zone = await history.zone_named(connection, "sim", "sim-0001-room-01")
        found = await history.hours_of_zone(connection, zone, end - timedelta(days=1), end, reading_type="co2")
        assert sum(h.reading_count for h in found) == 3 * 48
