"""Restoring a backup: all of it becomes visible at once, or nothing of it was ever there.

One transaction makes the schema as the backup had it, loads every file, brings the schema to the newest version, and
enforces erasures that the backup does not know. A server that runs, or a gateway that speaks, never meets half of it; a
restore that dies is rolled back by PostgreSQL.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from psycopg import errors
from psycopg import sql as composed

from ingest_server.errors import SchemaError, StorageUnavailable
from ingest_server.storage.backup import room
from ingest_server.storage.backup.errors import DamagedBackup, NotABackup, TargetRefused
from ingest_server.storage.backup.files import decompressed, hashed
from ingest_server.storage.backup.manifest import File, Manifest, read_manifest
from ingest_server.storage.backup.progress import Progress
from ingest_server.storage.backup.tables import BEFORE_HORIZON, FILLED_BY_MIGRATION, KEPT, Table, tables_of
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.erasure import erasing
from ingest_server.storage.flavour import Flavour, Wanted, recorded, require_server
from ingest_server.storage.line.partitions import Month
from ingest_server.storage.schema.migrations import MIGRATION_LOCK, migrate, migrations

_LOCK_TIMEOUT_S = 10
_SORT_MEMORY = "256MB"
"""For the index of a month of readings, which is made once its rows are there: in half the time."""

_READINGS = "iot_service.sensor_readings"
_MONTH = re.compile(r"(?:sensor_readings|rollup_1m)_(\d{4})_(\d{2})")
_FIRST_WITH_ROLLUPS = 4

_T = TypeVar("_T")

Rules = Sequence[tuple[erasing.Erasure, Sequence[erasing.Interval]]]
"""As the journal of erasures has them."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A folder whose manifest is sound."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done. erased: readings that erasures removed which the backup did not know."""

    ledger_id: str
    flavour: Flavour
    rows: int
    readings: int
    erasures: int
    erased: int
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Done:
    rows: int = 0
    readings: int = 0
    warnings: list[str] = field(default_factory=list)


def open_backup(path: Path) -> Backup:
    """Raises NotABackup, DamagedBackup. The files are not read yet."""
    manifest = read_manifest(path)
    newest = migrations()[-1].version
    if manifest.schema_version > newest:
        raise NotABackup(
            f"{path}: its schema has version {manifest.schema_version}, {newest} is the newest known: upgrade heal7-iot"
        )
    return Backup(path, manifest)


async def check_files(backup: Backup, progress: Progress) -> list[str]:
    """Reads every file; what is wrong with them, a line each."""
    progress.begin("checking (bytes)", backup.manifest.size)
    faults = []
    for file in backup.manifest.files:
        path, read, found = backup.path / file.name, 0, ""
        try:
            async with aclosing(_ahead(hashed(path))) as blocks:
                async for amount, found in blocks:  # noqa: B007 -- the last one counts
                    read += amount
                    progress.advance(amount)
        except DamagedBackup as error:
            faults.append(str(error))
        else:
            if (read, found) != (file.bytes, file.sha256):
                faults.append(f"{path}: its checksum is not the manifest's: it was changed or cut")
    return faults


async def restore(
    connection: Connection,
    backup: Backup,
    progress: Progress,
    *,
    wanted: Wanted = Wanted.AUTO,
    as_copy: bool = False,
    erasures: Rules = (),
    to_newest: bool = True,
) -> Restored:
    """Loads a backup, whose files were checked, into a database without rows of ours.

    as_copy: under a ledger_id of its own, which no gateway trusts. to_newest: else the schema stays as the backup's.
    Raises StorageError, TargetRefused among them; nothing is changed then.
    """
    await require_server(connection)
    await _require_rights(connection)
    await room.require_for_database(connection, backup.manifest)
    try:
        return await _restore(connection, backup, progress, wanted, erasures, as_copy=as_copy, to_newest=to_newest)
    except StorageUnavailable as error:
        if isinstance(error.__cause__, errors.DiskFull):
            raise TargetRefused(f"{error}: the server's disk is full; nothing of {backup.path} stays there") from error
        raise


async def _restore(
    connection: Connection,
    backup: Backup,
    progress: Progress,
    wanted: Wanted,
    erasures: Rules,
    *,
    as_copy: bool,
    to_newest: bool,
) -> Restored:
    async with transaction(connection):
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(f"SET LOCAL maintenance_work_mem = '{_SORT_MEMORY}'".encode())
        # Until the end of the transaction: a server that starts meanwhile would migrate what it does not see.
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        await _require_empty(connection, backup.manifest)
        await migrate(connection, to=backup.manifest.schema_version, wanted=wanted)
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        done = _Done()
        await _load_all(connection, backup, progress, done)
        await _set_sequences(connection, backup.manifest)
        if as_copy:
            await connection.execute(
                "UPDATE iot_service.ledger_identity SET ledger_id = gen_random_uuid(), created_at = now()"
            )
        if backup.manifest.schema_version >= _FIRST_WITH_ROLLUPS:
            await connection.execute(sql("backup/restored_log"))
        enforced = erased = 0
        if to_newest:
            await migrate(connection, wanted=wanted)
            enforced, erased = await _enforce(connection, erasures)
        await _analyze(connection)
        flavour = await recorded(connection) or Flavour.NATIVE
        cursor = await connection.execute("SELECT ledger_id::text FROM iot_service.ledger_identity")
        row = await cursor.fetchone()
        if row is None:
            raise DamagedBackup(f"{backup.path}: it has no ledger_id: take another backup")
    return Restored(row[0], flavour, done.rows, done.readings, enforced, erased, tuple(done.warnings))


async def _require_rights(connection: Connection) -> None:
    with translated():
        cursor = await connection.execute(
            "SELECT has_database_privilege(current_database(), 'CREATE'), to_regnamespace('iot_service') IS NULL"
            " OR pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'iot_service'), 'USAGE')"
        )
        row = await cursor.fetchone()
    assert row is not None
    info = connection.info
    if not row[0]:
        raise TargetRefused(
            f"{info.user} may not make a schema here: GRANT CREATE ON DATABASE {info.dbname} TO {info.user}"
        )
    if not row[1]:
        raise TargetRefused(f"{info.user} does not own the schema iot_service: restore as its owner")


async def _require_empty(connection: Connection, manifest: Manifest) -> None:
    for name, table in (await _tables(connection)).items():
        if table.is_view or name not in (*KEPT, *BEFORE_HORIZON):
            continue
        # Whoever would write into it, a server that runs, waits until all is there.
        qualified = composed.Identifier("iot_service", name)
        await connection.execute(composed.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(qualified))
        cursor = await connection.execute(composed.SQL("SELECT EXISTS (SELECT FROM {})").format(qualified))
        row = await cursor.fetchone()
        if row is not None and row[0] and name not in FILLED_BY_MIGRATION:
            raise TargetRefused(
                f"iot_service.{name} has rows: restore into a database without the schema, or one that was just"
                " migrated; stop ingest servers that write here; to give up what is there: DROP SCHEMA iot_service"
                " CASCADE"
            )
    for file in manifest.files:
        if file.table.startswith("archive."):
            cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (file.table,))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                raise TargetRefused(f"{file.table} is there already: drop it, or restore into another database")
        for month in _months_of(file) if file.table == "iot_service.sensor_readings" else ():
            archived = f"archive.{month.table_of('sensor_readings')}"
            cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (archived,))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                raise TargetRefused(
                    f"{archived} is there: it was archived after this backup was made, which has the month, too: rename"
                    " or drop it, and its rollup_1m beside it, or restore into another database"
                )


async def _load_all(connection: Connection, backup: Backup, progress: Progress, done: _Done) -> None:
    progress.begin("restoring (bytes)", backup.manifest.size)
    tables = await _tables(connection)
    # Rows first, then their index: sorted once, instead of page by page. A hypertable's stay: its chunks make theirs.
    cursor = await connection.execute(sql("backup/readings_indexes"))
    indexes = await cursor.fetchall()
    partitioned = [(name, definition) for name, definition, _, is_partitioned in indexes if is_partitioned]
    for name, _ in partitioned:
        await connection.execute(f"DROP INDEX {name}".encode())
    for file in backup.manifest.files:
        schema, name = file.table.split(".")
        if schema == "archive":
            await _make_archived(connection, name, tables)
        elif name not in tables:
            raise SchemaError(f"{backup.path / file.name}: this schema has no table {file.table}")
        elif tables[name].is_view:
            if file.rows:
                done.warnings.append(
                    f"{file.table}: {file.rows:,} buckets from before {backup.manifest.raw_horizon} are not restored:"
                    " TimescaleDB's continuous aggregates cannot be loaded, and their readings were archived"
                )
            progress.advance(file.bytes)
            continue
        else:
            _require_columns(backup, file, tables[name])
            if name in FILLED_BY_MIGRATION:
                await connection.execute(composed.SQL("DELETE FROM {}").format(composed.Identifier(schema, name)))
            await _make_months(connection, file)
        await _load(connection, backup, file, progress)
        if schema == "archive":
            await _index_archived(connection, name, [how for _, _, how, _ in indexes])
        done.rows += file.rows
        done.readings += file.rows if file.table == _READINGS else 0
    for _, definition in partitioned:
        await connection.execute(definition.encode())


async def _load(connection: Connection, backup: Backup, file: File, progress: Progress) -> None:
    schema, name = file.table.split(".")
    statement = composed.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        composed.Identifier(schema, name), composed.SQL(", ").join(map(composed.Identifier, file.columns))
    )
    cursor = connection.cursor()
    blocks = _ahead(decompressed(backup.path / file.name))
    async with cursor.copy(statement) as copy, aclosing(blocks):
        async for block, read in blocks:
            await copy.write(block)
            progress.advance(read)
    if cursor.rowcount != file.rows:
        raise DamagedBackup(f"{backup.path / file.name}: {cursor.rowcount} rows where {file.rows} were written")


async def _make_months(connection: Connection, file: File) -> None:
    """Room for the rows of one file, where somebody has to make it."""
    cursor = await connection.execute("SELECT to_regprocedure('iot_service.make_month(timestamptz)') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return
    for month in _months_of(file):
        await connection.execute("SELECT iot_service.make_month(%s)", (month.start,))


def _months_of(file: File) -> Iterator[Month]:
    """That rows of the table of readings, or of what is partitioned like it, are of."""
    if file.begins is None or file.ends is None:
        return
    begins, ends = datetime.fromisoformat(file.begins), datetime.fromisoformat(file.ends)
    month = Month(begins.year, begins.month)
    while month <= Month(ends.year, ends.month):
        yield month
        month = month.next()


async def _make_archived(connection: Connection, name: str, tables: dict[str, Table]) -> None:
    """A table for an archived month, of either flavour: as its parent, but for indexes."""
    if _MONTH.fullmatch(name) is None:
        raise SchemaError(f"archive.{name}: this is no archived month")
    month, parent = composed.Identifier("archive", name), composed.Identifier("iot_service", _parent(name))
    await connection.execute("CREATE SCHEMA IF NOT EXISTS archive")
    await connection.execute(
        composed.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)").format(month, parent)
    )
    if tables[_parent(name)].is_view:
        # TimescaleDB's aggregate says nothing of nulls, which a minute never has.
        for column in ("series_id", "bucket"):
            await connection.execute(
                composed.SQL("ALTER TABLE {} ALTER {} SET NOT NULL").format(month, composed.Identifier(column))
            )
    cursor = await connection.execute(
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = %s::regclass", (f"iot_service.{_parent(name)}",)
    )
    row = await cursor.fetchone()
    assert row is not None
    # As if it had been moved there: whoever owns the schema drops it when its time has come.
    await connection.execute(composed.SQL("ALTER TABLE {} OWNER TO {}").format(month, composed.Identifier(row[0])))


async def _index_archived(connection: Connection, name: str, of_readings: list[str]) -> None:
    """What a month has that was moved there. of_readings: the indexes of its parent, from USING on."""
    month = composed.Identifier("archive", name)
    if _parent(name) == "rollup_1m":
        await connection.execute(composed.SQL("ALTER TABLE {} ADD PRIMARY KEY (series_id, bucket)").format(month))
        return
    for how in of_readings:
        await connection.execute(composed.SQL("CREATE INDEX ON {} {}").format(month, composed.SQL(how)))


def _parent(month: str) -> str:
    return "sensor_readings" if month.startswith("sensor_readings") else "rollup_1m"


def _require_columns(backup: Backup, file: File, table: Table) -> None:
    strange = [c for c in file.columns if c not in table.columns]
    if strange:
        raise SchemaError(f"{backup.path / file.name}: {file.table} has no column {strange[0]}")


async def _set_sequences(connection: Connection, manifest: Manifest) -> None:
    """Beyond every number that was given out, also of rows that are gone."""
    cursor = await connection.execute(sql("backup/owned_numbers"))
    for table, column, sequence in await cursor.fetchall():
        given = manifest.sequences.get(f"{table}.{column}")
        await connection.execute(
            composed.SQL("SELECT setval(%s, n) FROM (SELECT GREATEST(max({}), %s) AS n FROM {}) m WHERE n > 0").format(
                composed.Identifier(column), composed.Identifier("iot_service", table)
            ),
            (sequence, given),
        )


async def _enforce(connection: Connection, rules: Rules) -> tuple[int, int]:
    """How many erasures came into force anew, and how many readings they removed."""
    enforced = 0
    for made, intervals in rules:
        enforced += await erasing.enforce(connection, made, intervals)
    erased = 0
    for erasure_id in await erasing.unfinished(connection):
        erased += await erasing.carry_out(connection, erasure_id)
    return enforced, erased


async def _analyze(connection: Connection) -> None:
    """The first query after a restore has a plan that fits."""
    for name, table in (await _tables(connection)).items():
        if not table.is_view:
            await connection.execute(composed.SQL("ANALYZE {}").format(composed.Identifier("iot_service", name)))


async def _tables(connection: Connection) -> dict[str, Table]:
    cursor = await connection.execute(sql("backup/backup_tables"))
    return tables_of(await cursor.fetchall())


async def _ahead(blocks: Iterator[_T]) -> AsyncGenerator[_T, None]:
    """The items of an iterator that reads files, each made in a thread while the one before is worked on."""
    coming = asyncio.create_task(asyncio.to_thread(_next, blocks))
    try:
        while item := await asyncio.shield(coming):
            coming = asyncio.create_task(asyncio.to_thread(_next, blocks))
            yield item[0]
    finally:
        # A generator cannot be let go while a thread runs it.
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()


def _next(blocks: Iterator[_T]) -> tuple[_T] | None:
    for item in blocks:
        return (item,)
    return None
