"""Months past their time leave the table without anybody waiting: archived, then dropped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from psycopg.errors import QueryCanceled

from ingest_server.errors import BatchRejected, SchemaError, StorageUnavailable
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.keeping import months
from ingest_server.storage.line.partitions import Month, NativePartitions
from ingest_server.storage.schema.migrations import migrate
from tests.ingest_server.rollup_oracle import us_of
from tests.peers.postgres import Database

OLD = [Month(2024, 10), Month(2024, 11)]
KEPT = [Month(2024, 12), Month(2025, 1)]
FIRST_KEPT = KEPT[0]


@asynccontextmanager
async def background(database: Database, lock_timeout_s: float = 30.0) -> AsyncIterator[Connection]:
    connection = await connect(database.dsn, "background", 30, lock_timeout_s)
    try:
        yield connection
    finally:
        await connection.close()


async def fill(database: Database) -> None:
    """Four months with a reading and its minute each."""
    async with background(database) as connection:
        times = np.array([us_of(month.start) + 1 for month in OLD + KEPT], dtype=np.int64)
        await NativePartitions().ensure(connection, times)
    database.query(
        "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
        " SELECT month, 1, 1, 0, 100 FROM unnest(%s::timestamptz[]) AS month",
        [month.start for month in OLD + KEPT],
    )
    database.query(
        "INSERT INTO iot_service.rollup_1m SELECT 1, month, 1, 1, 1, 1, 1, 1 FROM unnest(%s::timestamptz[]) AS month",
        [month.start for month in OLD + KEPT],
    )


def tables(database: Database, schema: str) -> list[str]:
    return [
        row[0]
        for row in database.query(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'"
            " AND relname ~ '[0-9]{4}_[0-9]{2}$' ORDER BY 1",
            schema,
        )
    ]


def named(*which: Month) -> list[str]:
    return sorted(month.table_of(parent) for month in which for parent in ("sensor_readings", "rollup_1m"))


def horizon(database: Database) -> datetime:
    found = database.one("SELECT begins FROM iot_service.raw_horizon")
    assert isinstance(found, datetime)
    return found


def test_months_are_counted_back_over_years() -> None:
    assert months.before(Month(2026, 11), 24) == Month(2024, 11)
    assert months.before(Month(2026, 1), 1) == Month(2025, 12)
    assert months.before(Month(2026, 3), 15) == Month(2024, 12)


async def test_what_is_past_its_time_is_archived_and_later_dropped(any_database: Database) -> None:
    await fill(any_database)
    async with background(any_database) as connection:
        assert await months.archive(connection, FIRST_KEPT) == OLD
        assert tables(any_database, "archive") == named(*OLD)
        assert tables(any_database, "iot_service") == named(*KEPT)
        assert horizon(any_database) == FIRST_KEPT.start
        assert any_database.one("SELECT count(*) FROM iot_service.sensor_readings") == 2
        assert any_database.one("SELECT value FROM archive.sensor_readings_2024_10") == 1
        assert await months.archive(connection, FIRST_KEPT) == []
        assert await months.drop(connection, OLD[1]) == OLD[:1]
        assert tables(any_database, "archive") == named(OLD[1])
        assert await months.drop(connection, OLD[1]) == []


async def test_a_month_whose_name_is_taken_in_the_archive_stays_whole(any_database: Database) -> None:
    """As after a restore beside the archive: nothing of it is moved, and the message says what to look at."""
    await fill(any_database)
    any_database.query("CREATE SCHEMA IF NOT EXISTS archive")
    any_database.query("CREATE TABLE archive.rollup_1m_2024_11 (x integer)")
    async with background(any_database) as connection:
        with pytest.raises(SchemaError, match=r"archive\.rollup_1m_2024_11 is there already .* drop or rename it"):
            await months.archive(connection, FIRST_KEPT)
        assert tables(any_database, "iot_service") == named(OLD[1], *KEPT)
        assert horizon(any_database) == OLD[1].start
        assert any_database.one("SELECT count(*) FROM iot_service.sensor_readings") == 3
        any_database.query("DROP TABLE archive.rollup_1m_2024_11")
        assert await months.archive(connection, FIRST_KEPT) == OLD[1:]


async def test_the_horizon_survives_a_way_back(any_database: Database) -> None:
    await fill(any_database)
    async with background(any_database) as connection:
        await months.archive(connection, FIRST_KEPT)
        await migrate(connection, to=2)
        await migrate(connection)
    assert horizon(any_database) == FIRST_KEPT.start


async def test_an_archived_month_is_not_made_again(any_database: Database) -> None:
    """What came late would lie where nobody looks, and the next archiving would meet a table of its own name."""
    await fill(any_database)
    async with background(any_database) as connection:
        await months.archive(connection, FIRST_KEPT)
        with pytest.raises(BatchRejected, match=r"readings of 2024-11 have been archived"):
            await NativePartitions().ensure(connection, np.array([us_of(OLD[1].start)], dtype=np.int64))
    assert tables(any_database, "archive") == [
        f"{t}_2024_{m}" for t in ("rollup_1m", "sensor_readings") for m in (10, 11)
    ]


async def test_a_reader_is_waited_for_and_nobody_waits_for_it(any_database: Database) -> None:
    """While a long query reads the month, others go on reading and writing; then it leaves."""
    await fill(any_database)
    async with background(any_database) as connection:
        with psycopg.connect(any_database.dsn) as reader:
            reader.execute("SELECT count(*) FROM iot_service.sensor_readings")
            archiving = asyncio.create_task(months.archive(connection, FIRST_KEPT))
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            async with asyncio.timeout(20):
                while any_database.one(pending) == 0:  # noqa: ASYNC110 -- PostgreSQL has no event for it
                    await asyncio.sleep(0.01)
            any_database.query(
                "SET statement_timeout = '10s'; INSERT INTO iot_service.sensor_readings VALUES"
                " ('2025-01-02+00', now(), 1, 1, 0, 100)"
            )
            assert any_database.one("SELECT count(*) FROM iot_service.sensor_readings WHERE value = 1") >= 3
            # Its own view does not change under it.
            assert reader.execute("SELECT count(*) FROM iot_service.sensor_readings").fetchall() is not None
            assert not archiving.done()
        assert await archiving == OLD
    assert tables(any_database, "archive") == named(*OLD)


async def test_an_archiving_that_was_cut_off_is_gone_on_with(any_database: Database) -> None:
    """Killed while it waits for a reader: the partition stays pending, and the next call finalizes it."""
    await fill(any_database)
    with psycopg.connect(any_database.dsn) as reader:
        reader.execute("SELECT count(*) FROM iot_service.rollup_1m")
        async with background(any_database) as connection:
            archiving = asyncio.create_task(months.archive(connection, FIRST_KEPT))
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            async with asyncio.timeout(20):
                while any_database.one(pending) == 0:  # noqa: ASYNC110 -- PostgreSQL has no event for it
                    await asyncio.sleep(0.01)
            any_database.query("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
            with pytest.raises(StorageUnavailable):
                await archiving
    assert any_database.one(pending) == 1
    async with background(any_database) as connection:
        assert await months.archive(connection, FIRST_KEPT) == OLD
    assert tables(any_database, "archive") == named(*OLD)
    assert tables(any_database, "iot_service") == named(*KEPT)


async def test_a_step_that_waits_too_long_gives_way_and_says_so(
    any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_server.storage.keeping.months._ATTEMPTS", 2)
    await fill(any_database)
    with psycopg.connect(any_database.dsn) as reader:
        reader.execute("SELECT count(*) FROM iot_service.rollup_1m")
        async with background(any_database, lock_timeout_s=0.1) as connection:
            with pytest.raises(StorageUnavailable, match="tried again later"):
                await months.archive(connection, FIRST_KEPT)
    async with background(any_database) as connection:
        assert await months.archive(connection, FIRST_KEPT) == OLD


async def test_a_month_is_made_while_another_one_waits_to_leave(any_database: Database) -> None:
    """A writer that meets a new month must not wait for whoever still reads an old one."""
    await fill(any_database)
    with psycopg.connect(any_database.dsn) as reader:
        reader.execute("SELECT count(*) FROM iot_service.sensor_readings")
        reader.execute("SELECT count(*) FROM iot_service.rollup_1m")
        async with background(any_database) as connection, background(any_database, 5) as writer:
            archiving = asyncio.create_task(months.archive(connection, FIRST_KEPT))
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            async with asyncio.timeout(20):
                while any_database.one(pending) == 0:  # noqa: ASYNC110 -- PostgreSQL has no event for it
                    await asyncio.sleep(0.01)
            await NativePartitions().ensure(writer, np.array([us_of(datetime(2025, 6, 1, tzinfo=UTC))]))
            assert "sensor_readings_2025_06" in tables(any_database, "iot_service")
            assert not archiving.done()
            archiving.cancel()
            with contextlib.suppress(asyncio.CancelledError, QueryCanceled, StorageUnavailable):
                await archiving
