"""What each role can do, and what it cannot: least privilege, proved by trying."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from ingest_server.storage.connection import connect
from ingest_server.storage.inspection import rights
from ingest_server.storage.schema.migrations import migrate
from tests.peers.postgres import FAST, Database, running_postgres

INTO = "INSERT INTO iot_service"
READING = f"{INTO}.sensor_readings VALUES ('2026-11-01+00', now(), 1, 1, 0, 100)"

INGEST_CAN = [
    "SELECT iot_service.make_month('2026-11-01+00')",
    "SELECT * FROM iot_service.sensor_readings",
    READING,
    f"{INTO}.gateways (name) VALUES ('a/b')",
    f"{INTO}.rollup_log (from_at, to_at, series_ids) VALUES (now(), now() + interval '1 s', '{{1}}')",
    "DELETE FROM iot_service.rollup_log",
    f"{INTO}.rollup_1h VALUES (1, now(), 1, 1, 1, 1, 1, 1)",
    f"{INTO}.job_runs (job, server) VALUES ('a', 'b')",
    "UPDATE iot_service.erasures SET refused = refused + 1",
    "UPDATE iot_service.ledger SET missing_since = NULL",
    "DELETE FROM iot_service.quarantine",
    "DELETE FROM iot_service.raw_frames",
    "SELECT * FROM iot_service.corrections",
    "SELECT * FROM iot_service.readings",
]
INGEST_CANNOT = [
    "DELETE FROM iot_service.sensor_readings",
    "UPDATE iot_service.sensor_readings SET value = 0",
    "TRUNCATE iot_service.sensor_readings",
    "DROP TABLE iot_service.ledger",
    "CREATE TABLE iot_service.mine (a integer)",
    "ALTER TABLE iot_service.ledger ADD COLUMN mine integer",
    "DELETE FROM iot_service.gateways",
    "DELETE FROM iot_service.iot_devices",
    "UPDATE iot_service.series SET unit = 'x'",
    "UPDATE iot_service.ledger_identity SET ledger_id = gen_random_uuid()",
    "DELETE FROM iot_service.erasures",
    "DELETE FROM iot_service.corrections",
    "UPDATE iot_service.corrections SET reason = ''",
    "DELETE FROM iot_service.correction_revisions",
    "UPDATE iot_service.erasures SET reason = ''",
    f"{INTO}.erasures (requested_by, reason, scope) VALUES ('a', 'b', 'c')",
    f"{INTO}.device_placements VALUES (1, now(), NULL, NULL)",
    f"{INTO}.schema_migrations VALUES (99, 'x', 'x', now())",
    "UPDATE iot_service.raw_horizon SET begins = now()",
    "SELECT iot_service.grant_roles()",
    "SELECT * FROM platform.orders",
]
READER_CAN = [
    f"SELECT * FROM iot_service.{view}"
    for view in (
        *("readings", "latest_readings", "hourly_sensor_averages", "fact_sensor_daily", "user_behavior_patterns"),
        *("iot_devices", "device_history", "zone_history", "books", "data_gaps", "job_runs", "sensor_readings"),
        *("corrections", "correction_revisions", "reading_corrections"),
    )
] + ["SELECT quarantine_id, reason, detail FROM iot_service.quarantine"]
READER_CANNOT = [
    READING,
    "DELETE FROM iot_service.ledger",
    "UPDATE iot_service.iot_devices SET status = 'error'",
    "SELECT iot_service.make_month(now())",
    "SELECT iot_service.grant_roles()",
    "SELECT payload FROM iot_service.quarantine",
    "SELECT * FROM iot_service.quarantine",
    "SELECT * FROM iot_service.erasures",
    "SELECT * FROM iot_service.raw_frames",
    f"{INTO}.corrections (device_id, kind, from_at, made_by, reason) VALUES (1, 'x', now(), 'a', 'b')",
    "SELECT * FROM iot_service.erased_series",
    "CREATE TABLE iot_service.mine (a integer)",
    f"{INTO}.rollup_log (from_at, to_at, series_ids) VALUES (now(), now(), '{{1}}')",
    "SELECT * FROM platform.orders",
]
ADMIN_CAN = [
    "DELETE FROM iot_service.sensor_readings",
    f"{INTO}.erasures (requested_by, reason, scope) VALUES ('a', 'b', 'c')",
    "SELECT payload FROM iot_service.quarantine",
    "CREATE TABLE iot_service.mine (a integer)",
    "UPDATE iot_service.raw_horizon SET begins = now()",
    "ALTER TABLE iot_service.ledger ADD COLUMN mine integer",
    "ALTER TABLE iot_service.sensor_readings DETACH PARTITION iot_service.sensor_readings_2026_11 CONCURRENTLY",
    "ALTER TABLE iot_service.sensor_readings_2026_11 SET SCHEMA archive",
    "DROP TABLE archive.sensor_readings_2026_11",
    "DROP TABLE iot_service.quarantine",
]
ADMIN_CANNOT = ["SELECT * FROM platform.orders", "CREATE ROLE mine", "DROP SCHEMA platform CASCADE"]


@contextmanager
def member_of(database: Database, role: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of a login that is a member of this role, and nothing else."""
    database.query(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'a_{role}') THEN"
        f" CREATE ROLE a_{role} LOGIN IN ROLE {role}; END IF; END $$"
    )
    with psycopg.connect(database.dsn.replace("user=postgres", f"user=a_{role}"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def beside_the_platform(any_database: Database) -> Database:
    """The platform has tables of its own in the same database."""
    any_database.query("CREATE SCHEMA platform")
    any_database.query("CREATE TABLE platform.orders (a integer)")
    any_database.query("SELECT iot_service.make_month('2026-11-01+00')")
    return any_database


def test_iot_ingest_writes_and_owns_nothing(beside_the_platform: Database) -> None:
    _try_all(beside_the_platform, "iot_ingest", INGEST_CAN, INGEST_CANNOT)


def test_iot_reader_reads_and_writes_nothing(beside_the_platform: Database) -> None:
    _try_all(beside_the_platform, "iot_reader", READER_CAN, READER_CANNOT)


def test_iot_admin_may_all_of_ours_and_nothing_of_the_platforms(beside_the_platform: Database) -> None:
    _try_all(beside_the_platform, "iot_admin", ADMIN_CAN, ADMIN_CANNOT)


def test_a_reader_may_not_lock_the_table(beside_the_platform: Database) -> None:
    with member_of(beside_the_platform, "iot_reader") as reader:
        for mode in ("ACCESS EXCLUSIVE", "SHARE"):
            with pytest.raises(InsufficientPrivilege), reader.transaction():
                reader.execute(f"LOCK TABLE iot_service.sensor_readings IN {mode} MODE".encode())


def test_whoever_reads_cannot_hold_up_who_writes(beside_the_platform: Database) -> None:
    """A reader's open transaction holds no lock that a COPY, a new month or a refresh would wait for."""
    with member_of(beside_the_platform, "iot_reader") as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM iot_service.readings")
        with member_of(beside_the_platform, "iot_ingest") as writer:
            writer.execute("SET lock_timeout = '5s'")
            writer.execute("SELECT iot_service.make_month('2027-01-01+00')")
            writer.execute(READING)


def _try_all(database: Database, role: str, can: list[str], cannot: list[str]) -> None:
    with member_of(database, role) as connection:
        for statement in can:
            connection.execute(statement.encode())
        for statement in cannot:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement.encode())


async def test_roles_that_are_made_later_get_their_rights() -> None:
    """By an administrator: whoever migrates may not make any. As docs/install.md has it."""
    with running_postgres(FAST) as server, psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE plain LOGIN")
        admin.execute("CREATE DATABASE heal7 OWNER plain")
        plain = await connect(server.dsn("heal7").replace("user=postgres", "user=plain"), "test", 30)
        try:
            await migrate(plain)
            told = await rights(plain)
            assert (told.ok, "CREATE ROLE iot_admin; CREATE ROLE iot_ingest;" in told.detail) == (None, True)
            admin.execute("CREATE ROLE iot_admin; CREATE ROLE iot_ingest; CREATE ROLE iot_reader")
            assert (await rights(plain)).ok is False
            assert await migrate(plain) == []
            assert (await rights(plain)).ok is True
        finally:
            await plain.close()
        admin.execute("CREATE ROLE graf LOGIN IN ROLE iot_reader")
        with psycopg.connect(server.dsn("heal7").replace("user=postgres", "user=graf")) as reader:
            reader.execute("SELECT * FROM iot_service.readings")
