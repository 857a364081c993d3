"""Numbered migrations: each runs once, in one transaction, in order, and has a way back.

`steps/NNNN_name.sql` makes a step, `.down.sql` takes it back. Where the flavours differ, the same step is there for
each of them: `NNNN_name.native.sql`, `NNNN_name.timescaledb.sql`.
"""

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import errors

from gateway.link.backoff import FullJitter
from ingest_server.errors import SchemaError, StorageUnavailable
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.flavour import Flavour, Wanted, choose, recorded, require_server
from ingest_server.storage.schema import drift

MIGRATION_LOCK = 0x4845414C37
"""\"HEAL7\": two servers that start together must not both migrate."""

_NAME = re.compile(r"(\d{4})_(\w+?)(?:\.(native|timescaledb))?\.sql")

# A step that waits for a lock holds up whoever comes after it: it gives way soon, and tries again.
_LOCK_TIMEOUT_S = 3
_ATTEMPTS = 5
_KEEPS_OBJECTS = 3
# The version from which on the database notes what it looks like.


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. flavour: None where it is the same for both."""

    version: int
    name: str
    flavour: Flavour | None
    sql: bytes
    down: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """What the database says of a step."""

    migration: Migration
    applied_at: str | None


def migrations(flavour: Flavour = Flavour.NATIVE) -> list[Migration]:
    """All steps that this version knows for a flavour, in order."""
    found = []
    folder = files("ingest_server.storage").joinpath("schema", "steps")
    for entry in folder.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match and match[3] in (None, flavour):
            down = folder.joinpath(entry.name.removesuffix(".sql") + ".down.sql").read_bytes()
            own = None if match[3] is None else Flavour(match[3])
            found.append(Migration(int(match[1]), match[2], own, entry.read_bytes(), down))
    return sorted(found, key=lambda m: m.version)


async def status(connection: Connection, flavour: Flavour | None = None) -> list[Applied]:
    """Every step and when it was applied. flavour: of the steps that are not, where the database has none yet.

    Raises SchemaError where the database is not one of ours any more.
    """
    await require_server(connection)
    with translated():
        cursor = await connection.execute("SELECT to_regclass('iot_service.schema_migrations') IS NOT NULL")
        row = await cursor.fetchone()
        rows: list[tuple[int, str, str]] = []
        if row is not None and row[0]:
            cursor = await connection.execute(
                "SELECT version, checksum, applied_at::text FROM iot_service.schema_migrations ORDER BY version"
            )
            rows = await cursor.fetchall()
    known = {m.version: m for m in migrations(await recorded(connection) or flavour or Flavour.NATIVE)}
    when: dict[int, str] = {}
    for version, checksum, applied_at in rows:
        if version not in known:
            raise SchemaError(f"the database has migration {version}, which this version does not know: upgrade it")
        if known[version].checksum != checksum:
            raise SchemaError(f"migration {version} was changed after it was applied: restore the released file")
        when[version] = applied_at
    return [Applied(m, when.get(m.version)) for m in known.values()]


async def migrate(connection: Connection, *, to: int | None = None, wanted: Wanted = Wanted.AUTO) -> list[Migration]:
    """Applies what is missing, or takes back what is beyond version `to`; returns the steps in the order of work.

    Several may call this at once: one does the work. Raises SchemaError, after which the step that failed has left
    nothing of itself, and those before it stand.
    """
    await require_server(connection)
    done = []
    with translated():
        # As long as somebody else's steps take.
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SET lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
    try:
        flavour = await choose(connection, wanted)
        await _make_book(connection)
        steps = await status(connection, flavour)
        newest = steps[-1].migration.version
        if to is not None and not 0 <= to <= newest:
            raise SchemaError(f"there is no version {to}: 0 to {newest} are known")
        for step in steps:
            if step.applied_at is None and (to is None or step.migration.version <= to):
                await _retried(connection, step.migration, back=False)
                done.append(step.migration)
        for step in reversed(steps):
            if step.applied_at is not None and to is not None and step.migration.version > to:
                await _retried(connection, step.migration, back=True)
                done.append(step.migration)
        if to is None or to >= _KEEPS_OBJECTS:
            await _finish(connection, flavour)
    finally:
        # Else it would take the place of what went wrong: on such a connection the lock ends with it.
        with suppress(psycopg.Error):
            await connection.execute("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
    return done


async def _finish(connection: Connection, flavour: Flavour) -> None:
    """What is due after the steps: also where an earlier call died before it, or an administrator made a role since."""
    with translated():
        cursor = await connection.execute(sql("schema/may_finish"))
        row = await cursor.fetchone()
    assert row is not None
    owns, grants, has_objects = row
    if not owns:
        return
    if not has_objects:
        await drift.record(connection)
    async with transaction(connection):
        if grants:
            await connection.execute("SELECT iot_service.grant_roles()")
        # TimescaleDB runs its jobs as the hypertable's owner, who must be able to log in.
        if flavour is Flavour.NATIVE:
            await connection.execute(sql("schema/hand_to_admin"))


async def _make_book(connection: Connection) -> None:
    try:
        # Of its own, so that a caller's transaction, if there is one, outlives the fault and says which it was.
        async with transaction(connection):
            await connection.execute("CREATE SCHEMA IF NOT EXISTS iot_service")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS iot_service.schema_migrations (version integer PRIMARY KEY, name text"
                " NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), flavour text)"
            )
            await connection.execute("ALTER TABLE iot_service.schema_migrations ADD COLUMN IF NOT EXISTS flavour text")
    except StorageUnavailable as error:
        if isinstance(error.__cause__, errors.InsufficientPrivilege):
            raise SchemaError(f"{error}: {_needs_rights(connection)}") from error
        raise


def _needs_rights(connection: Connection) -> str:
    info = connection.info
    return (
        f"let an administrator GRANT CREATE ON DATABASE {info.dbname} TO {info.user}, or migrate as the schema's owner"
    )


async def _retried(connection: Connection, step: Migration, *, back: bool) -> None:
    backoff = FullJitter(0.5, 5.0)
    for attempt in range(_ATTEMPTS):
        try:
            await _apply(connection, step, back=back)
        except errors.LockNotAvailable as error:
            if attempt + 1 == _ATTEMPTS:
                raise SchemaError(
                    f"{_called(step, back)}: somebody else holds a lock that it needs (see pg_locks); nothing of it was"
                    " done: try again when they are through"
                ) from error
            await asyncio.sleep(backoff.next_s())
        except psycopg.Error as error:
            raise _fault(connection, step, error, back=back) from error
        else:
            return


async def _apply(connection: Connection, step: Migration, *, back: bool) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        if step.flavour is Flavour.TIMESCALEDB:
            await connection.execute(sql("find_timescaledb"))
        await connection.execute(step.down if back else step.sql)
        if back:
            await connection.execute("DELETE FROM iot_service.schema_migrations WHERE version = %s", (step.version,))
        else:
            await connection.execute(
                "INSERT INTO iot_service.schema_migrations (version, name, checksum, flavour) VALUES (%s, %s, %s, %s)",
                (step.version, step.name, step.checksum, step.flavour),
            )
        cursor = await connection.execute("SELECT to_regclass('iot_service.schema_objects') IS NOT NULL")
        row = await cursor.fetchone()
        if row is not None and row[0]:
            # With the step: whoever dies after it would leave a schema that differs from what was noted, for ever.
            await drift.record(connection)


def _called(step: Migration, back: bool) -> str:
    return f"{'taking back ' if back else ''}migration {step.version} ({step.name})"


def _fault(connection: Connection, step: Migration, error: psycopg.Error, *, back: bool) -> Exception:
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, psycopg.OperationalError) and connection.broken:
        return StorageUnavailable(said)
    remedy = "nothing of it was done"
    if isinstance(error, errors.DuplicateTable | errors.DuplicateObject | errors.DuplicateFunction):
        remedy = "it is not ours, or half of a migration by hand: rename or drop it, then migrate; nothing was done"
    elif isinstance(error, errors.InsufficientPrivilege):
        remedy = f"{_needs_rights(connection)}; nothing was done"
    elif isinstance(error, errors.DiskFull):
        remedy = "the disk is full: make room, then migrate; nothing was done"
    elif isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedObject):
        remedy = "something of ours was dropped or renamed: see `heal7-iot db check`; nothing was done"
    return SchemaError(f"{_called(step, back)}: {said}: {remedy}")


async def require_current(connection: Connection) -> None:
    """Raises SchemaError where a step is missing."""
    missing = [s.migration.version for s in await status(connection) if s.applied_at is None]
    if missing:
        raise SchemaError(f"the schema lacks migration {missing[0]}: run `heal7-iot db migrate --dsn …`")
