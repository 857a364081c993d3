"""The schema: how it comes to be, and that it is the one in the repository."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.errors import SchemaError
from ingest_server.storage import migrations
from ingest_server.storage.connection import connect
from tests.peers.postgres import Database

SNAPSHOT = Path(__file__).parents[1] / "golden" / "schema.sql"
REGENERATE = "HEAL7_WRITE_SCHEMA"


async def migrate(database: Database) -> list[int]:
    connection = await connect(database.dsn, "test", 30)
    try:
        return [m.version for m in await migrations.migrate(connection)]
    finally:
        await connection.close()


async def current(database: Database) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.require_current(connection)
    finally:
        await connection.close()


ALL = [m.version for m in migrations.migrations()]


async def test_an_empty_database_gets_every_step_once(empty_database: Database) -> None:
    with pytest.raises(SchemaError, match="run `heal7-iot db migrate"):
        await current(empty_database)
    assert await migrate(empty_database) == ALL
    assert await migrate(empty_database) == []
    await current(empty_database)


async def test_several_at_once_do_the_work_once(empty_database: Database) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))
    assert sorted(done) == [[], [], [], ALL]
    assert empty_database.one("SELECT count(*) FROM iot_service.ledger_identity") == 1


async def test_a_step_that_was_changed_after_it_was_applied_is_refused(database: Database) -> None:
    database.query("UPDATE iot_service.schema_migrations SET checksum = 'x' WHERE version = 1")
    for call in (current, migrate):
        with pytest.raises(SchemaError, match="migration 1 was changed after it was applied"):
            await call(database)


async def test_a_database_of_a_later_version_is_refused(database: Database) -> None:
    database.query("INSERT INTO iot_service.schema_migrations (version, name, checksum) VALUES (9999, 'later', 'x')")
    for call in (current, migrate):
        with pytest.raises(SchemaError, match=r"has migration 9999.*upgrade"):
            await call(database)


async def test_a_database_that_cannot_hold_every_name_is_refused(postgres: EmbeddedPostgres) -> None:
    """Names that its encoding lacks would be refused one by one, long after it was set up."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        for call in (current, migrate):
            with pytest.raises(SchemaError, match=r"encoding is LATIN1.*UTF8"):
                await call(Database(postgres, "latin1"))
    finally:
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute("DROP DATABASE latin1")


async def test_the_clients_own_encoding_is_not_asked_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    connection = await connect(database.dsn, "test", 30)
    try:
        cursor = await connection.execute("SELECT %s", ("체험관",))
        assert await cursor.fetchone() == ("체험관",)
    finally:
        await connection.close()


async def test_a_step_that_fails_leaves_nothing_of_itself(empty_database: Database) -> None:
    """Something of the platform's own stands in the way, in the middle of the step."""
    empty_database.query("CREATE SCHEMA iot_service")
    empty_database.query("CREATE TABLE iot_service.quarantine ()")
    with pytest.raises(Exception, match="already exists"):
        await migrate(empty_database)
    assert empty_database.one("SELECT to_regclass('iot_service.ledger')") is None
    empty_database.query("DROP TABLE iot_service.quarantine")
    assert await migrate(empty_database) == ALL


async def test_every_database_has_a_ledger_of_its_own(database: Database, empty_database: Database) -> None:
    await migrate(empty_database)
    ids = {db.one("SELECT ledger_id FROM iot_service.ledger_identity") for db in (database, empty_database)}
    # A copy keeps its identity, as a backup does; only a migration makes a new one.
    assert len(ids) == 2


def test_the_schema_is_the_one_in_the_repository(database: Database) -> None:
    found = dump(database)
    if os.environ.get(REGENERATE) == "1":
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), (
        f"the migrations make another schema than tests/golden/schema.sql says. If that is meant, write it anew with"
        f" {REGENERATE}=1 python -m pytest {Path(__file__).name} and read the difference"
    )


def dump(database: Database) -> str:
    """The schema as pg_dump has it, without what changes from version to version of pg_dump itself."""
    assert isinstance(database.server, EmbeddedPostgres)
    program = database.server._bin / "pg_dump"
    done = subprocess.run(
        [program, "--schema-only", "--schema=iot_service", "--no-owner", "--dbname", database.dsn],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [
        line
        for line in done.stdout.splitlines()
        if line.strip() and not line.startswith(("--", "SET ", "SELECT pg_catalog.set_config", "\\"))
    ]
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)) + "\n"


async def test_roles_may_do_what_they_are_for(database: Database) -> None:
    """`iot_reader` reads and writes nothing; `iot_ingest` writes and owns nothing. (The line: test_group.py.)"""
    connection = await connect(database.dsn, "test", 30)
    try:
        await connection.execute("SET ROLE iot_reader")
        await connection.execute("SELECT * FROM iot_service.books")
        for statement in ("DELETE FROM iot_service.ledger", "SELECT iot_service.make_month(now())"):
            with pytest.raises(InsufficientPrivilege):
                await connection.execute(statement)
        await connection.execute("SET ROLE iot_ingest")
        await connection.execute("DELETE FROM iot_service.ledger")
        for statement in ("DROP TABLE iot_service.ledger", "CREATE TABLE iot_service.mine ()"):
            with pytest.raises(InsufficientPrivilege):
                await connection.execute(statement)
    finally:
        await connection.close()
