"""Many connections on one backend: what one does is not seen by another before it should be, nor left to it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from ingest_server.storage.connection import Connection, connect
from tests.contracts.sources import ROOT
from tests.peers.postgres import Database
from tests.peers.timescaledb.server import running_timescaledb


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Connection]:
    connection = await connect(database.dsn, "test", 30)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def after(connection: Connection, sql: str, value: int) -> AsyncIterator[None]:
    """Within a transaction, after a statement of it."""
    async with connection.transaction():
        await connection.execute(sql.encode(), (value,))
        yield


@pytest.fixture
def table(timescale_database: Database) -> Database:
    timescale_database.query("CREATE SCHEMA iot_service")
    timescale_database.query("CREATE TABLE iot_service.t (n int PRIMARY KEY)")
    return timescale_database


INSERT = "INSERT INTO iot_service.t VALUES (%s)"
ALL = "SELECT n FROM iot_service.t ORDER BY n"


async def test_one_waits_for_the_others_transaction(table: Database) -> None:
    async with connected(table) as one, connected(table) as two:
        async with one.transaction():
            await one.execute(INSERT, (1,))
            seen = asyncio.create_task(two.execute(ALL))
            await one.execute(INSERT, (2,))
            assert not seen.done()
        assert await (await seen).fetchall() == [(1,), (2,)]


async def test_an_error_in_a_transaction_ends_with_its_rollback(table: Database) -> None:
    async with connected(table) as one, connected(table) as two:
        with pytest.raises(errors.DivisionByZero):
            async with after(one, INSERT, 1), one.transaction():
                await one.execute("SELECT 1 / 0")
        async with one.transaction():
            await one.execute(INSERT, (2,))
            with pytest.raises(errors.UniqueViolation):
                async with one.transaction():
                    await one.execute(INSERT, (2,))
            await one.execute(INSERT, (3,))
        assert await (await two.execute(ALL)).fetchall() == [(2,), (3,)]


@pytest.mark.parametrize("busy", ["in a transaction", "in a COPY"])
def test_of_a_client_that_vanished_nothing_stays(table: Database, busy: str) -> None:
    """kill -9 in the middle: the backend is free for others, and the transaction is rolled back."""
    program = f"""
import psycopg, sys, time
connection = psycopg.connect(sys.argv[1])
connection.execute({INSERT!r}, (1,))
with connection.cursor().copy("COPY iot_service.t FROM STDIN") if {busy == "in a COPY"} else connection as work:
    if {busy == "in a COPY"}:
        work.write("2\\n" * 100_000)
    print("there", flush=True)
    time.sleep(60)
"""
    client = subprocess.Popen([sys.executable, "-c", program, table.dsn], stdout=subprocess.PIPE)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"there\n"
    finally:
        client.send_signal(signal.SIGKILL)
        client.communicate()
    assert table.query(ALL) == []
    table.query(INSERT, 1)


async def test_settings_and_roles_are_a_connections_own(table: Database) -> None:
    async with connected(table) as one, connected(table) as two:
        await one.execute("CREATE ROLE gateway_test")
        try:
            await one.execute("SET ROLE gateway_test")
            await one.execute("SET search_path = 'a b', iot_service")
            shown = "SELECT current_user, current_setting('search_path'), current_setting('statement_timeout')"
            assert await (await two.execute(shown)).fetchone() == ("postgres", '"$user", public', "30s")
            assert await (await one.execute(shown)).fetchone() == ("gateway_test", '"a b", iot_service', "30s")
            with pytest.raises(errors.InsufficientPrivilege):
                async with one.cursor() as cursor, cursor.copy("COPY iot_service.t FROM STDIN") as copy:
                    await copy.write("1\n")
        finally:
            await two.execute("DROP ROLE gateway_test")
    with psycopg.connect(table.dsn, options="-c TimeZone=Asia/Seoul") as third:
        # PGlite's own are off and debug3.
        assert third.execute("SHOW enable_seqscan").fetchone() == ("on",)
        assert third.execute("SHOW client_min_messages").fetchone() == ("notice",)
        assert third.execute("SELECT '2026-01-01'::timestamptz::text").fetchone() == ("2026-01-01 00:00:00+09",)
    with (
        pytest.raises(errors.InvalidParameterValue, match="no_such_setting"),
        psycopg.connect(table.dsn, options="-c no_such_setting=1") as wrong,
    ):
        wrong.execute("SELECT 1")


async def test_prepared_statements_of_one_name_are_two(table: Database) -> None:
    """psycopg names each connection's first one alike, and forgets all of its own after a ROLLBACK."""
    async with connected(table) as one, connected(table) as two:
        for _ in range(3):
            assert await (await one.execute("SELECT %s + 1", (1,), prepare=True)).fetchone() == (2,)
            assert await (await two.execute("SELECT %s || 'x'", ("1",), prepare=True)).fetchone() == ("1x",)
        with pytest.raises(errors.DivisionByZero):
            async with one.transaction():
                await one.execute("SELECT 1 / 0")
        await one.execute("DEALLOCATE ALL")
        assert await (await two.execute("SELECT %s || 'x'", ("1",), prepare=True)).fetchone() == ("1x",)
        names = "SELECT count(*) FROM pg_prepared_statements WHERE starts_with(statement, 'SELECT $1')"
        assert await (await two.execute(names)).fetchone() == (1,)


async def test_pipelines_and_cursors(table: Database) -> None:
    async with connected(table) as one, connected(table) as two:
        async with one.pipeline():
            cursors = [await one.execute("INSERT INTO iot_service.t VALUES (%s) RETURNING n", (n,)) for n in range(100)]
            assert [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(100)]
        with pytest.raises(errors.UniqueViolation):
            async with one.pipeline(), after(one, INSERT, 100):
                await one.execute(INSERT, (1,))
        async with one.transaction(), one.cursor("by_tens") as cursor:
            await cursor.execute(ALL)
            cursor.itersize = 10
            assert [row[0] async for row in cursor] == list(range(100))
        assert await (await two.execute("SELECT count(*) FROM iot_service.t")).fetchone() == (100,)


async def test_copy_to_stdout(table: Database) -> None:
    async with connected(table) as one:
        await one.execute("INSERT INTO iot_service.t SELECT generate_series(1, 10000)")
        async with one.cursor() as cursor:
            async with cursor.copy("COPY iot_service.t TO STDOUT") as copy:
                rows = [row async for row in copy.rows()]
            assert rows == [(str(n),) for n in range(1, 10_001)]
            # A larger answer than a socket takes at once, while the backend goes on to the next.
            async with cursor.copy("COPY (SELECT repeat('x', 1000) FROM iot_service.t) TO STDOUT") as copy:
                assert sum([len(block) async for block in copy]) == 10_000 * 1_001


async def test_a_copy_in_disguise_is_an_error_and_not_the_backends_end(table: Database) -> None:
    async with connected(table) as one:
        with pytest.raises(errors.QueryCanceled, match="only statement of a simple query"):
            async with one.cursor() as cursor, cursor.copy("/* all */ COPY iot_service.t FROM STDIN"):
                pass
        assert await (await one.execute("SELECT 1")).fetchone() == (1,)


async def test_a_notification_reaches_who_listens_and_nobody_else(table: Database) -> None:
    async with connected(table) as one, connected(table) as two, connected(table) as sender:
        await one.execute("LISTEN settled")
        await two.execute('LISTEN "Other"')
        await one.execute("UNLISTEN other")
        async with sender.transaction():
            await sender.execute("NOTIFY settled, '1'")
            assert [n async for n in one.notifies(timeout=0.05)] == []
        for payload in ("2", "3"):
            await sender.execute("SELECT pg_notify('settled', %s)", (payload,))
        heard = [n async for n in one.notifies(timeout=10, stop_after=3)]
        assert [n.payload for n in heard] == ["1", "2", "3"]
        assert {n.pid for n in heard} == {sender.info.backend_pid}
        assert [n async for n in two.notifies(timeout=0.05)] == []
        await two.execute("UNLISTEN *")
        await sender.execute("NOTIFY settled, '4'")
        assert [n.payload async for n in one.notifies(timeout=10, stop_after=1)] == ["4"]


def test_locks_of_a_session_end_with_it(table: Database) -> None:
    with psycopg.connect(table.dsn, autocommit=True) as one:
        one.execute("SELECT pg_advisory_lock(1)")
        one.execute("CREATE TEMP TABLE left_behind ()")
    assert table.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    assert table.one("SELECT to_regclass('left_behind')") is None


async def test_who_waits_for_a_transaction_without_end_is_told() -> None:
    """A test whose own other connection is in a transaction would hang for ever."""
    with running_timescaledb(longest_wait_s=0.1) as server:
        database = Database(server, server.database)
        async with connected(database) as one, connected(database) as two:
            async with one.transaction():
                await one.execute("CREATE TABLE there ()")
                with pytest.raises(errors.LockNotAvailable, match="another connection has been in a transaction"):
                    await two.execute("SELECT 1")
                with pytest.raises(errors.LockNotAvailable):
                    await in_pipeline(two)
            assert await (await two.execute("SELECT to_regclass('there')::text")).fetchone() == ("there",)


async def in_pipeline(connection: Connection) -> None:
    async with connection.pipeline():
        cursor = await connection.execute("SELECT 1")
        await cursor.fetchone()


def test_a_crash_is_told() -> None:
    """Tests that only saw connections end would blame the code under test."""
    with pytest.raises(AssertionError, match="TimescaleDB crashed"), running_timescaledb() as server:
        crash(server.pid)


def crash(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # whoever started it collects it


def test_it_ends_with_whoever_started_it() -> None:
    """kill -9 of a session of tests must leave no server behind."""
    program = """
import time
from tests.peers.timescaledb.server import running_timescaledb
with running_timescaledb() as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""
    tests = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert tests.stdout is not None
    pid = int(tests.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    tests.send_signal(signal.SIGKILL)
    tests.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        # Adopted by a process that does not collect it, it may stay as a zombie.
        if " Z " in Path(f"/proc/{pid}/stat").read_text():
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
