"""Making a backup: everything from one snapshot, with bounded memory, while writers go on.

1. Tables are locked against DDL before the snapshot is taken: a month that is detached in between would be in neither
   place. The lock holds up nobody who reads or writes.
2. What interrupts it leaves no folder that could be taken for a backup (`folder.py`).
"""

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import sql as composed

from ingest_server.errors import SchemaError
from ingest_server.storage.backup import folder, room
from ingest_server.storage.backup.errors import NotWritten
from ingest_server.storage.backup.files import CompressedFile, write_whole
from ingest_server.storage.backup.manifest import FORMAT, MANIFEST, SUMS, Bucket, File, Manifest, sums
from ingest_server.storage.backup.progress import Progress
from ingest_server.storage.backup.sample import ReadingsSeen, bucket_of, sample_of
from ingest_server.storage.backup.tables import (
    BEFORE_HORIZON,
    CONDITIONS,
    KEPT,
    READINGS,
    Table,
    chosen,
    tables_of,
    unknown,
)
from ingest_server.storage.connection import BlockingConnection, connect_blocking, sql, translated
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.line.partitions import Month

_ROWS_A_BLOCK = 16_384
_LOCK_TIMEOUT_S = 30
_BOUND = re.compile(r"'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[.\d]*\+00'")


@dataclass(frozen=True, slots=True)
class Dumped:
    """A complete backup. left_behind: what interrupted ones before it had left."""

    path: Path
    manifest: Manifest
    left_behind: folder.LeftBehind


@dataclass(frozen=True, slots=True)
class _Part:
    """One file to be: a table's rows, or those of them that a condition names."""

    file: str
    schema: str
    table: str
    columns: tuple[str, ...]
    condition: composed.Composable | None = None
    archived: bool = False

    def statement(self) -> composed.Composed:
        columns = composed.SQL(", ").join(map(composed.Identifier, self.columns))
        where = composed.SQL("") if self.condition is None else composed.SQL(" WHERE {}").format(self.condition)
        return composed.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT binary)").format(
            columns, composed.Identifier(self.schema, self.table), where
        )


def dump(dsn: str, directory: Path, progress: Progress, *, with_archive: bool = False) -> Dumped:
    """A backup of the database in a new folder below `directory`.

    Blocks; for a thread or a command. Raises StorageError, NotWritten among them; nothing is left then.
    """
    with _connected(dsn) as connection:
        with translated():
            _require_schema(connection)
            ledger_id, _, _, now = _identity(connection)
            readings = _estimated(connection, with_archive)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritten(f"{directory}: {error.strerror}") from error
        left_behind = folder.clear(directory)
        room.require_for_backup(directory, readings)
        name = folder.name_of(now, ledger_id)
        with folder.begun(directory, name) as partial, _snapshot(connection, with_archive):
            with translated():
                manifest = _Dump(connection, partial, progress, with_archive).run()
            written = manifest.written()
            write_whole(partial / MANIFEST, written)
            write_whole(partial / SUMS, sums(manifest, written))
    return Dumped(directory / name, manifest, left_behind)


class _Dump:
    """One run, within its snapshot."""

    def __init__(self, connection: BlockingConnection, path: Path, progress: Progress, with_archive: bool) -> None:
        self._connection = connection
        self._path = path
        self._progress = progress
        self._with_archive = with_archive
        self._left_out: list[str] = []
        self._files: list[File] = []

    def run(self) -> Manifest:
        ledger_id, version, postgresql, made_at = _identity(self._connection)
        tables = _tables(self._connection)
        self._seen = ReadingsSeen(tables[READINGS].columns, ledger_id)
        kept = chosen(tables, KEPT)
        archived = self._archived()
        self._progress.begin("backing up (rows)", sum(t.rows for t in kept) + sum(rows for _, rows in archived))
        for table in kept:
            if table.name == READINGS:
                for part in self._months(table):
                    self._copy(part)
            else:
                self._copy(_Part(f"{table.name}.copy.zst", "iot_service", table.name, table.columns), empty=True)
        for table in chosen(tables, BEFORE_HORIZON, views=True):
            if table.name in CONDITIONS and "raw_horizon" in tables:
                self._copy(
                    _Part(
                        f"{table.name}.copy.zst",
                        "iot_service",
                        table.name,
                        table.columns,
                        composed.SQL(CONDITIONS[table.name]),
                    )
                )
        for part, _ in archived:
            self._copy(part)
        for name in unknown(tables):
            if re.fullmatch(r"(sensor_readings|rollup_1m)_\d{4}_\d{2}", name) is None:
                self._left_out.append(f"iot_service.{name}: it is none of heal7-iot's tables")
        readings = [f for f in self._files if f.begins is not None and f.table == f"iot_service.{READINGS}"]
        return Manifest.model_validate(
            {
                "heal7-iot-backup": FORMAT,
                "made_by": f"heal7-iot {importlib.metadata.version('heal7-iot')}",
                "made_at": made_at,
                "postgresql": postgresql,
                "flavour": self._flavour(),
                "schema_version": version,
                "ledger_id": ledger_id,
                "begins": min((f.begins for f in readings if f.begins), default=None),
                "ends": max((f.ends for f in readings if f.ends), default=None),
                "raw_horizon": self._one("SELECT begins::text FROM iot_service.raw_horizon")
                if "raw_horizon" in tables
                else None,
                "files": self._files,
                "sequences": self._sequences(),
                "books": [
                    row[0] for row in self._rows(b"SELECT to_jsonb(b) FROM iot_service.books b ORDER BY gateway")
                ],
                "sample": self._sample(),
                "erasures": self._one("SELECT count(*) FROM iot_service.erasures") if "erasures" in tables else 0,
                "left_out": self._left_out,
            }
        )

    def _copy(self, part: _Part, *, empty: bool = False) -> None:
        """One file; a part without rows leaves one only where `empty`."""
        is_readings = part.schema == "iot_service" and part.table == READINGS
        begins_us: int | None = None
        ends_us: int | None = None
        path = self._path / part.file
        cursor = self._connection.cursor()
        with CompressedFile(path) as file, cursor.copy(part.statement()) as copy:
            first = True
            # Messages are rows, the first with the header in front; after the last comes a trailer. Rows one by one
            # are libpq's way: this loop is the one that the house rules forbid, and has no other form.
            for block, messages in _blocks(copy):
                if is_readings and (span := self._seen.take(block, first=first)) is not None:
                    least, greatest = span
                    begins_us = least if begins_us is None else min(begins_us, least)
                    ends_us = greatest if ends_us is None else max(ends_us, greatest)
                file.write(block)
                self._progress.advance(messages)
                first = False
        if cursor.rowcount == 0 and not empty:
            path.unlink()
            return
        if part.table == "rollup_1m":
            # Kept by months, too.
            begins_us, ends_us = self._minutes(part)
        self._files.append(
            File(
                name=part.file,
                # Detached already, and perhaps on its way: it is restored to where it was going.
                table=f"archive.{part.table}" if part.archived else f"{part.schema}.{part.table}",
                columns=part.columns,
                rows=cursor.rowcount,
                bytes=file.bytes,
                sha256=file.sha256,
                begins=_iso(begins_us),
                ends=_iso(ends_us),
            )
        )

    def _minutes(self, part: _Part) -> tuple[int | None, int | None]:
        assert part.condition is not None
        row = self._connection.execute(
            composed.SQL(
                "SELECT (extract(epoch FROM min(bucket)) * 1000000)::bigint,"
                " (extract(epoch FROM max(bucket)) * 1000000)::bigint FROM iot_service.rollup_1m WHERE {}"
            ).format(part.condition)
        ).fetchone()
        assert row is not None
        return row[0], row[1]

    def _months(self, table: Table) -> list[_Part]:
        """A part for each month in which readings may lie. The first and the last are open: nothing falls outside."""
        found = [_bounds(row) for row in self._rows(sql("backup/backup_months"))]
        months = _between([b for b in found if b is not None])
        parts = []
        for n, month in enumerate(months):
            condition = composed.SQL(" AND ").join(
                [
                    *([composed.SQL("recorded_at >= {}").format(_literal(month))] if n > 0 else []),
                    *([composed.SQL("recorded_at < {}").format(_literal(month.next()))] if n + 1 < len(months) else []),
                ]
            )
            parts.append(
                _Part(
                    f"{month.table_of(READINGS)}.copy.zst",
                    "iot_service",
                    READINGS,
                    table.columns,
                    condition if len(months) > 1 else None,
                )
            )
        return parts or [_Part(f"{READINGS}.copy.zst", "iot_service", READINGS, table.columns)]

    def _archived(self) -> list[tuple[_Part, int]]:
        parts = []
        for schema, table, columns, rows in self._rows(sql("erasure/months_apart")):
            if self._with_archive:
                parts.append(
                    (_Part(f"archive.{table}.copy.zst", schema, table, tuple(columns), archived=True), int(rows))
                )
            else:
                self._left_out.append(f"{schema}.{table}: an archived month: ask for it by --with-archive")
        return parts

    def _flavour(self) -> Flavour:
        rows = self._rows(sql("recorded_flavour"))
        return Flavour(rows[0][0]) if rows else Flavour.NATIVE

    def _sequences(self) -> dict[str, int]:
        # Null for a number that nobody has drawn yet, and for a role that may not look.
        return {f"{t}.{c}": int(last) for t, c, last in self._rows(sql("backup/backup_sequences")) if last is not None}

    def _sample(self) -> list[Bucket]:
        rows = self._connection.execute(sql("backup/backup_sample"), sample_of(self._seen.buckets)).fetchall()
        return [bucket_of(row) for row in rows]

    def _rows(self, statement: bytes) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def _one(self, statement: str) -> Any:
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def _connected(dsn: str) -> Iterator[BlockingConnection]:
    connection = connect_blocking(dsn, "backup", 0)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _snapshot(connection: BlockingConnection, with_archive: bool) -> Iterator[None]:
    with translated():
        names = [
            composed.Identifier("iot_service", t.name) for t in chosen(_tables(connection), (*KEPT, *BEFORE_HORIZON))
        ]
        if with_archive:
            archived = connection.execute(sql("erasure/months_apart")).fetchall()
            names += [composed.Identifier(schema, table) for schema, table, *_ in archived]
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Of the transaction: these leave with it. A SELECT in their place would take the snapshot before the locks.
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute(composed.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(composed.SQL(", ").join(names)))
    yield
    with translated():
        connection.execute("COMMIT")


def _require_schema(connection: BlockingConnection) -> None:
    row = connection.execute("SELECT to_regclass('iot_service.ledger_identity') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        raise SchemaError("this database has no schema iot_service of heal7-iot: there is nothing to back up")


def _identity(connection: BlockingConnection) -> tuple[str, int, str, str]:
    row = connection.execute(sql("backup/backup_identity")).fetchone()
    if row is None:
        raise SchemaError("the database has no ledger_id: it is being restored, or was migrated by hand")
    return row[0], row[1], row[2], row[3]


def _tables(connection: BlockingConnection) -> dict[str, Table]:
    return tables_of(connection.execute(sql("backup/backup_tables")).fetchall())


def _estimated(connection: BlockingConnection, with_archive: bool) -> int:
    """How many readings there are, as PostgreSQL's statistics have it: 0 where it has none."""
    tables = _tables(connection)
    archived = connection.execute(sql("erasure/months_apart")).fetchall() if with_archive else []
    return sum(int(rows) for _, name, _, rows in archived if name.startswith(READINGS)) + (
        tables[READINGS].rows if READINGS in tables else 0
    )


def _blocks(copy: Any) -> Iterator[tuple[bytes, int]]:
    """The rows of a COPY joined to blocks, each with how many messages it was."""
    waiting: list[bytes] = []
    for message in copy:
        waiting.append(message)
        if len(waiting) == _ROWS_A_BLOCK:
            yield b"".join(waiting), len(waiting)
            waiting.clear()
    if waiting:
        yield b"".join(waiting), len(waiting)


def _bounds(row: tuple[str | None, str | None]) -> tuple[datetime, datetime] | None:
    """[from, to) of a partition or a chunk, as PostgreSQL writes it."""
    for text in row:
        if text is not None and (text.startswith("FOR VALUES") or "recorded_at" in text):
            found = [datetime.fromisoformat(f"{match}+00:00") for match in _BOUND.findall(text)]
            if len(found) == 2:
                return found[0], found[1]
    return None


def _between(bounds: list[tuple[datetime, datetime]]) -> list[Month]:
    """Every month from the first that these touch to the last."""
    if not bounds:
        return []
    month = _month(min(begin for begin, _ in bounds))
    last = _month(max(end for _, end in bounds) - timedelta(microseconds=1))
    months = [month]
    while month < last:
        month = month.next()
        months.append(month)
    return months


def _month(at: datetime) -> Month:
    return Month(at.year, at.month)


def _literal(month: Month) -> composed.Literal:
    return composed.Literal(month.start)


def _iso(us: int | None) -> str | None:
    if us is None:
        return None
    return f"{datetime.fromtimestamp(us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06d}Z"
