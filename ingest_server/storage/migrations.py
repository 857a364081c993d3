"""Numbered migrations: each runs once, in a transaction, in order."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from ingest_server.errors import SchemaError
from ingest_server.storage.connection import Connection, transaction, translated

_LOCK = 0x4845414C37  # "HEAL7": two servers that start together must not both migrate
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """What the database says of a step."""

    migration: Migration
    applied_at: str | None


def migrations() -> list[Migration]:
    """All steps that this version knows, in order."""
    found = []
    for entry in files("ingest_server.storage").joinpath("schema").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_bytes()))
    return sorted(found, key=lambda m: m.version)


async def status(connection: Connection) -> list[Applied]:
    """Every step and when it was applied. Raises SchemaError where the database is not one of ours any more."""
    await _require_utf8(connection)
    with translated():
        cursor = await connection.execute("SELECT to_regclass('iot_service.schema_migrations') IS NOT NULL")
        row = await cursor.fetchone()
        rows: list[tuple[int, str, str]] = []
        if row is not None and row[0]:
            cursor = await connection.execute(
                "SELECT version, checksum, applied_at::text FROM iot_service.schema_migrations ORDER BY version"
            )
            rows = await cursor.fetchall()
    known = {m.version: m for m in migrations()}
    when: dict[int, str] = {}
    for version, checksum, applied_at in rows:
        if version not in known:
            raise SchemaError(f"the database has migration {version}, which this version does not know: upgrade it")
        if known[version].checksum != checksum:
            raise SchemaError(f"migration {version} was changed after it was applied: restore the released file")
        when[version] = applied_at
    return [Applied(m, when.get(m.version)) for m in known.values()]


async def _require_utf8(connection: Connection) -> None:
    """Names of devices are written in every alphabet: another encoding would refuse them one by one."""
    with translated():
        cursor = await connection.execute("SHOW server_encoding")
        row = await cursor.fetchone()
    if row is not None and row[0] != "UTF8":
        raise SchemaError(f"the database's encoding is {row[0]}: make one with ENCODING 'UTF8'")


async def migrate(connection: Connection) -> list[Migration]:
    """Applies what is missing; returns it. Several may call this at once: one does the work."""
    done = []
    with translated():
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        with translated():
            await connection.execute("CREATE SCHEMA IF NOT EXISTS iot_service")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS iot_service.schema_migrations (version integer PRIMARY KEY, name text"
                " NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        for step in await status(connection):
            if step.applied_at is not None:
                continue
            async with transaction(connection):
                await connection.execute(step.migration.sql)
                await connection.execute(
                    "INSERT INTO iot_service.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                    (step.migration.version, step.migration.name, step.migration.checksum),
                )
            done.append(step.migration)
    finally:
        with translated():
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return done


async def require_current(connection: Connection) -> None:
    """Raises SchemaError where a step is missing."""
    missing = [s.migration.version for s in await status(connection) if s.applied_at is None]
    if missing:
        raise SchemaError(f"the schema lacks migration {missing[0]}: run `heal7-iot db migrate --dsn …`")
