"""The SQLite file: how it is opened, what its errors mean, how ranges lie in it."""

import sqlite3
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any
from zlib import crc32

from gateway.link.ranges import RangeSet
from gateway.spool import seals
from gateway.spool.errors import SpoolBusy, SpoolCorrupt, SpoolError, SpoolUnavailable

PAGE_BYTES = 1024
"""A commit writes whole pages, and most of what it writes besides the body is one small row on each of a few."""
WAL_BYTES = 1_048_576
"""Checkpoint after so much: pages that are written again and again reach the file once. The reserve holds it."""
APPLICATION_ID = 0x48375350  # "H7SP"
SCHEMA_VERSION = 2

_BUSY_MS = 2000
"""A process that was told to stop may still be closing its spool."""


class SpoolFile(sqlite3.Connection):
    """A connection to a file that may be damaged.

    Of a schema that is damaged SQLite quotes the bytes in its error, and where these are no UTF-8 Python raises
    UnicodeDecodeError in place of the error.
    """

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:
            unreadable = sqlite3.DatabaseError("the schema is damaged beyond quoting")
            unreadable.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise unreadable from error


def connect(path: Path) -> sqlite3.Connection:
    """The connection, its schema made where the file is new.

    Raises SpoolBusy, SpoolCorrupt, SpoolUnavailable, SpoolError (written by a later version).
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000, factory=SpoolFile)
        _configure(connection)
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise translated(error, path) from error
    except SpoolError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    # Exclusive: two daemons on one spool would undo each other's books; and without shared memory there is no
    # mapped -shm file, whose growth on a full disk would end the process with SIGBUS.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Distributions turn it on: freed pages would be written over with zeros.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute("PRAGMA temp_store = MEMORY")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SpoolError(f"spool of version {version}: written by a later release, which this one must not touch")
    if version == 0:
        create(connection)
    if version == 1:
        _take_over_first_layout(connection)
    else:
        seals.seal_what_is_written(connection)


def _take_over_first_layout(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ALTER TABLE epochs ADD COLUMN held_back_us INTEGER NOT NULL DEFAULT 0")
    for table in seals.SEALED:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN seal INTEGER NOT NULL DEFAULT 0")
    seals.seal_what_is_written(connection)
    seals.seal_all(connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables, in one transaction."""
    text = files("gateway.spool").joinpath("schema.sql").read_text(encoding="utf-8")
    # SQLite keeps the text of each table: without comments, a release that words them anew makes the same first page,
    # which salvage relies on.
    schema = " ".join(line.split("--")[0].strip() for line in text.splitlines())
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA application_id = {APPLICATION_ID};\n"
        f"PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
    )


def is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite found no room: ENOSPC, or (as a failed write) a quota."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file is not what SQLite wrote."""
    code = getattr(error, "sqlite_errorcode", 0)
    # SQLITE_ERROR: a table is not there, though the version says so. The others: a sector that the card no longer
    # reads, or a file that was cut.
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR) or code in (
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    )


def translated(error: sqlite3.Error, path: Path) -> SpoolError:
    """SQLite's error in the terms of this package."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolBusy(f"{path} is open in another process: only one gateway may own a spool")
    if is_corrupt(error):
        return SpoolCorrupt(f"{path}: {error}")
    return SpoolUnavailable(f"{path}: {error}")


def pack_ranges(ranges: RangeSet, owner: int) -> bytes:
    """Ranges as pairs of u64, little-endian, after a CRC-32 that also covers whose they are.

    A flipped bit must not settle what never arrived.
    """
    flat = [n for pair in ranges for n in pair]
    packed = struct.pack(f"<{len(flat)}Q", *flat)
    return _CRC.pack(crc32(packed, owner & 0xFFFFFFFF)) + packed


def unpack_ranges(packed: bytes, owner: int) -> RangeSet:
    """The ranges in a column. Raises SpoolCorrupt."""
    if packed == b"":
        return RangeSet()
    try:
        if crc32(packed[_CRC.size :], owner & 0xFFFFFFFF) != _CRC.unpack_from(packed)[0]:
            raise SpoolCorrupt(f"ranges of {owner}: checksum is wrong")
        pairs = struct.iter_unpack("<QQ", packed[_CRC.size :])
        return RangeSet((first, end) for first, end in pairs)
    except (struct.error, ValueError, TypeError) as error:
        raise SpoolCorrupt(f"ranges of {owner}: {error}") from error


_CRC = struct.Struct("<I")
