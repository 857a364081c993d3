"""From one flavour into the other, and back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from ingest_server.storage import erasure
from ingest_server.storage.backup.loading import open_backup
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.months import archive
from ingest_server.storage.partitions import Month
from ingest_server.storage.rollups import refresh_all
from tests.ingest_server.backup.conftest import NOW, content, made, restored
from tests.ingest_server.line import open_writer
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
    scope = erasure.Scope("seoul-1", None, "hall-1", None, NOW - timedelta(days=30))
    async with open_writer(history) as writer:
        erasure_id, _ = await erasure.request(writer.connection, scope, reason="asked for", by="test")
        removed = await erasure.carry_out(writer.connection, erasure_id)
        (entry,) = [e for e in await erasure.listed(writer.connection) if e.erasure_id == erasure_id]
        rules = [(entry, await erasure.intervals(writer.connection, erasure_id))]
    done = await restored(path, timescale_database, erasures=rules)
    assert (done.erasures, done.erased) == (1, removed)
    assert content(timescale_database)["sensor_readings"] == content(history)["sensor_readings"]
