"""Too little disk: told beforehand where it can be known; late, nothing of it stays."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.backup import room
from ingest_server.storage.backup.errors import NotWritten, TargetRefused
from ingest_server.storage.backup.folder import newest
from ingest_server.storage.backup.loading import check_files, open_backup
from ingest_server.storage.backup.progress import Progress
from ingest_server.storage.backup.verifying import verify_backup
from ingest_server.storage.connection import connect
from ingest_server.storage.disk import disk_of_server
from tests.ingest_server.backup.conftest import UNWATCHED, content, forge, made, restored
from tests.ingest_server.backup.test_faults import one_line, scratch_databases
from tests.ingest_server.command_line import run as command
from tests.ingest_server.test_full_database_disk import fill, server, small_disk
from tests.peers.needs import wants
from tests.peers.postgres import Database

__all__ = ["server", "small_disk"]

READINGS = 60_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system for backups, as small as a test makes it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip(wants("the right to mount a tmpfs", "a disk that is really full is not tested"))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


def give_readings(database: Database) -> None:
    """So many, each with a value and a second of its own that no compressor foresees; PostgreSQL has counted them."""
    for statement in (
        "INSERT INTO iot_service.gateways (name) VALUES ('a/b')",
        "INSERT INTO iot_service.iot_devices (site, device, home_gateway_id) VALUES ('a', 'd', 1)",
        "INSERT INTO iot_service.series (device_id, channel, quantity, unit) VALUES (1, 'c', 'q', 'x')",
        "SELECT iot_service.make_month('2026-10-01+00')",
        "SELECT setseed(0.4)",
        (
            "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
            " SELECT timestamptz '2026-10-01+00' + random() * interval '30 days', random(), 1, 0, 100"
            f"   FROM generate_series(1, {READINGS})"
        ),
        "ANALYZE iot_service.sensor_readings",
    ):
        database.query(statement)


def test_what_is_refused_beforehand_would_not_have_fitted(
    capsys: pytest.CaptureFixture[str], database: Database, disk: Path
) -> None:
    """Without a backup that tells how such readings are compressed, only what is sure is refused."""
    give_readings(database)
    resize(disk, READINGS * room.LEAST_IN_BACKUP // 1024 - 8)
    said = command(capsys, "db", "backup", "--dsn", database.dsn, "--to", str(disk))
    one_line(said, 74, "backup: ", str(disk), f"some {READINGS:,} readings", "0.1 MB at 2.0 bytes each", "make room")
    assert list(disk.iterdir()) == []
    resize(disk, READINGS * room.LEAST_IN_BACKUP // 1024 + 8)
    one_line(command(capsys, "db", "backup", "--dsn", database.dsn, "--to", str(disk)), 74, "No space left")
    assert list(disk.iterdir()) == []


def test_the_backup_before_tells_how_much_the_next_one_takes(
    capsys: pytest.CaptureFixture[str], database: Database, disk: Path
) -> None:
    give_readings(database)
    before = made(database, disk)
    # Of another second than the next one, however fast this machine is.
    before = before.rename(disk / f"iot-service-20261120T120000Z-{before.name[-8:]}")
    size = open_backup(before).manifest.size
    resize(disk, int(size * 1.7) // 1024)
    said = command(capsys, "db", "backup", "--dsn", database.dsn, "--to", str(disk))
    one_line(said, 74, f"some {READINGS:,} readings take", f"bytes each, as in {before.name}", "are free: make room")
    assert list(disk.iterdir()) == [before]
    resize(disk, size * 3 // 1024)
    assert command(capsys, "db", "backup", "--dsn", database.dsn, "--to", str(disk)).code == 0


@pytest.mark.slow
def test_on_a_disk_of_any_size_a_backup_is_whole_or_nothing(history: Database, disk: Path) -> None:
    """A page more each time, until it fits: the disk is full in the middle of each file in turn."""
    failed = 0
    for kilobytes in range(4, 1_024, 4):
        resize(disk, kilobytes)
        try:
            path = made(history, disk)
        except NotWritten:
            assert list(disk.iterdir()) == []
            failed += 1
        else:
            break
    assert failed > 20
    assert newest(disk) == path
    assert asyncio.run(check_files(open_backup(path), UNWATCHED)) == []


def test_a_database_takes_what_it_is_said_to_need(database: Database, target: Database, directory: Path) -> None:
    give_readings(database)
    path = made(database, directory)
    asyncio.run(restored(path, target))
    taken = target.one("SELECT pg_total_relation_size('iot_service.sensor_readings_2026_10')")
    assert taken < room.needed_for_database(open_backup(path).manifest) < 1.3 * taken


async def test_a_server_without_room_is_not_restored_into(history: Database, target: Database, directory: Path) -> None:
    path = made(history, directory)
    free = shutil.disk_usage(history.one("SHOW data_directory")).free
    too_many = free // room.IN_DATABASE * 2
    forge(path, lambda said: said["files"][-1].update(rows=too_many))
    for work in (verify_backup(path, history.dsn, UNWATCHED), restored(path, target)):
        with pytest.raises(TargetRefused, match=r"a database of [\d,]+ readings needs .* MB are free where this serv"):
            await work
    assert scratch_databases(history) == []
    assert target.one("SELECT to_regnamespace('iot_service')") is None


async def test_a_role_that_may_not_know_where_the_data_lie_is_let_try(
    history: Database, target: Database, directory: Path
) -> None:
    with psycopg.connect(history.server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE modest LOGIN")
        try:
            for dsn, known in ((history.dsn, True), (history.dsn.replace("user=postgres", "user=modest"), False)):
                connection = await connect(dsn, "test", 30)
                try:
                    assert (await disk_of_server(connection) is not None) is known
                finally:
                    await connection.close()
        finally:
            admin.execute("DROP ROLE modest")


@pytest.fixture
def wal_elsewhere(server: EmbeddedPostgres) -> Iterator[None]:
    """WAL on another disk: a server whose WAL finds no room ends, and says nothing of a restore."""
    elsewhere = Path(tempfile.mkdtemp(prefix="heal7-wal-"))
    server.stop()
    elsewhere.chmod(0o755)
    subprocess.run(["cp", "-a", str(server.data / "pg_wal"), str(elsewhere)], check=True)
    shutil.rmtree(server.data / "pg_wal")
    (server.data / "pg_wal").symlink_to(elsewhere / "pg_wal")
    server.start()
    yield
    server.stop("immediate")
    shutil.rmtree(elsewhere)


class Filling:
    """Somebody takes the room as soon as rows come: two megabytes stay, without which PostgreSQL itself would end."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def begin(self, stage: str, total: int) -> None:
        if stage.startswith("restoring"):
            filler = fill(self._disk)
            os.truncate(filler, filler.stat().st_size - 2_000_000)

    def advance(self, amount: int) -> None:
        pass


@pytest.mark.usefixtures("wal_elsewhere")
@pytest.mark.parametrize("what", ["restore", "verification"])
async def test_a_server_whose_disk_runs_full_is_told_and_keeps_nothing(
    database: Database, server: EmbeddedPostgres, small_disk: Path, directory: Path, what: str
) -> None:
    """Of a verification not even the database; a restore leaves its own as it was."""
    give_readings(database)
    path = made(database, directory)
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE target")
        admin.execute("CHECKPOINT")
    target = Database(server, "target")

    async def work(progress: Progress) -> None:
        if what == "restore":
            await restored(path, target, progress=progress)
        else:
            assert (await verify_backup(path, server.dsn(), progress)).sound

    with pytest.raises(
        TargetRefused, match=r"No space left on device.*: the server's disk is full; nothing of .*/iot-"
    ):
        await work(Filling(small_disk))
    assert scratch_databases(target) == []
    assert target.one("SELECT to_regnamespace('iot_service')") is None
    (small_disk / "filler").unlink()
    await work(UNWATCHED)
    if what == "restore":
        assert content(target) == content(database)
