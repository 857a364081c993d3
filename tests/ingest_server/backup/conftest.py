"""A database with a history, its backup, and places to restore it into."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest_server.storage.backup.dumping import dump
from ingest_server.storage.backup.loading import Restored, Rules, check_files, open_backup, restore
from ingest_server.storage.backup.manifest import MANIFEST, SUMS
from ingest_server.storage.backup.progress import Progress, Unwatched
from ingest_server.storage.backup.tables import KEPT
from ingest_server.storage.connection import connect
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.erasure import erasing
from ingest_server.storage.frames.reading import undecoded
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.corrected import Calibration
from ingest_server.storage.registry import places
from tests.ingest_server.line import (
    DAY,
    HUMIDITY,
    NOW_US,
    SECOND,
    TEMPERATURE,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
)
from tests.peers.postgres import Database, new_database, run

UNWATCHED = Unwatched()
NOW = datetime.fromtimestamp(NOW_US // 1_000_000, UTC)


async def _live(database: Database) -> None:
    """Three months of two series; duplicates, a gap, quarantine, an erasure, placements, a site of another calendar."""
    async with running_line(database) as line:
        for seq in range(12):
            at_us = NOW_US - 8 * seq * DAY
            readings = [
                reading(seq + n / 4, at_us - n * 61 * SECOND, TEMPERATURE if n % 2 else HUMIDITY) for n in range(20)
            ]
            await line.settle(data(seq, readings, before=20 * seq))
        await line.settle(data(3, [reading()], before=60))
        await line.settle(gap(12, [dropped(13, [7, 9])], before=240))
        await line.settle(data(15, [reading(float("nan")), reading(1.5)], before=256), data(17, before=300))
        await line.settle(data(18, [reading(float("inf"))], before=302))
    async with open_writer(database) as writer:
        connection = writer.connection
        await places.set_time_zone(connection, "seoul-1", "Asia/Seoul")
        await places.place(connection, "seoul-1", "hall-1", "hall", "ceiling", NOW - timedelta(days=200))
        scope = erasing.Scope("seoul-1", None, "hall-1", NOW - timedelta(days=17), NOW - timedelta(days=15))
        erasure_id, _ = await erasing.request(connection, scope, reason="asked for", by="test")
        await erasing.carry_out(connection, erasure_id)
        await refresh_all(connection)
        device = await entries.device_id(connection, "seoul-1", "hall-1")
        calibration = Calibration(0, "temperature", "°C", NOW_US - 20 * DAY, (-0.25, 1.0))
        number = await entries.calibrate(connection, device, calibration, Signed("test", "a reference"))
        await carry_out(connection, number, undecoded)


def give_a_history(database: Database) -> None:
    run(_live(database))
    for statement in (
        (
            "INSERT INTO iot_service.user_behavior_patterns (location_id, visit_date, time_slot, dwell_time_minutes,"
            " interaction_points, movement_pattern, preference_indicators, environmental_preferences)"
            " SELECT location_id, '2026-11-20', 'morning', 10, 2, 'staying', '{}', '{}' FROM iot_service.zones"
        ),
        "INSERT INTO iot_service.profile_channels VALUES ('bthome_v2', 'temperature', '±0.1', -40, 85)",
        (
            "INSERT INTO iot_service.raw_frames (device_id, profile, firmware, first_at, last_at, frames, content)"
            " SELECT device_id, 'bthome_v2', '2.1', now(), now(), 1, '\\x00' FROM iot_service.iot_devices"
        ),
        # A number that was given out and is gone.
        "DELETE FROM iot_service.quarantine WHERE seq = 18",
    ):
        database.query(statement)


def content(database: Database) -> dict[str, list[str]]:
    """Every row of every table that a backup holds, as text."""
    names = [
        name
        for (name,) in database.query(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('iot_service')"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        if name in KEPT
    ]
    return {
        name: [row for (row,) in database.query(f"SELECT t::text FROM iot_service.{name} t ORDER BY 1")]
        for name in names
    }


def made(database: Database, directory: Path, progress: Progress = UNWATCHED, *, with_archive: bool = False) -> Path:
    """A backup."""
    return dump(database.dsn, directory, progress, with_archive=with_archive).path


async def restored(
    path: Path, target: Database, *, as_copy: bool = False, erasures: Rules = (), progress: Progress = UNWATCHED
) -> Restored:
    backup = open_backup(path)
    assert await check_files(backup, UNWATCHED) == []
    connection = await connect(target.dsn, "test", 0)
    try:
        return await restore(connection, backup, progress, as_copy=as_copy, erasures=erasures)
    finally:
        await connection.close()


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest, and makes its checksum fit: as somebody would who knows how."""
    said = json.loads((path / MANIFEST).read_text())
    change(said)
    written = json.dumps(said).encode()
    (path / MANIFEST).write_bytes(written)
    lines = [f"{hashlib.sha256(written).hexdigest()}  {MANIFEST}"]
    lines += [f"{file['sha256']}  {file['name']}" for file in said["files"]]
    (path / SUMS).write_text("\n".join(lines) + "\n")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def history(database: Database) -> Database:
    give_a_history(database)
    return database


@pytest.fixture
def target(database: Database) -> Iterator[Database]:
    """A database beside `database` without anything in it."""
    with new_database(database.server, "template1") as beside:
        yield beside


@pytest.fixture
def any_target(any_database: Database) -> Iterator[Database]:
    """A database beside `any_database` without anything in it."""
    with new_database(any_database.server, "template1") as beside:
        yield beside
