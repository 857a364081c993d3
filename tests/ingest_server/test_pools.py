"""Pools: each with its own bound and timeouts, and none takes another's."""

import asyncio
import contextlib

import pytest
from psycopg.errors import QueryCanceled

from ingest_server.config import DatabaseOptions, pools_of
from ingest_server.errors import StorageUnavailable
from ingest_server.storage import pools
from ingest_server.storage.connection import translated
from ingest_server.storage.pools import Pool, PoolOptions
from tests.peers.postgres import Database


def pool(database: Database, most: int, statement_timeout_s: float = 30.0) -> Pool:
    return Pool(PoolOptions("test", database.dsn, most, statement_timeout_s, 1.0))


def sessions(database: Database) -> dict[str, int]:
    return dict(
        database.query(
            "SELECT application_name, count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'heal7-iot%' GROUP BY 1"
        )
    )


async def test_never_more_than_its_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_WAIT_S", 0.05)
    two = pool(database, 2)
    async with two.connection(), two.connection():
        with pytest.raises(StorageUnavailable, match="all 2 connections for test are in use"):
            await two.open()
        assert sessions(database) == {"heal7-iot test": 2}
    # And it is not used up by having been refused.
    async with two.connection(), two.connection():
        pass
    await two.end()


async def test_whoever_waits_gets_the_next_that_is_free(database: Database) -> None:
    one = pool(database, 1)
    order: list[int] = []

    async def use(number: int) -> None:
        async with one.connection() as connection:
            await connection.execute("SELECT")
            order.append(number)

    await asyncio.gather(*(use(n) for n in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert sessions(database) == {"heal7-iot test": 1}
    await one.end()


async def test_a_connection_is_used_again_but_not_after_an_error(database: Database) -> None:
    one = pool(database, 1)
    pids = []
    for fails in (False, False, True, False):
        with contextlib.suppress(ZeroDivisionError):
            async with one.connection() as connection:
                pids.append(connection.info.backend_pid)
                if fails:
                    raise ZeroDivisionError
    assert pids[0] == pids[1] == pids[2] != pids[3]
    await one.end()


async def test_a_connection_that_lay_idle_for_long_is_not_trusted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_IDLE_S", 0.0)
    one = pool(database, 1)
    async with one.connection() as connection:
        first = connection.info.backend_pid
    async with one.connection() as connection:
        assert connection.info.backend_pid != first
    await one.end()


async def test_a_heavy_chart_ends_by_its_own_timeout_and_takes_no_writer_along(database: Database) -> None:
    three = pools_of(
        DatabaseOptions.model_validate(
            {"dsn": database.dsn, "read": {"max_connections": 1, "statement_timeout_s": 1.0}}
        )
    )
    try:
        async with three.write.connection() as writer, three.background.connection() as job:
            with pytest.raises(StorageUnavailable) as failed, translated():
                async with three.read.connection() as reader:
                    await reader.execute("SELECT pg_sleep(30)")
            assert isinstance(failed.value.__cause__, QueryCanceled)
            await writer.execute("SELECT")
            cursor = await job.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            assert await cursor.fetchone() == ("1h", "2s")
            assert sessions(database) == {"heal7-iot write": 1, "heal7-iot background": 1}
    finally:
        await three.end()


async def test_each_may_log_in_as_another_role(database: Database) -> None:
    reader = "pool_reader"
    database.query(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{reader}') THEN"
        f" CREATE ROLE {reader} LOGIN IN ROLE iot_reader; END IF; END $$"
    )
    three = pools_of(
        DatabaseOptions.model_validate(
            {"dsn": database.dsn, "read": {"dsn": database.dsn.replace("user=postgres", f"user={reader}")}}
        )
    )
    try:
        found = []
        for each in (three.write, three.read, three.background):
            async with each.connection() as connection:
                cursor = await connection.execute("SELECT current_user")
                found += await cursor.fetchall()
        assert found == [("postgres",), (reader,), ("postgres",)]
    finally:
        await three.end()


async def test_a_database_that_is_away_says_why(database: Database) -> None:
    gone = Pool(PoolOptions("test", database.dsn.replace(database.name, "no_such_database"), 1, 30.0, 1.0))
    for _ in range(3):  # a failure takes nothing of the bound
        with pytest.raises(StorageUnavailable, match="no_such_database"):
            await gone.open()
