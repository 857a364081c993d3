"""Jobs: one leader, never two runs at once, each on record, a failed one visible and tried again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import AdminShutdown

from ingest_server.config import BackupsOptions, IngestConfig, pools_of
from ingest_server.errors import StorageUnavailable
from ingest_server.jobs.context import Context
from ingest_server.jobs.running import run
from ingest_server.jobs.schedule import Schedule
from ingest_server.jobs.work import JOBS, Job
from ingest_server.storage.backup.dumping import dump
from ingest_server.storage.backup.progress import Unwatched
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.flavour import recorded
from ingest_server.storage.keeping import job_runs
from ingest_server.storage.line.corrected import Calibration
from tests.ingest_server.command_line import run as run_command
from tests.ingest_server.line import NOW_US, PATIENCE_S, SECOND, TEMPERATURE, data, reading, settle
from tests.ingest_server.rollup_oracle import us_of
from tests.peers.postgres import Database

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@asynccontextmanager
async def jobs_on(database: Database, background: int = 4) -> AsyncIterator[Context]:
    """background: connections at once."""
    options = {"dsn": database.dsn, "background": {"max_connections": background}}
    config = IngestConfig.model_validate({"database": options})
    pools = pools_of(config.database)
    try:
        async with pools.background.connection() as connection:
            flavour = await recorded(connection)
        assert flavour is not None
        yield replace(Context.of(config, pools, flavour), wall_us=lambda: us_of(NOW))
    finally:
        await pools.end()


def job(work: Callable[[Context, Connection], Awaitable[str]], name: str = "test", every_s: int = 3_600) -> Job:
    return Job(name, "", lambda _context: every_s, work)


def runs(database: Database) -> list[tuple[str, bool | None, str | None]]:
    return [
        (name, ok, detail)
        for name, ok, detail in database.query("SELECT job, ok, detail FROM iot_service.job_runs ORDER BY run_id")
    ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- it is another process's table
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", [j.name for j in JOBS])
async def test_every_job_runs_on_an_empty_database_of_each_flavour(name: str, flavoured: Database) -> None:
    async with jobs_on(flavoured) as context:
        outcome = await run(next(j for j in JOBS if j.name == name), context)
    assert outcome.ok is True, outcome.detail
    assert runs(flavoured) == [(name, True, outcome.detail)]


async def test_a_job_never_runs_twice_at_once(any_database: Database) -> None:
    begun, free = asyncio.Event(), asyncio.Event()

    async def work(_context: Context, _connection: Connection) -> str:
        begun.set()
        await free.wait()
        return "done"

    async with jobs_on(any_database) as first, jobs_on(any_database) as second:
        running = asyncio.create_task(run(job(work), first))
        await begun.wait()
        assert (await run(job(work), second)).ok is None
        other = asyncio.create_task(run(job(work, "another"), second))
        free.set()
        assert (await running).ok is True
        assert (await other).ok is True
        assert (await run(job(work), second)).ok is True
    assert [name for name, _, _ in runs(any_database)].count("test") == 2


async def test_a_failed_run_is_on_record_with_its_reason(database: Database) -> None:
    async def work(_context: Context, _connection: Connection) -> str:
        raise StorageUnavailable("no room on the moon")

    async with jobs_on(database) as context:
        assert (await run(job(work), context)).ok is False
    assert runs(database) == [("test", False, "no room on the moon")]


async def test_a_run_whose_connection_breaks_is_on_record(any_database: Database) -> None:
    async def work(_context: Context, connection: Connection) -> str:
        with contextlib.suppress(AdminShutdown, psycopg.OperationalError):
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise StorageUnavailable("it went away")

    async with jobs_on(any_database) as context, jobs_on(any_database, background=2) as narrow:
        # The leader keeps one of the two.
        async with narrow.pools.background.connection():
            assert (await run(job(work, "narrow"), narrow)).ok is False
        any_database.query("DELETE FROM iot_service.job_runs")
        assert (await run(job(work), context)).ok is False
        assert runs(any_database) == [("test", False, "it went away")]


async def test_a_bug_is_on_record_and_loud(database: Database) -> None:
    async def work(_context: Context, _connection: Connection) -> str:
        raise ZeroDivisionError("a bug")

    async with jobs_on(database) as context:
        with pytest.raises(ZeroDivisionError):
            await run(job(work), context)
    assert runs(database) == [("test", False, "ZeroDivisionError: a bug")]


async def test_a_run_that_died_is_told_by_the_next(database: Database) -> None:
    database.query("INSERT INTO iot_service.job_runs (job, server) VALUES ('test', 'a:1'), ('other', 'a:1')")

    async def work(_context: Context, _connection: Connection) -> str:
        return "done"

    async with jobs_on(database) as context:
        await run(job(work), context)
    assert runs(database) == [
        ("test", False, "its server stopped, or died"),
        ("other", None, None),
        ("test", True, "done"),
    ]


async def test_one_of_several_servers_leads_and_another_takes_over(any_database: Database) -> None:
    async def work(context: Context, _connection: Connection) -> str:
        return "first" if context is contexts[0] else "second"

    async with jobs_on(any_database) as a, jobs_on(any_database) as b:
        contexts = [a, b]
        tasks = [
            asyncio.create_task(Schedule(context, (job(work, every_s=1),), look_every_s=0.05).run())
            for context in contexts
        ]
        await until(lambda: len(runs(any_database)) >= 2)
        (leader,) = {detail for _, _, detail in runs(any_database) if detail is not None}
        tasks[0 if leader == "first" else 1].cancel()
        follower = "second" if leader == "first" else "first"
        await until(lambda: any(detail == follower for _, _, detail in runs(any_database)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_leader_whose_connection_is_lost_steps_down_and_leads_again(any_database: Database) -> None:
    ran = 0

    async def work(_context: Context, _connection: Connection) -> str:
        nonlocal ran
        ran += 1
        return ""

    async with jobs_on(any_database) as context:
        task = asyncio.create_task(Schedule(context, (job(work),), look_every_s=0.05).run())
        await until(lambda: ran == 1)
        any_database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s",
            job_runs.LEADER_LOCK & 0xFFFF_FFFF,
        )
        # Leading anew runs every job at once: what happened meanwhile is not known.
        await until(lambda: ran == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_failed_job_is_tried_again_before_its_turn(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_server.jobs.schedule._RETRY_FIRST_S", 0.05)
    attempts = 0

    async def work(_context: Context, _connection: Connection) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise StorageUnavailable("not yet")
        return "at last"

    async with jobs_on(database) as context:
        task = asyncio.create_task(Schedule(context, (job(work),), look_every_s=0.05).run())
        await until(lambda: len(runs(database)) == 4)
        await until(lambda: runs(database)[-1][1] is True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [ok for _, ok, _ in runs(database)] == [False, False, False, True]


async def test_old_runs_are_forgotten_but_the_newest_of_each_job(database: Database) -> None:
    database.query(
        "INSERT INTO iot_service.job_runs (job, server, started_at, finished_at, ok)"
        " SELECT job, 's', at, at, ok FROM (VALUES ('a', now() - interval '8 days', true),"
        " ('a', now() - interval '8 days', false), ('a', now() - interval '91 days', false),"
        " ('a', now() - interval '8 days', true), ('b', now() - interval '1 year', true)) AS r (job, at, ok)"
    )
    connection = await connect(database.dsn, "test", 30)
    try:
        assert await job_runs.prune(connection) == 2
    finally:
        await connection.close()
    assert database.query("SELECT job, ok FROM iot_service.job_runs ORDER BY run_id") == [
        ("a", False),
        ("a", True),
        ("b", True),
    ]


async def test_the_newest_backup_is_verified(database: Database, tmp_path: Path) -> None:
    await settle(database, data(0), data(1))
    jobs = {j.name: j for j in JOBS}
    async with jobs_on(database) as context:
        with_folder = context.config.model_copy(
            update={"backups": BackupsOptions(folder=tmp_path), "books": context.config.books}
        )
        context = replace(context, config=with_folder, wall_us=lambda: time.time_ns() // 1000)
        outcome = await run(jobs["backups"], context)
        assert (outcome.ok, "no backup in it" in outcome.detail) == (False, True)
        made = await asyncio.to_thread(dump, database.dsn, tmp_path, Unwatched())
        outcome = await run(jobs["backups"], context)
        assert outcome.ok, outcome.detail
        stale = replace(context, wall_us=lambda: time.time_ns() // 1000 + 37 * 3_600_000_000)
        outcome = await run(jobs["backups"], stale)
        assert (outcome.ok, "37 h old" in outcome.detail) == (False, True)
        damaged = next(p for p in made.path.iterdir() if "sensor_readings" in p.name)
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        outcome = await run(jobs["backups"], context)
        assert (outcome.ok, damaged.name in outcome.detail) == (False, True)


def test_commands(capsys: pytest.CaptureFixture[str], database: Database, tmp_path: Path) -> None:
    listed = run_command(capsys, "jobs", "list", "--dsn", database.dsn)
    assert listed.code == 0
    assert "never ran" in listed.out
    config = tmp_path / "ingest.toml"
    config.write_text(f'[database]\ndsn = "{database.dsn}"\n')
    ran = run_command(capsys, "jobs", "run", "partitions", "--config", str(config), "--json")
    assert ran.code == 0
    assert ran.json == {"job": "partitions", "ok": True, "detail": "6 months ahead"}
    assert run_command(capsys, "jobs", "run", "partition", "--config", str(config)).code == 2
    database.query("UPDATE iot_service.job_runs SET ok = false, detail = 'the moon'")
    listed = run_command(capsys, "jobs", "list", "--dsn", database.dsn, "--json")
    assert listed.code == 1
    assert {r["job"]: r["state"] for r in listed.json}["partitions"] == "FAILED"
    shown = run_command(capsys, "jobs", "list", "--runs-of", "partitions", "--dsn", database.dsn)
    assert "the moon" in shown.out


async def test_a_correction_that_the_database_refuses_holds_up_no_other(database: Database) -> None:
    """It was first in the line, each ten minutes anew."""
    lobby = replace(TEMPERATURE, device="lobby-1")
    await settle(database, data(0, [reading(1.0), reading(2.0, series=lobby)]))
    connection = await connect(database.dsn, "test", 60)
    try:
        for device in (TEMPERATURE.device, lobby.device):
            rule = Calibration(0, "temperature", "°C", NOW_US - SECOND, (0.0, 2.0))
            number = await entries.device_id(connection, "seoul-1", device)
            await entries.calibrate(connection, number, rule, Signed("kim", "the reference said so"))
        database.query(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'too much' USING ERRCODE = 'numeric_value_out_of_range'; END $$",
        )
        database.query(
            "CREATE TRIGGER refuse BEFORE INSERT ON iot_service.sensor_readings FOR EACH ROW"
            " WHEN (NEW.value = 2 AND NEW.raw_value = 1) EXECUTE FUNCTION refuse()"
        )
        async with jobs_on(database) as context:
            done = await run(next(job for job in JOBS if job.name == "corrections"), context)
        assert await entries.unfinished(connection) == [1]
    finally:
        await connection.close()
    assert not done.ok
    assert "correction 1: " in done.detail
    assert "too much" in done.detail
    assert "1 finished, 1 readings written anew" in done.detail
    assert sorted(database.query("SELECT value, raw_value FROM iot_service.sensor_readings")) == [
        (1.0, None),
        (4.0, 2.0),
    ]
