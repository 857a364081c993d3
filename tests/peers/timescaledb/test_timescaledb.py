"""What TimescaleDB's SQL does here, through the gateway: what later migrations and their tests stand on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from psycopg import errors

from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.line.rows import Rows
from tests.peers.postgres import Database
from tests.peers.timescaledb.server import emptied

FIRST_US = 1_767_225_600_000_000  # 2026-01-01, in Unix µs
DAY_US = 86_400_000_000
TABLES = (
    "CREATE SCHEMA iot_service",
    "CREATE TABLE iot_service.ledger (epoch bigint, seq bigint, readings int, PRIMARY KEY (epoch, seq))",
    """CREATE TABLE iot_service.sensor_readings (recorded_at timestamptz NOT NULL, value float8 NOT NULL,
       series_id int NOT NULL, causes int NOT NULL, reliability smallint NOT NULL)""",
    "SELECT create_hypertable('iot_service.sensor_readings', by_range('recorded_at', interval '1 day'))",
)
COUNT = "SELECT count(*) FROM iot_service.sensor_readings"


@pytest.fixture
def hypertable(timescale_database: Database) -> Database:
    for statement in TABLES:
        timescale_database.query(statement)
    return timescale_database


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Connection]:
    """A connection as the ingest server makes it."""
    connection = await connect(database.dsn, "test", 30)
    try:
        yield connection
    finally:
        await connection.close()


def readings(count: int, days: float, first_us: int = FIRST_US) -> Rows:
    ints = np.zeros(count, np.int32)
    times = first_us + np.linspace(0, days * DAY_US, count, endpoint=False).astype(np.int64)
    return Rows(times, ints + 1, np.arange(count, dtype=np.float64), ints, ints)


async def write(connection: Connection, rows: Rows, seq: int) -> None:
    """Readings and their ledger row in one transaction, as the writer does."""
    async with connection.transaction():
        async with connection.cursor() as cursor:
            ((statement, content),) = rows.copies()
            async with cursor.copy(statement.encode()) as copy:
                await copy.write(content)
            assert cursor.rowcount == len(rows)
        await connection.execute("INSERT INTO iot_service.ledger VALUES (%s, %s, %s)", (1, seq, len(rows)))


async def write_nonsense(connection: Connection) -> None:
    ((statement, _),) = readings(10, days=1).copies()
    async with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write(b"no header of a binary COPY")


async def give_up(connection: Connection) -> None:
    ((statement, content),) = readings(10, days=1).copies()
    async with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write(content)
        raise ValueError("gave up")


def policy(database: Database, proc_name: str) -> int:
    job = database.one("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s", proc_name)
    assert isinstance(job, int)
    return job


def test_the_extension_is_there_with_what_the_community_licence_brings(timescale_database: Database) -> None:
    assert timescale_database.one("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") >= "2.23"
    assert timescale_database.one("SHOW timescaledb.license") == "timescale"


async def test_readings_and_their_ledger_row_commit_together(hypertable: Database) -> None:
    async with connected(hypertable) as connection:
        await write(connection, readings(10_000, days=3), seq=1)
    assert hypertable.one(COUNT) == 10_000
    assert hypertable.one("SELECT sum(value) FROM iot_service.sensor_readings") == sum(range(10_000))
    assert hypertable.query("SELECT * FROM iot_service.ledger") == [(1, 1, 10_000)]
    assert hypertable.one("SELECT count(*) FROM timescaledb_information.chunks") == 3


async def test_a_copy_that_fails_takes_the_transaction_with_it(hypertable: Database) -> None:
    async with connected(hypertable) as connection:
        await write(connection, readings(10, days=1), seq=1)
        with pytest.raises(errors.UniqueViolation):
            await write(connection, readings(10, days=1), seq=1)
        with pytest.raises(errors.BadCopyFileFormat):
            await write_nonsense(connection)
        with pytest.raises(ValueError, match="gave up"):
            await give_up(connection)
        # The connection is as good as before.
        await write(connection, readings(10, days=1), seq=2)
    assert hypertable.one(COUNT) == 20


def test_a_continuous_aggregate_is_filled_when_it_is_refreshed(hypertable: Database) -> None:
    hypertable.query(
        "CREATE MATERIALIZED VIEW iot_service.hourly WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('1 hour', recorded_at) AS hour, series_id, max(value) FROM iot_service.sensor_readings"
        " GROUP BY 1, 2 WITH NO DATA"
    )
    hypertable.query(
        "INSERT INTO iot_service.sensor_readings"
        " SELECT '2026-01-01'::timestamptz + n * interval '1 minute', n, 1, 0, 0 FROM generate_series(0, 179) n"
    )
    assert hypertable.query("SELECT * FROM iot_service.hourly") == []
    hypertable.query("CALL refresh_continuous_aggregate('iot_service.hourly', NULL, NULL)")
    assert [row[2] for row in hypertable.query("SELECT * FROM iot_service.hourly ORDER BY hour")] == [59, 119, 179]


async def test_a_compressed_chunk_takes_late_readings(hypertable: Database) -> None:
    async with connected(hypertable) as connection:
        await write(connection, readings(2_000, days=2), seq=1)
        hypertable.query(
            "ALTER TABLE iot_service.sensor_readings SET (timescaledb.enable_columnstore,"
            " timescaledb.segmentby = 'series_id', timescaledb.orderby = 'recorded_at')"
        )
        hypertable.query("CALL add_columnstore_policy('iot_service.sensor_readings', after => interval '1 day')")
        chunk, other = (row[0] for row in hypertable.query("SELECT show_chunks('iot_service.sensor_readings')::text"))
        hypertable.query(f"CALL convert_to_columnstore('{chunk}')")
        await write(connection, readings(50, days=0.01), seq=2)
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
    assert hypertable.one(compressed) == 1
    assert hypertable.one(COUNT) == 2_050
    # The policy does it with what is left; nothing does so in the background.
    hypertable.query(f"CALL run_job({policy(hypertable, 'policy_compression')})")
    assert hypertable.one(compressed) == 2, other
    assert hypertable.one(COUNT) == 2_050


def test_retention_drops_old_chunks_when_its_job_is_run(hypertable: Database) -> None:
    hypertable.query(
        "INSERT INTO iot_service.sensor_readings"
        " SELECT now() - n * interval '1 day', n, 1, 0, 0 FROM generate_series(0, 19) n"
    )
    hypertable.query("SELECT add_retention_policy('iot_service.sensor_readings', interval '10 days')")
    assert hypertable.one(COUNT) == 20
    hypertable.query(f"CALL run_job({policy(hypertable, 'policy_retention')})")
    assert 10 <= hypertable.one(COUNT) <= 12


def test_a_test_leaves_nothing_to_the_next(hypertable: Database) -> None:
    hypertable.query("SELECT add_retention_policy('iot_service.sensor_readings', interval '10 days')")
    test_a_continuous_aggregate_is_filled_when_it_is_refreshed(hypertable)
    with emptied(hypertable):
        for remains in ("hypertables", "chunks", "continuous_aggregates", "jobs WHERE job_id >= 1000"):
            assert hypertable.query(f"SELECT * FROM timescaledb_information.{remains}") == []
        assert hypertable.one("SELECT to_regnamespace('iot_service')") is None
        assert isinstance(hypertable.one("SELECT time_bucket('1 day', now())::text"), str)


def test_another_database_is_refused(timescale_database: Database) -> None:
    """Every name would lead to the same one: two tests' databases would be one without a word."""
    with pytest.raises(psycopg.OperationalError, match='database "other" does not exist'):
        Database(timescale_database.server, "other").query("SELECT 1")
