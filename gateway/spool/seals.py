"""Checksums of the rows that say what batches mean: their epochs and boots, what was lost, which gap tells of it.

SQLite's pages have none. A flipped bit in such a row could give a whole epoch another name or another time, or name as
lost what is there. `batches` and the ranges in `settlements` have checksums of their own.

Rows are sealed by triggers of the connection: whoever writes one need not think of it, and the file holds no code.
"""

import sqlite3
from zlib import crc32

from gateway.spool.errors import SpoolCorrupt

SEALED = {
    "epochs": (
        "epoch_no, epoch, boot_no, opened_us, clean, next_seq, sealed, last_us, settled_batches, settled_readings,"
        " freed, quiet_hour, held_back_us"
    ),
    "boots": "boot_no, boot_id, started_us, ended_us, offset_us, uncertainty_us, source",
    "losses": "loss_no, reason, batch, readings, from_boot, from_us, to_boot, to_us",
    "gaps": "id, first_loss, end_loss",
}
"""The columns of each table that its column `seal` vouches for; its key comes first."""


def seal_of(table: str, *values: object) -> int:
    """The checksum of a row."""
    # Two rows of one kind must not change places: the key is among the values.
    return crc32(repr((table, *values)).encode())


def intact(table: str, row: tuple[object, ...]) -> bool:
    """Whether a row, its seal last, is what was written."""
    return row[-1] == seal_of(table, *row[:-1])


def seal_what_is_written(connection: sqlite3.Connection) -> None:
    """From now on every row that this connection writes is sealed."""
    connection.create_function("seal_of", -1, seal_of, deterministic=True)
    for table, columns in SEALED.items():
        new = ", ".join(f"NEW.{column}" for column in columns.split(", "))
        for number, event in enumerate(("INSERT", f"UPDATE OF {columns}")):
            connection.execute(
                f"CREATE TEMP TRIGGER seal_{table}_{number} AFTER {event} ON {table} BEGIN UPDATE {table}"  # noqa: S608  # names of ours
                f" SET seal = seal_of('{table}', {new}) WHERE {_key(table)} = NEW.{_key(table)}; END"
            )


def seal_all(connection: sqlite3.Connection) -> None:
    """Seals the rows of a file that had no seals, once the connection seals what is written."""
    for table in SEALED:
        connection.execute(f"UPDATE {table} SET {_key(table)} = {_key(table)}")  # noqa: S608  # names of ours


def check(connection: sqlite3.Connection) -> None:
    """Raises SpoolCorrupt where a row is not what was written, or its page is not sound."""
    for table, columns in SEALED.items():
        if not readable(connection, table):
            raise SpoolCorrupt(f"{table}: cannot be read whole")
        wrong = connection.execute(
            f"SELECT {_key(table)} FROM {table} WHERE seal != seal_of('{table}', {columns}) LIMIT 1"  # noqa: S608  # names of ours
        ).fetchone()
        if wrong is not None:
            raise SpoolCorrupt(f"{table}: row {wrong[0]} is not what was written")


def readable(connection: sqlite3.Connection, table: str) -> bool:
    """Whether all pages of a table are sound."""
    try:
        return bool(connection.execute(f"PRAGMA quick_check({table})").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def _key(table: str) -> str:
    return SEALED[table].split(",", maxsplit=1)[0]
