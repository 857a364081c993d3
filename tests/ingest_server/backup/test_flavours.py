"""From one flavour into the other, and back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from ingest_server.config import IngestConfig, pools_of
from ingest_server.jobs.context import Context
from ingest_server.jobs.running import run as run_job
from ingest_server.jobs.work import JOBS
from ingest_server.storage.backup.loading import open_backup
from ingest_server.storage.erasure import erasing
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.keeping.months import archive
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.partitions import Month
from tests.ingest_server.backup.conftest import NOW, content, made, restored
from tests.ingest_server.backup.test_round_trip import indexes_of
from tests.ingest_server.line import DAY, NOW_US, open_writer
from tests.ingest_server.rollup_oracle import Rollups, brute_force, stored
from tests.peers.postgres import Database


def added(rollups: Rollups) -> list[dict[tuple[int, Any], tuple[float, ...]]]:
    """What adds up. Of two readings of one microsecond, which there are, TimescaleDB may take either as the first."""
    return [
        {key: (b.total, b.readings, b.minimum, b.maximum) for key, b in level.items()}
        for level in (rollups.minutes, rollups.hours, rollups.days, rollups.site_days)
    ]


async def test_a_native_backup_becomes_a_hypertable_and_comes_back(
    history: Database, timescale_database: Database, target: Database, directory: Path
) -> None:
    done = await restored(made(history, directory), timescale_database)
    assert (done.flavour, done.warnings) == (Flavour.TIMESCALEDB, ())
    assert content(timescale_database) == content(history)
    async with open_writer(timescale_database) as writer:
        await refresh_all(writer.connection)
    series = [n for (n,) in history.query("SELECT series_id FROM iot_service.series")]
    assert added(stored(timescale_database, series)) == added(brute_force(timescale_database, series, "Asia/Seoul"))
    back = made(timescale_database, directory / "back")
    manifest = open_backup(back).manifest
    assert manifest.flavour is Flavour.TIMESCALEDB
    # By months here, too.
    assert len([f for f in manifest.files if f.table == "iot_service.sensor_readings"]) == 4
    await restored(back, target)
    assert content(target) == content(history)


async def test_rollups_that_timescaledb_cannot_take_are_told(
    history: Database, timescale_database: Database, directory: Path
) -> None:
    async with open_writer(history) as writer:
        await archive(writer.connection, Month(2026, 9))
    done = await restored(made(history, directory), timescale_database)
    assert [w.split(":")[0] for w in done.warnings] == ["iot_service.rollup_1h", "iot_service.rollup_1d"]
    assert content(timescale_database)["sensor_readings"] == content(history)["sensor_readings"]
    days = "SELECT t::text FROM iot_service.rollup_site_day t WHERE reading_date < '2026-09-01' ORDER BY 1"
    assert timescale_database.query(days) == history.query(days) != []


async def test_a_hypertable_that_is_restored_keeps_what_was_erased_out(
    history: Database, timescale_database: Database, directory: Path
) -> None:
    path = made(history, directory)
    scope = erasing.Scope("seoul-1", None, "hall-1", None, NOW - timedelta(days=30))
    async with open_writer(history) as writer:
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="asked for", by="test")
        removed = await erasing.carry_out(writer.connection, erasure_id)
        (entry,) = [e for e in await erasing.listed(writer.connection) if e.erasure_id == erasure_id]
        rules = [(entry, await erasing.intervals(writer.connection, erasure_id))]
    done = await restored(path, timescale_database, erasures=rules)
    assert (done.erasures, done.erased) == (1, removed)
    assert content(timescale_database)["sensor_readings"] == content(history)["sensor_readings"]


async def test_archived_months_are_archived_months_of_a_hypertable_too(
    history: Database, timescale_database: Database, target: Database, directory: Path
) -> None:
    """Plain tables, which erasures reach, backups hold, and retention drops in their time."""
    async with open_writer(history) as writer:
        assert await archive(writer.connection, Month(2026, 9)) == [Month(2026, 8)]
    names = ["sensor_readings_2026_08", "rollup_1m_2026_08"]
    await restored(made(history, directory, with_archive=True), timescale_database)
    for name in names:
        assert archived(timescale_database, name) == archived(history, name) != []
    parent = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'iot_service.sensor_readings'::regclass"
    assert [i.partition(" USING ")[2] for i in indexes_of(timescale_database, names[0])] == [
        i.partition(" USING ")[2] for (i,) in timescale_database.query(parent)
    ]
    assert indexes_of(timescale_database, names[1]) == indexes_of(history, names[1])
    # And back.
    await restored(made(timescale_database, directory / "back", with_archive=True), target)
    for name in names:
        assert archived(target, name) == archived(history, name)
        assert indexes_of(target, name) == indexes_of(history, name)

    scope = erasing.Scope("seoul-1", None, "hall-1", None, NOW)
    async with open_writer(timescale_database) as writer:
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="asked for", by="test")
        await erasing.carry_out(writer.connection, erasure_id)
    assert all(archived(timescale_database, name) == [] for name in names)

    assert await dropped_after(timescale_database, 32) == "dropped nothing"
    assert await dropped_after(timescale_database, 34) == "dropped 2026-08"
    assert timescale_database.one("SELECT to_regclass('archive.sensor_readings_2026_08')") is None


async def dropped_after(database: Database, months: int) -> str:
    """What the job `retention` says so much later."""
    config = IngestConfig.model_validate({"database": {"dsn": database.dsn}})
    pools = pools_of(config.database)
    context = Context(pools, Flavour.TIMESCALEDB, config, lambda: NOW_US + months * 31 * DAY)
    try:
        done = await run_job(next(job for job in JOBS if job.name == "retention"), context)
    finally:
        await pools.end()
    assert done.ok
    return done.detail.split("; ")[-1]


def archived(database: Database, name: str) -> list[str]:
    return [row for (row,) in database.query(f"SELECT t::text FROM archive.{name} t ORDER BY 1")]
