"""What is damaged, cut short or out of place: told in one line, and nothing half-done."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.errors import StorageError
from ingest_server.storage.backup import folder
from ingest_server.storage.backup.errors import DamagedBackup, NotABackup, TargetRefused
from ingest_server.storage.backup.loading import check_files, open_backup
from ingest_server.storage.backup.manifest import MANIFEST, SUMS
from ingest_server.storage.backup.verifying import verify_backup
from tests.ingest_server.backup.conftest import UNWATCHED, content, forge, made, restored
from tests.ingest_server.command_line import Said
from tests.ingest_server.command_line import run as command
from tests.ingest_server.line import PATIENCE_S, data, settle, until_waiting_for_a_lock
from tests.peers.needs import wants
from tests.peers.postgres import Database, new_database

MAKE_MONTH_LOCK = 0x48454101


async def faults_of(path: Path) -> list[str]:
    try:
        return await check_files(open_backup(path), UNWATCHED)
    except (DamagedBackup, NotABackup) as error:
        return [str(error)]


async def test_a_flipped_bit_in_any_file_is_found(history: Database, target: Database, directory: Path) -> None:
    path = made(history, directory)
    chance = random.Random(4)
    assert await faults_of(path) == []
    for file in sorted(path.iterdir()):
        sound = file.read_bytes()
        flipped = bytearray(sound)
        flipped[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        faults = await faults_of(path)
        assert len(faults) == 1, file.name
        # A hit on the list of checksums may make the manifest look wrong.
        assert file.name in faults[0] or file.name == SUMS
        file.write_bytes(sound)
    assert await faults_of(path) == []
    assert target.one("SELECT to_regnamespace('iot_service')") is None


async def test_a_file_that_was_cut_or_is_missing_is_named(history: Database, directory: Path) -> None:
    path = made(history, directory)
    cut, gone = path / "ledger.copy.zst", path / "series.copy.zst"
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    faults = await faults_of(path)
    assert sorted(f.split(":")[0] for f in faults) == sorted([str(cut), str(gone)])


async def test_files_that_are_sound_and_do_not_say_what_the_manifest_says(
    history: Database, target: Database, directory: Path
) -> None:
    """The last line behind the checksums: COPY counted other rows. Nothing of it stays."""
    path = made(history, directory)
    forge(path, lambda said: said["files"][-1].update(rows=said["files"][-1]["rows"] + 1))
    with pytest.raises(DamagedBackup, match=r"sensor_readings_2026_11\.copy\.zst: \d+ rows where \d+ were written"):
        await restored(path, target)
    assert target.one("SELECT to_regnamespace('iot_service')") is None


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command of ours as a process, which is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "heal7_iot", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_an_interrupted_backup_is_none_and_the_next_one_clears_up(history: Database, directory: Path) -> None:
    with psycopg.connect(history.dsn) as other:
        # So it waits after it has begun its folder, for as long as we like.
        other.execute("LOCK TABLE iot_service.zones IN ACCESS EXCLUSIVE MODE")
        with running("db", "backup", "--dsn", history.dsn, "--to", str(directory)) as killed:
            await until_waiting_for_a_lock(history)
            (partial,) = directory.iterdir()
            # Meanwhile it is somebody's.
            assert folder.clear(directory) == folder.LeftBehind((), (partial.name,))
            killed.kill()
    assert partial.name.endswith(".partial")
    with pytest.raises(NotABackup, match="no backup in it"):
        folder.newest(directory)
    with pytest.raises(NotABackup, match="was interrupted"):
        open_backup(partial)
    path = await asyncio.to_thread(made, history, directory)
    assert folder.newest(directory) == path
    assert list(directory.iterdir()) == [path]


async def test_a_backup_that_fails_leaves_nothing(history: Database, directory: Path) -> None:
    history.query("DROP VIEW iot_service.books CASCADE")
    with pytest.raises(StorageError, match="books"):
        await asyncio.to_thread(made, history, directory)
    assert list(directory.iterdir()) == []


async def test_nothing_is_restored_into_a_database_with_rows(
    history: Database, postgres: EmbeddedPostgres, migrated: str, directory: Path
) -> None:
    path = made(history, directory)
    with new_database(postgres, migrated) as target:
        await settle(target, data(0))
        before = content(target)
        with pytest.raises(TargetRefused, match=r"iot_service\.gateways has rows"):
            await restored(path, target)
        assert content(target) == before


async def test_a_month_that_was_archived_since_is_not_restored_beside_its_archive(
    history: Database, target: Database, directory: Path
) -> None:
    """Who drops the schema and restores keeps the other one: the month would be there twice, and archived no more."""
    path = made(history, directory)
    month = history.one("SELECT to_char(min(recorded_at) AT TIME ZONE 'UTC', 'YYYY_MM') FROM iot_service.readings")
    target.query("CREATE SCHEMA archive")
    target.query(f"CREATE TABLE archive.sensor_readings_{month} (series_id integer)")
    with pytest.raises(TargetRefused, match=rf"archive\.sensor_readings_{month} is there: it was archived after"):
        await restored(path, target)
    assert target.one("SELECT to_regclass('iot_service.sensor_readings')") is None


async def test_a_restore_that_is_killed_leaves_nothing(history: Database, target: Database, directory: Path) -> None:
    path = made(history, directory)
    with psycopg.connect(target.dsn) as other:
        # The small tables are loaded; it waits before the first readings.
        other.execute("SELECT pg_advisory_xact_lock(%s)", (MAKE_MONTH_LOCK,))
        with running("db", "restore", str(path), "--dsn", target.dsn) as killed:
            await until_waiting_for_a_lock(target)
            assert target.one("SELECT to_regnamespace('iot_service')") is None, "nobody sees it yet"
            killed.kill()
            killed.wait()
    # Its backend notices once it is asked for more.
    deadline = time.monotonic() + PATIENCE_S
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while target.one(others) and time.monotonic() < deadline:  # noqa: ASYNC110 -- PostgreSQL has no event for it
        await asyncio.sleep(0.01)
    assert target.one("SELECT to_regnamespace('iot_service')") is None
    await restored(path, target)
    assert content(target) == content(history)


async def test_a_server_waits_while_a_migrated_database_is_filled(
    history: Database, postgres: EmbeddedPostgres, migrated: str, directory: Path
) -> None:
    path = made(history, directory)
    with new_database(postgres, migrated) as target, psycopg.connect(target.dsn) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (MAKE_MONTH_LOCK,))
        restoring = asyncio.create_task(restored(path, target))
        await until_waiting_for_a_lock(target)
        writing = asyncio.create_task(settle(target, data(19, before=303)))
        await until_waiting_for_a_lock(target, 2)
        other.rollback()
        await restoring
        await writing
        # Of the same gateway and epoch: its books were whole before it wrote.
        assert target.one("SELECT count(*) FROM iot_service.ledger") == 1
        assert target.one("SELECT balanced FROM iot_service.books") == history.one(
            "SELECT balanced FROM iot_service.books"
        )


async def test_verification_names_what_differs(history: Database, directory: Path) -> None:
    path = made(history, directory)
    changes = [
        (lambda said: said["sample"][0].update(total=-1.0), "series 1, hour"),
        (lambda said: said["books"][0].update(committed=1), "seoul-1/lobby: committed is"),
        (lambda said: said["books"].clear(), "seoul-1/lobby: only the database has its books"),
        (lambda said: said.update(ledger_id="00000000-0000-0000-0000-000000000000"), "ledger_id is"),
    ]
    sound = (path / MANIFEST).read_bytes(), (path / SUMS).read_bytes()
    for change, named in changes:
        forge(path, change)
        verified = await verify_backup(path, history.dsn, UNWATCHED)
        lines = [line for comparison in verified.comparisons for line in comparison.differs]
        assert not verified.sound
        assert len(lines) == 1
        assert named in lines[0]
        (path / MANIFEST).write_bytes(sound[0])
        (path / SUMS).write_bytes(sound[1])
    assert (await verify_backup(path, history.dsn, UNWATCHED)).sound
    assert scratch_databases(history) == []


def scratch_databases(database: Database) -> list[str]:
    return [
        name
        for (name,) in database.query(
            "SELECT datname FROM pg_database WHERE datname LIKE 'heal7_iot_verify%' ORDER BY 1"
        )
    ]


class Stopping:
    """Ctrl-C comes when the restore begins, or in the middle of it."""

    def __init__(self, database: Database, after: int) -> None:
        self.database, self.after, self.seen = database, after, 0
        self.found: list[str] = []

    def begin(self, stage: str, total: int) -> None:
        self.seen = 0
        self.restoring = stage.startswith("restoring")

    def advance(self, amount: int) -> None:
        self.seen += 1
        if self.restoring and self.seen == self.after:
            self.found = scratch_databases(self.database)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


@pytest.mark.parametrize("after", [1, 15])
async def test_a_verification_that_is_interrupted_drops_its_database(
    history: Database, directory: Path, after: int
) -> None:
    stopping = Stopping(history, after)
    task = asyncio.create_task(verify_backup(made(history, directory), history.dsn, stopping))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(stopping.found) == 1, "it was there"
    assert scratch_databases(history) == []


# -- as a person meets it


def one_line(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert len(said.err.splitlines()) == 1, said.err
    assert all(word in said.err for word in words), said.err


def test_what_is_no_backup_is_refused(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path
) -> None:
    path = made(history, directory)
    for folder_, word in (
        (directory / "nowhere", "there is no such folder"),
        (path / MANIFEST, "this is no folder"),
        (directory / path.name[:4], "there is no such folder"),
    ):
        for how in (["restore", "--dsn", target.dsn], ["verify"]):
            one_line(command(capsys, "db", how[0], str(folder_), *how[1:]), 2, "backup: ", str(folder_), word)
    forge(path, lambda said: said.update({"heal7-iot-backup": 2}))
    one_line(command(capsys, "db", "restore", str(path), "--dsn", target.dsn), 2, MANIFEST, "another version")
    forge(path, lambda said: said.update({"heal7-iot-backup": 1, "made_at": "yesterday"}))
    one_line(command(capsys, "db", "verify", str(path)), 2, MANIFEST, "made_at", "yesterday")
    forge(path, lambda said: said.update({"made_at": "2026-11-21T00:00:00+00:00"}))
    forge(path, lambda said: said["files"].append(said["files"][0]))
    one_line(command(capsys, "db", "restore", str(path), "--dsn", target.dsn), 2, "files", "listed twice")
    forge(path, lambda said: said["files"].pop())
    forge(path, lambda said: said.update({"made_at": "2026-11-21T00:00:00+00:00", "schema_version": 99}))
    one_line(command(capsys, "db", "restore", str(path), "--dsn", target.dsn), 2, "version 99", "upgrade heal7-iot")
    (path / MANIFEST).write_text("{")
    one_line(command(capsys, "db", "verify", str(path)), 1, MANIFEST, "checksum")
    (path / MANIFEST).unlink()
    one_line(command(capsys, "db", "verify", str(path)), 2, "no manifest.json")


def test_a_damaged_backup_is_not_restored(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path
) -> None:
    path = made(history, directory)
    (path / "ledger.copy.zst").write_bytes(b"x")
    said = command(capsys, "db", "restore", str(path), "--dsn", target.dsn)
    assert said.code == 1
    assert "ledger.copy.zst: its checksum" in said.err
    assert "nothing was restored" in said.err
    assert target.one("SELECT to_regnamespace('iot_service')") is None
    said = command(capsys, "db", "verify", str(path), "--json")
    assert (said.code, said.json["sound"]) == (1, False)
    assert "ledger.copy.zst" in said.json["comparisons"][0]["differs"][0]


def test_a_role_without_rights_is_told_which_it_lacks(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path
) -> None:
    path = made(history, directory)
    with psycopg.connect(history.server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE nobody_special LOGIN")
        try:
            as_nobody = [f"{dsn.replace('user=postgres', 'user=nobody_special')}" for dsn in (history.dsn, target.dsn)]
            said = command(capsys, "db", "backup", "--dsn", as_nobody[0], "--to", str(directory))
            one_line(said, 1, "database: ", "permission denied")
            assert list(directory.iterdir()) == [path]
            said = command(capsys, "db", "restore", str(path), "--dsn", as_nobody[1])
            one_line(said, 1, "database: ", "GRANT CREATE ON DATABASE")
            said = command(capsys, "db", "verify", str(path), "--dsn", as_nobody[1])
            one_line(said, 1, "backup: ", "nobody_special", "ALTER ROLE nobody_special CREATEDB", "backups.verify_dsn")
        finally:
            admin.execute("DROP ROLE nobody_special")


def test_other_databases_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path
) -> None:
    path = made(history, directory)
    one_line(
        command(capsys, "db", "backup", "--dsn", target.dsn, "--to", str(directory)), 1, "there is nothing to back up"
    )
    one_line(command(capsys, "db", "restore", str(path), "--dsn", "host=/nowhere dbname=x"), 1, "database: ")
    one_line(command(capsys, "db", "restore", str(path), "--dsn", "no dsn"), 2, "database: ")
    said = command(capsys, "db", "restore", str(path), "--dsn", history.dsn)
    one_line(said, 1, "has rows", "DROP SCHEMA")
    with psycopg.connect(history.server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin2 ENCODING 'LATIN2' LOCALE 'C' TEMPLATE template0")
        try:
            said = command(capsys, "db", "restore", str(path), "--dsn", history.server.dsn("latin2"))
            one_line(said, 1, "encoding is LATIN2", "UTF8")
        finally:
            admin.execute("DROP DATABASE latin2")


def test_a_journal_that_is_missing_or_damaged_stops_a_restore(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path, tmp_path: Path
) -> None:
    restoring = ("db", "restore", str(made(history, directory)), "--dsn", target.dsn, "--erasures")
    one_line(command(capsys, *restoring, str(tmp_path / "none")), 2, "none", "No such file", "leave it out")
    (tmp_path / "journal").write_text("{}\n")
    one_line(command(capsys, *restoring, str(tmp_path / "journal")), 2, "journal, line 1: ")
    assert target.one("SELECT to_regnamespace('iot_service')") is None


def test_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str], history: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = command(capsys, "db", "backup", "--dsn", history.dsn, "--to", str(tmp_path / "file"))
    one_line(said, 74, "backup: ", str(tmp_path / "file"))


@pytest.mark.parametrize("kilobytes", [4, 16, 64, 100])
def test_a_disk_that_is_full_leaves_nothing(history: Database, tmp_path: Path, kilobytes: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode != 0:
        pytest.skip(wants("the right to mount a tmpfs", "a disk that is really full is not tested"))
    try:
        with running("db", "backup", "--dsn", history.dsn, "--to", str(disk)) as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 74, err
        last = err.splitlines()[-1]
        assert last.startswith("backup: ")
        assert "No space left" in last
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_ctrl_c_is_no_traceback(history: Database, directory: Path) -> None:
    with psycopg.connect(history.dsn) as other:
        other.execute("LOCK TABLE iot_service.zones IN ACCESS EXCLUSIVE MODE")
        with running("db", "backup", "--dsn", history.dsn, "--to", str(directory)) as process:
            await until_waiting_for_a_lock(history)
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(directory.iterdir()) == []


def test_programs_read_what_was_done(
    capsys: pytest.CaptureFixture[str], history: Database, target: Database, directory: Path
) -> None:
    """And the folder of backups stands for its newest."""
    readings = history.one("SELECT count(*) FROM iot_service.sensor_readings")
    said = command(capsys, "db", "backup", "--dsn", history.dsn, "--to", str(directory), "--json").json
    assert (said["readings"], Path(said["backup"]).parent) == (readings, directory)
    mode = Path(said["backup"]).stat().st_mode
    assert mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in Path(said["backup"]).iterdir()} == {0o600}
    assert command(capsys, "db", "verify", str(directory), "--json").json["restored"] is False
    said = command(capsys, "db", "verify", str(directory), "--dsn", history.dsn, "--json").json
    assert (said["sound"], said["restored"]) == (True, True)
    done = command(capsys, "db", "restore", str(directory), "--dsn", target.dsn, "--json")
    assert done.json["readings"] == readings
    assert "erasures after" in done.err
    assert content(target) == content(history)
    shutil.rmtree(directory)
