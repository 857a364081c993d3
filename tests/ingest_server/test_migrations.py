"""The schema: how it comes to be, and that it is the one in the repository."""

import asyncio
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.errors import SchemaError
from ingest_server.storage.connection import connect
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.schema import drift, migrations
from tests.ingest_server.rollup_oracle import brute_force, stored
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


ROWS = (
    "SELECT recorded_at, created_at, value, series_id, causes, reliability FROM iot_service.sensor_readings"
    " ORDER BY recorded_at, series_id"
)


async def of_version_1(database: Database) -> list[tuple[Any, ...]]:
    """A database of version 1 with readings in three months; these readings."""
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.migrate(connection, to=1)
    finally:
        await connection.close()
    version_1 = migrations.migrations()[0]
    assert database.query("SELECT version, checksum FROM iot_service.schema_migrations") == [(1, version_1.checksum)]
    # As version 1 wrote its book: the column for the flavour came later.
    database.query("ALTER TABLE iot_service.schema_migrations DROP COLUMN flavour")
    database.query("INSERT INTO iot_service.gateways (name) VALUES ('seoul-1/lobby')")
    database.query(
        "INSERT INTO iot_service.iot_devices (site, device, home_gateway_id)"
        " SELECT 'seoul-1', 'hall-' || n, g.gateway_id FROM iot_service.gateways g, generate_series(1, 3) AS n"
    )
    database.query(
        "INSERT INTO iot_service.series (device_id, channel, quantity, unit)"
        " SELECT device_id, 'temperature', 'temperature', '°C' FROM iot_service.iot_devices"
    )
    for month in ("2026-08-01+00", "2026-09-01+00", "2026-10-01+00"):
        database.query("SELECT iot_service.make_month(%s)", month)
    database.query(
        "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
        " SELECT timestamptz '2026-08-15+00' + n * interval '7 minutes', n / 4.0, n % 3 + 1, n % 5, n % 101"
        "   FROM generate_series(1, 9000) AS n"
    )
    database.query(
        "INSERT INTO iot_service.latest_readings SELECT DISTINCT ON (series_id) series_id, recorded_at, value,"
        " reliability, causes FROM iot_service.sensor_readings ORDER BY series_id, recorded_at DESC"
    )
    database.query(
        "INSERT INTO iot_service.ledger (gateway_id, epoch, settled, next_seq, sealed, committed)"
        " SELECT gateway_id, 7, '{[0,9)}', 9, 9000, 9000 FROM iot_service.gateways"
    )
    return database.query(ROWS)


async def there_and_back(database: Database) -> None:
    before = await of_version_1(database)
    assert len(before) == 9000
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.migrate(connection)
        assert database.query(ROWS) == before
        await refresh_all(connection)
        assert stored(database, [1, 2, 3]) == brute_force(database, [1, 2, 3], "UTC")
        assert database.one("SELECT count(*) FROM iot_service.latest_readings") == 3
        assert database.query("SELECT sealed, balanced FROM iot_service.books") == [(9000, True)]
        for version in reversed(range(1, len(ALL))):
            (back,) = await migrations.migrate(connection, to=version)
            assert back.version == version + 1
            assert database.query(ROWS) == before
        assert database.query("SELECT sealed, balanced FROM iot_service.books") == [(9000, True)]
        # And forth again, from where it is now.
        await migrations.migrate(connection)
        assert database.query(ROWS) == before
        assert await drift.differences(connection) == []
    finally:
        await connection.close()


async def test_a_database_of_version_1_comes_to_the_newest_and_back(any_empty_database: Database) -> None:
    """Version by version, and no reading changes; rollups of what was there before equal brute force."""
    await there_and_back(any_empty_database)


async def test_it_becomes_a_hypertable_and_a_partitioned_table_again(timescale_database: Database) -> None:
    await there_and_back(timescale_database)


async def test_the_first_step_is_taken_back_only_from_an_empty_schema(empty_database: Database) -> None:
    await of_version_1(empty_database)
    connection = await connect(empty_database.dsn, "test", 30)
    try:
        with pytest.raises(SchemaError, match=r"taking back migration 1 .*DROP SCHEMA iot_service CASCADE"):
            await migrations.migrate(connection, to=0)
        empty_database.query("TRUNCATE iot_service.ledger; TRUNCATE iot_service.sensor_readings")
        await migrations.migrate(connection, to=0)
    finally:
        await connection.close()
    assert empty_database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'iot_service'::regnamespace AND relkind = 'r'"
    ) == [("schema_migrations",)]


async def test_erasures_in_force_are_not_given_up(database: Database) -> None:
    database.query("INSERT INTO iot_service.erasures (requested_by, reason, scope) VALUES ('a', 'b', 'c')")
    connection = await connect(database.dsn, "test", 30)
    try:
        with pytest.raises(SchemaError, match=r"taking back migration 3 .*come back"):
            await migrations.migrate(connection, to=2)
    finally:
        await connection.close()


async def test_a_version_that_nobody_knows_is_refused(database: Database) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        with pytest.raises(SchemaError, match=rf"no version 99: 0 to {ALL[-1]}"):
            await migrations.migrate(connection, to=99)
    finally:
        await connection.close()


async def test_a_step_gives_way_to_whoever_holds_a_lock(
    any_empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a migration that waits, every reader and writer would queue."""
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(migrations, "_ATTEMPTS", 2)
    await of_version_1(any_empty_database)
    with psycopg.connect(any_empty_database.dsn) as reader:
        reader.execute("SELECT count(*) FROM iot_service.ledger")
        connection = await connect(any_empty_database.dsn, "test", 30)
        try:
            with pytest.raises(SchemaError, match=r"migration 2 .*pg_locks.*nothing of it was done"):
                await migrations.migrate(connection)
            reader.rollback()
            assert [m.version for m in await migrations.migrate(connection)] == ALL[1:]
        finally:
            await connection.close()


async def test_who_may_not_make_the_schema_is_told_what_to_ask_for(any_empty_database: Database) -> None:
    any_empty_database.query(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nobody_special') THEN"
        " CREATE ROLE nobody_special LOGIN; END IF; END $$"
    )
    poor = any_empty_database.dsn.replace("user=postgres", "user=nobody_special")
    connection = await connect(poor, "test", 30)
    try:
        with pytest.raises(SchemaError, match=r"GRANT CREATE ON DATABASE test_\d+ TO nobody_special"):
            await migrations.migrate(connection)
    finally:
        await connection.close()
    any_empty_database.query(f"GRANT CREATE ON DATABASE {any_empty_database.name} TO nobody_special")
    connection = await connect(poor, "test", 30)
    try:
        # No superuser, no CREATEROLE: it owns the schema, and everything works.
        assert [m.version for m in await migrations.migrate(connection)] == ALL
        await migrations.require_current(connection)
    finally:
        await connection.close()
    any_empty_database.query(f"REVOKE CREATE ON DATABASE {any_empty_database.name} FROM nobody_special")


async def test_a_table_of_somebody_elses_in_the_way_is_named(empty_database: Database) -> None:
    await of_version_1(empty_database)
    empty_database.query("CREATE TABLE iot_service.zones (mine text)")
    connection = await connect(empty_database.dsn, "test", 30)
    try:
        with pytest.raises(SchemaError, match=r'migration 3 .*"zones" already exists: it is not ours, or half of'):
            await migrations.migrate(connection)
        assert empty_database.query("SELECT max(version) FROM iot_service.schema_migrations") == [(2,)]
        assert empty_database.one("SELECT to_regclass('iot_service.sites')") is None
        empty_database.query("DROP TABLE iot_service.zones")
        assert [m.version for m in await migrations.migrate(connection)] == ALL[2:]
    finally:
        await connection.close()


async def test_a_table_of_ours_that_is_gone_is_named(empty_database: Database) -> None:
    await of_version_1(empty_database)
    empty_database.query("DROP TABLE iot_service.latest_readings")
    connection = await connect(empty_database.dsn, "test", 30)
    try:
        with pytest.raises(SchemaError, match=r"migration 3 .*latest_readings.*dropped or renamed.*nothing was done"):
            await migrations.migrate(connection)
    finally:
        await connection.close()


async def test_a_server_that_is_too_old_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_server.storage.flavour.OLDEST_POSTGRESQL", 99)
    for call in (current, migrate):
        with pytest.raises(SchemaError, match=r"PostgreSQL 18.* is too old: 99 or newer"):
            await call(database)


async def test_who_dies_after_a_step_leaves_no_drift(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrations.migrate(connection, to=5)

        async def killed(*_: object) -> None:
            raise ConnectionAbortedError("killed")

        with monkeypatch.context() as patched:
            patched.setattr(migrations, "_finish", killed)
            with pytest.raises(ConnectionAbortedError):
                await migrations.migrate(connection)
        assert await migrations.migrate(connection) == []
        assert await drift.differences(connection) == []
    finally:
        await connection.close()


async def test_drift_is_named_object_by_object(any_database: Database) -> None:
    connection = await connect(any_database.dsn, "test", 30)
    try:
        assert await drift.differences(connection) == []
        # What the server makes by itself is no drift.
        any_database.query("SELECT iot_service.make_month('2026-11-01+00')")
        assert await drift.differences(connection) == []
        any_database.query("ALTER TABLE iot_service.gateways DROP COLUMN version")
        any_database.query("DROP INDEX iot_service.data_gaps_presumed")
        any_database.query("ALTER TABLE iot_service.series ALTER COLUMN unit DROP NOT NULL")
        any_database.query("CREATE TABLE iot_service.mine (a integer)")
        assert await drift.differences(connection) == [
            "added column mine.a",
            "changed column series.unit",
            "missing column gateways.version",
            "missing index data_gaps_presumed",
        ]
    finally:
        await connection.close()


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
