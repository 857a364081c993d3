"""The database that a verification makes: who may, who does not, and what is left where one was killed."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.config import IngestConfig
from ingest_server.jobs.running import run
from ingest_server.jobs.work import JOBS
from ingest_server.storage.backup import scratch
from ingest_server.storage.backup.errors import TargetRefused
from ingest_server.storage.backup.verifying import verify_backup
from ingest_server.storage.connection import connect
from tests.ingest_server.backup.conftest import UNWATCHED, made
from tests.ingest_server.backup.test_faults import scratch_databases
from tests.ingest_server.command_line import run as command
from tests.ingest_server.line import PATIENCE_S
from tests.ingest_server.test_jobs import jobs_on
from tests.peers.postgres import Database

NOBODYS = f"{scratch.PREFIX}0123456789ab"
LIKE_ONE = f"{scratch.PREFIX}of_yesterday"


@contextmanager
def session(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Of the server; roles and databases that the test names are gone afterwards."""
    with session(database.server.dsn()) as connection:
        try:
            yield connection
        finally:
            for name in scratch_databases(database):
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            connection.execute("DROP ROLE IF EXISTS verifier")


def as_verifier(dsn: str) -> str:
    return dsn.replace("user=postgres", "user=verifier")


async def test_a_role_that_may_make_databases_and_nothing_else_verifies(
    history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    path = made(history, directory)
    admin.execute("CREATE ROLE verifier LOGIN CREATEDB")
    verified = await verify_backup(path, as_verifier(history.dsn), UNWATCHED)
    assert verified.sound
    assert verified.restored
    assert scratch_databases(history) == []


async def test_a_role_that_may_not_is_told_before_anything_is_read(
    history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    """CREATEDB of a role that it is a member of is no use."""
    path = made(history, directory)
    for file in path.glob("*.zst"):
        file.unlink()
    admin.execute("CREATE ROLE verifier LOGIN IN ROLE iot_admin")
    with pytest.raises(TargetRefused, match=r"role verifier lacks CREATEDB: ALTER ROLE verifier CREATEDB; or"):
        await verify_backup(path, as_verifier(history.dsn), UNWATCHED)


async def test_a_role_that_may_not_enter_what_it_made_is_told_of_pg_hba(
    history: Database, admin: psycopg.Connection[Any], postgres: EmbeddedPostgres, directory: Path
) -> None:
    path = made(history, directory)
    admin.execute("CREATE ROLE verifier LOGIN CREATEDB")
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text(f"local {history.name} verifier trust\nlocal all verifier reject\n{before}")
        admin.execute("SELECT pg_reload_conf()")
        # The postmaster reads it in its own time.
        async with asyncio.timeout(PATIENCE_S):
            while await enters(as_verifier(history.server.dsn())):  # noqa: ASYNC110 -- nothing tells when it has
                await asyncio.sleep(0.01)
        with pytest.raises(TargetRefused, match=r"pg_hba\.conf rejects .*write `all` where pg_hba\.conf"):
            await verify_backup(path, as_verifier(history.dsn), UNWATCHED)
    finally:
        rules.write_text(before)
        admin.execute("SELECT pg_reload_conf()")
    assert scratch_databases(history) == []


async def enters(dsn: str) -> bool:
    try:
        await (await psycopg.AsyncConnection.connect(dsn)).close()
    except psycopg.OperationalError:
        return False
    return True


async def test_what_a_killed_verification_left_is_dropped_and_nothing_else(
    history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    path = made(history, directory)
    in_use, being_made, of_another = (f"{scratch.PREFIX}{letter * 12}" for letter in "abc")
    for name in (NOBODYS, LIKE_ONE, in_use, being_made, of_another):
        admin.execute(f"CREATE DATABASE {name}".encode())
    admin.execute("CREATE ROLE verifier LOGIN CREATEDB")
    for name in (NOBODYS, LIKE_ONE, in_use, being_made):
        admin.execute(f"ALTER DATABASE {name} OWNER TO verifier".encode())
    with session(history.server.dsn(in_use)), session(f"{history.dsn} application_name={being_made}"):
        verified = await verify_backup(path, as_verifier(history.dsn), UNWATCHED)
        assert scratch_databases(history) == sorted([LIKE_ONE, in_use, being_made, of_another])
    assert [d.name for d in verified.dropped] == [NOBODYS]
    assert all((d.size or 0) > 1_000_000 for d in verified.dropped)
    assert [d.name for d in verified.left_behind] == [of_another, LIKE_ONE]


async def test_somebody_who_has_come_in_meanwhile_is_not_thrown_out(
    history: Database, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the DROP."""
    admin.execute(f"CREATE DATABASE {NOBODYS}".encode())
    looked = scratch.found
    guests: list[psycopg.Connection[Any]] = []

    async def found(connection: Any) -> list[scratch.Scratch]:
        seen = await looked(connection)
        guests.append(psycopg.connect(history.server.dsn(NOBODYS)))
        return seen

    monkeypatch.setattr(scratch, "found", found)
    connection = await connect(history.dsn, "test", 30)
    try:
        dropped, left = await scratch.clear(connection)
        guests[0].execute("SELECT")
    finally:
        guests[0].close()
        await connection.close()
    assert (dropped, [d.name for d in left]) == ([], [NOBODYS])


_UNTIL_KILLED = """
import asyncio, sys, time
from pathlib import Path
from ingest_server.storage.backup.verifying import verify_backup
class Waiting:
    def begin(self, stage, total):
        if stage.startswith("restoring"):
            print(stage, flush=True)
            time.sleep(600)
    def advance(self, amount):
        pass
asyncio.run(verify_backup(Path(sys.argv[1]), sys.argv[2], Waiting()))
"""


def verifying(path: Path, dsn: str) -> subprocess.Popen[str]:
    """A verification that says when it begins to restore, and goes no further."""
    return subprocess.Popen([sys.executable, "-c", _UNTIL_KILLED, str(path), dsn], stdout=subprocess.PIPE, text=True)


async def test_a_verification_that_is_killed_is_cleaned_up_by_the_next(history: Database, directory: Path) -> None:
    path = made(history, directory)
    process = verifying(path, history.dsn)
    beside = await connect(history.dsn, "test", 30)
    try:
        with process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline), "it is in the middle of a restore"
            (database,) = await scratch.found(beside)
            assert (database.in_use, database.ours) == (True, True)
            # Another one that runs meanwhile leaves it alone.
            assert (await verify_backup(path, history.dsn, UNWATCHED)).dropped == ()
            assert scratch_databases(history) == [database.name]
            process.kill()
        async with asyncio.timeout(PATIENCE_S):
            # Its backends end once they notice.
            while any(d.in_use for d in await scratch.found(beside)):  # noqa: ASYNC110 -- PostgreSQL has no event for it
                await asyncio.sleep(0.01)
    finally:
        process.kill()
        await beside.close()
    verified = await verify_backup(path, history.dsn, UNWATCHED)
    assert [d.name for d in verified.dropped] == [database.name]
    assert verified.sound
    assert scratch_databases(history) == []


async def test_the_job_verifies_as_its_own_role_and_tells_what_it_dropped(
    history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    """Who runs jobs may make no database; whom `backups.verify_dsn` names may."""
    made(history, directory)
    admin.execute("CREATE ROLE verifier LOGIN")
    admin.execute(f"CREATE DATABASE {NOBODYS} OWNER verifier".encode())
    admin.execute(f"CREATE DATABASE {LIKE_ONE}".encode())
    backups = {"folder": str(directory), "newest_within_h": 8_760, "verify_dsn": as_verifier(history.dsn)}
    job = next(job for job in JOBS if job.name == "backups")
    async with jobs_on(history) as context:
        config = IngestConfig.model_validate({"database": {"dsn": history.dsn}, "backups": backups})
        context = replace(context, config=config)
        outcome = await run(job, context)
        assert (outcome.ok, "ALTER ROLE verifier CREATEDB" in outcome.detail) == (False, True)
        admin.execute("ALTER ROLE verifier CREATEDB")
        outcome = await run(job, context)
        assert outcome.ok
        whole, dropped, left = outcome.detail.split("; ")
        assert whole.endswith("is whole: restored, and compared")
        assert dropped.startswith(f"dropped what a killed verification had left: {NOBODYS} (")
        assert left.startswith(f"looks like what a killed verification left: {LIKE_ONE} (")


class Interrupting:
    """When the restore begins, somebody makes the database one that cannot be dropped, and Ctrl-C comes."""

    def __init__(self, admin: psycopg.Connection[Any]) -> None:
        self._admin = admin

    def begin(self, stage: str, total: int) -> None:
        if stage.startswith("restoring"):
            self._lock()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    def advance(self, amount: int) -> None:
        pass

    def _lock(self) -> None:
        rows = self._admin.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (scratch.PREFIX,)
        ).fetchall()
        for (name,) in rows:
            self._admin.execute(f"ALTER DATABASE {name} IS_TEMPLATE true".encode())


async def test_what_went_wrong_first_is_told_though_the_database_cannot_be_dropped(
    history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    path = made(history, directory)
    task = asyncio.create_task(verify_backup(path, history.dsn, Interrupting(admin)))
    with pytest.raises(asyncio.CancelledError):
        await task
    (left,) = scratch_databases(history)
    admin.execute(f"ALTER DATABASE {left} IS_TEMPLATE false".encode())
    assert [d.name for d in (await verify_backup(path, history.dsn, UNWATCHED)).dropped] == [left]


def test_the_commands_tell(
    capsys: pytest.CaptureFixture[str], history: Database, admin: psycopg.Connection[Any], directory: Path
) -> None:
    path = made(history, directory)
    for name in (NOBODYS, LIKE_ONE):
        admin.execute(f"CREATE DATABASE {name}".encode())
    checked = {f["what"]: f for f in command(capsys, "db", "check", "--dsn", history.dsn, "--json").json}
    found = checked["left by verifications"]
    assert found["ok"] is False
    assert f"{NOBODYS} (" in found["detail"]
    assert f"{LIKE_ONE} (" in found["detail"]
    verified = command(capsys, "db", "verify", str(path), "--dsn", history.dsn)
    assert verified.code == 0
    assert f"dropped what a killed verification had left: {NOBODYS} (" in verified.err
    assert f"looks like what a killed verification left: {LIKE_ONE} (" in verified.err


def test_check_says_beforehand_that_verification_would_fail(
    capsys: pytest.CaptureFixture[str], history: Database, admin: psycopg.Connection[Any], tmp_path: Path
) -> None:
    admin.execute("CREATE ROLE verifier LOGIN")
    config, folder = tmp_path / "ingest.toml", tmp_path / "backups"

    def verification(backups: str) -> dict[str, Any]:
        config.write_text(f'[database]\ndsn = "{history.dsn}"\n{backups}')
        found: list[dict[str, Any]] = command(capsys, "db", "check", "--config", str(config), "--json").json
        return next((f for f in found if f["what"] == "verification"), {})

    configured = f'[backups]\nfolder = "{folder}"\n'
    assert verification("") == {}
    assert "No such file" in verification(configured)["detail"]
    made(history, folder)
    assert verification(configured)["ok"] is True
    configured += f'verify_dsn = "{as_verifier(history.dsn)}"\n'
    found = verification(configured)
    assert (found["ok"], "ALTER ROLE verifier CREATEDB" in found["detail"]) == (False, True)
    admin.execute("ALTER ROLE verifier CREATEDB")
    assert verification(configured)["ok"] is True
    found = verification(configured.replace("user=verifier", "user=nobody_there"))
    assert (found["ok"], "backups.verify_dsn: " in found["detail"]) == (False, True)


def test_check_wants_a_database_or_a_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = command(capsys, "db", "check")
    assert (said.code, said.err.startswith("--dsn or --config: ")) == (2, True)
    said = command(capsys, "db", "check", "--config", str(tmp_path / "none.toml"))
    assert (said.code, "there is no such file" in said.err) == (2, True)


def test_check_names_rights_that_a_platform_took_from_everybody(
    capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    def rights() -> dict[str, Any]:
        found: list[dict[str, Any]] = command(capsys, "db", "check", "--dsn", database.dsn, "--json").json
        return next(f for f in found if f["what"] == "rights")

    assert rights()["ok"] is True
    database.query(f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC")
    detail = rights()["detail"]
    grants = [
        f"iot_ingest lacks {right} on database {database.name}: GRANT {right} ON DATABASE {database.name} TO iot_ingest"
        for right in ("CONNECT", "TEMPORARY")
    ]
    assert all(grant in detail for grant in grants)
    assert "iot_reader lacks TEMPORARY" not in detail
    for line in detail.split("; "):
        database.query(line.split(": ")[1])
    assert rights()["ok"] is True
    database.query("REVOKE USAGE ON SCHEMA iot_service FROM iot_reader")
    assert rights()["detail"] == (
        "iot_reader lacks USAGE on schema iot_service: GRANT USAGE ON SCHEMA iot_service TO iot_reader"
    )
