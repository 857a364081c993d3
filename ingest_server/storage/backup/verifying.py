"""Proving a backup: its files are those that were written, and a database made of them says what the original said."""

from dataclasses import dataclass
from pathlib import Path

from psycopg import sql as composed

from ingest_server.storage.backup import room, scratch
from ingest_server.storage.backup.loading import Backup, check_files, open_backup, restore
from ingest_server.storage.backup.manifest import Bucket
from ingest_server.storage.backup.progress import Progress
from ingest_server.storage.backup.sample import bucket_of, sample_of
from ingest_server.storage.connection import Connection, connect, sql, translated
from ingest_server.storage.flavour import Wanted
from ingest_server.storage.schema.migrations import migrate

_TERMS = ("committed", "quarantined", "dropped", "presumed_lost", "in_flight")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing that was looked at. differs: a line for each difference; none: it is as the backup says."""

    what: str
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """restored: whether a database was made of it. dropped, left_behind: databases of verifications that were killed,
    those that were dropped now, and those that are perhaps not of our making."""

    path: Path
    restored: bool
    comparisons: tuple[Comparison, ...]
    dropped: tuple[scratch.Scratch, ...]
    left_behind: tuple[scratch.Scratch, ...]

    @property
    def sound(self) -> bool:
        return not any(c.differs for c in self.comparisons)


async def verify_backup(path: Path, dsn: str | None, progress: Progress) -> Verified:
    """Compares checksums and, where a server is named, what a database made of the backup says.

    dsn: any database of a server on which this role may make databases; one is made beside it, and dropped whatever
    happens. Raises StorageError where it cannot be compared at all.
    """
    backup = open_backup(path)
    if dsn is None:
        return Verified(path, False, (await _compare_files(backup, progress),), (), ())
    maker = await connect(dsn, "verify", 0)
    try:
        # First: to read every file may take an hour.
        await scratch.require_right(maker)
        dropped, left = await scratch.clear(maker)
        await room.require_for_database(maker, backup.manifest)
        comparisons = [await _compare_files(backup, progress)]
        restored = not comparisons[0].differs
        if restored:
            async with scratch.made(maker, dsn) as connection:
                # Its own partitions, whatever the server offers: each table is there, and can be counted.
                await restore(connection, backup, progress, wanted=Wanted.NATIVE, to_newest=False)
                with translated():
                    comparisons += await _compare(connection, backup)
                await migrate(connection, wanted=Wanted.NATIVE)
                comparisons.append(Comparison("schema brought to the newest version", ()))
    finally:
        await maker.close()
    return Verified(path, restored, tuple(comparisons), tuple(dropped), tuple(left))


async def _compare_files(backup: Backup, progress: Progress) -> Comparison:
    faults = await check_files(backup, progress)
    return Comparison(f"checksums of {len(backup.manifest.files)} files", tuple(faults))


async def _compare(connection: Connection, backup: Backup) -> list[Comparison]:
    return [
        await _compare_rows(connection, backup),
        await _compare_identity(connection, backup),
        await _compare_books(connection, backup),
        await _compare_sample(connection, backup),
    ]


async def _compare_rows(connection: Connection, backup: Backup) -> Comparison:
    expected: dict[str, int] = {}
    for file in backup.manifest.files:
        expected[file.table] = expected.get(file.table, 0) + file.rows
    differs = []
    for table, rows in expected.items():
        cursor = await connection.execute(
            composed.SQL("SELECT count(*) FROM {}").format(composed.Identifier(*table.split(".")))
        )
        row = await cursor.fetchone()
        assert row is not None
        if row[0] != rows:
            differs.append(f"{table}: {row[0]:,} rows, the backup says {rows:,}")
    return Comparison(f"rows of {len(expected)} tables, {sum(expected.values()):,}", tuple(differs))


async def _compare_identity(connection: Connection, backup: Backup) -> Comparison:
    cursor = await connection.execute("SELECT ledger_id::text FROM iot_service.ledger_identity")
    row = await cursor.fetchone()
    assert row is not None
    said = backup.manifest.ledger_id
    return Comparison("ledger_id", () if row[0] == said else (f"ledger_id is {row[0]}, the backup says {said}",))


async def _compare_books(connection: Connection, backup: Backup) -> Comparison:
    cursor = await connection.execute("SELECT to_jsonb(b) FROM iot_service.books b ORDER BY gateway")
    found = {row[0]["gateway"]: row[0] for row in await cursor.fetchall()}
    said = {book["gateway"]: book for book in backup.manifest.books}
    differs = []
    for gateway in sorted({*found, *said}):
        here, there = found.get(gateway), said.get(gateway)
        if here is None or there is None:
            differs.append(f"{gateway}: only {'the backup' if here is None else 'the database'} has its books")
            continue
        differs += [
            f"{gateway}: {term} is {here.get(term)}, the backup says {value}"
            for term, value in there.items()
            if here.get(term) != value
        ]
        if here["sealed"] != sum(here[term] for term in _TERMS):
            differs.append(f"{gateway}: sealed is {here['sealed']}, which is not the sum of {', '.join(_TERMS)}")
    return Comparison(f"books of {len(said)} gateways", tuple(differs))


async def _compare_sample(connection: Connection, backup: Backup) -> Comparison:
    sample = backup.manifest.sample
    cursor = await connection.execute(
        sql("backup/backup_sample"), sample_of([(b.series_id, b.hour_us) for b in sample])
    )
    found = [bucket_of(row) for row in await cursor.fetchall()]
    differs = [
        f"series {said.series_id}, hour {said.hour_us}: {_told(here)}, the backup says {_told(said)}"
        for here, said in zip(found, sample, strict=True)
        if here != said
    ]
    return Comparison(f"count, sum, least and greatest of {len(sample)} hours of series", tuple(differs))


def _told(bucket: Bucket) -> str:
    return f"{bucket.readings} readings, sum {bucket.total}, {bucket.minimum} … {bucket.maximum}"
