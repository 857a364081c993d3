"""Room for readings: made on demand and ahead, by several at once, across the ends of years."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_server.storage.connection import connect
from ingest_server.storage.line.partitions import Month, NativePartitions
from tests.peers.postgres import Database


def us(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000


def partitions(database: Database) -> list[str]:
    return [
        row[0]
        for row in database.query(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'iot_service.sensor_readings'::regclass ORDER BY 1"
        )
    ]


async def ensure(database: Database, *times_us: int) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        await NativePartitions().ensure(connection, np.array(times_us))
    finally:
        await connection.close()


async def test_months_are_made_over_the_end_of_a_year(database: Database) -> None:
    await ensure(database, us(2025, 12, 31), us(2026, 1), us(2026, 2))
    assert partitions(database) == [f"sensor_readings_{m}" for m in ("2025_12", "2026_01", "2026_02")]
    for at in ("2025-12-01", "2025-12-31 23:59:59.999999", "2026-01-01", "2026-02-28 23:59:59.999999"):
        database.query("INSERT INTO iot_service.sensor_readings VALUES (%s, now(), 1, 1, 0, 100)", at + "+00")
    assert database.query("SELECT count(*) FROM iot_service.sensor_readings_2025_12") == [(2,)]
    for at in ("2025-11-30 23:59:59.999999", "2026-03-01"):
        with pytest.raises(Exception, match="no partition"):
            database.query("INSERT INTO iot_service.sensor_readings VALUES (%s, now(), 1, 1, 0, 100)", at + "+00")


async def test_only_months_that_occur_are_made(database: Database) -> None:
    await ensure(database, us(2025, 10, 5), us(2026, 11, 30), us(2026, 11))
    assert partitions(database) == ["sensor_readings_2025_10", "sensor_readings_2026_11"]


async def test_months_are_utc_months_whatever_the_database_thinks(database: Database) -> None:
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Seoul'")
    database.query("SELECT iot_service.make_month('2026-01-31 20:00:00+00')")
    assert partitions(database) == ["sensor_readings_2026_01"]
    database.query("INSERT INTO iot_service.sensor_readings VALUES ('2026-01-01 00:00+00', now(), 1, 1, 0, 100)")


async def test_several_workers_make_the_same_month_at_once(database: Database) -> None:
    await asyncio.gather(*(ensure(database, us(2026, 5), us(2026, 6), us(2026, 7)) for _ in range(6)))
    assert partitions(database) == [f"sensor_readings_2026_{m}" for m in ("05", "06", "07")]


async def test_a_partition_has_the_index_and_the_checks_of_its_parent(database: Database) -> None:
    await ensure(database, us(2026, 5))
    assert (
        database.one("SELECT count(*) FROM pg_index WHERE indrelid = 'iot_service.sensor_readings_2026_05'::regclass")
        == 1
    )
    assert (
        database.query(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'iot_service.sensor_readings_2026_05'::regclass"
            " AND contype = 'c'"
        )
        == []
    )


async def test_room_is_made_ahead(database: Database) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        for _ in range(2):
            await NativePartitions().make_ahead(connection, us(2026, 11, 30), 3)
    finally:
        await connection.close()
    assert partitions(database) == [f"sensor_readings_{m}" for m in ("2026_11", "2026_12", "2027_01", "2027_02")]


async def test_a_partition_that_was_archived_meanwhile_is_not_missed_by_a_new_connection(database: Database) -> None:
    await ensure(database, us(2026, 5))
    database.query("ALTER TABLE iot_service.sensor_readings DETACH PARTITION iot_service.sensor_readings_2026_05")
    database.query("ALTER TABLE iot_service.sensor_readings_2026_05 SET SCHEMA public")
    await ensure(database, us(2026, 5))
    assert partitions(database) == ["sensor_readings_2026_05"]


@given(st.integers(0, 4_000_000_000_000_000))
def test_every_time_lies_in_its_month(unix_us: int) -> None:
    month = Month.of(unix_us)
    at = datetime.fromtimestamp(unix_us / 1_000_000, UTC)
    assert month.start <= at.replace(microsecond=0) < month.next().start
    assert month < month.next()
