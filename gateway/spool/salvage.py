"""What can still be read of a damaged file goes into a new one, under the same identities.

Row by row: each batch is believed only with both of its checksums. One whose columns are right and whose body is not
leaves a `bad_copy` loss; one that cannot be read at all is found by the server's audit, since its seq is missing.

The steps are in an order that a power cut cannot spoil: the new file is built as `<name>.salvaging`, becomes
`<name>.salvaged` once it is whole, and only then is the damaged one moved to `<name>.corrupt-<n>`.
"""

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.link.ranges import RangeSet
from gateway.spool.database import PAGE_BYTES, SpoolFile, create, is_full, unpack_ranges
from gateway.spool.errors import SpoolCorrupt
from gateway.spool.rows import INSERT, SEQ_BITS, Row, read_row, split_id
from gateway.spool.seals import SEALED, intact, readable, seal_what_is_written
from gateway.spool.state import HOUR_BITS

ASIDE_KEPT = 2
"""Damaged files that are kept for whoever wants to look: each may be as large as the bound."""
_CHUNK = 256
_LAST = 2**63 - 1
_SETTLED = "id, batches, readings, ranges"
_HEAD = (
    "id, epoch, boot_no, kind, readings, before, first_us, last_us, offset_us, uncertainty_us, source, encoding,"
    " length, crc, seal"
)


@dataclass(slots=True)
class Report:
    """What became of the batches that were found."""

    saved: int = 0
    bad: int = 0
    no_room: int = 0

    def __str__(self) -> str:
        return f"{self.saved} batches saved, {self.bad} bad copies, {self.no_room} without room"


def salvage(path: Path) -> Report:
    """Replaces the damaged file at `path`. Raises sqlite3.DatabaseError where no new file can be made."""
    work = _beside(path, ".salvaging")
    _clear(work)
    report = Report()
    with closing(sqlite3.connect(work, isolation_level=None)) as target:
        target.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        # Nothing of this file counts before it is whole.
        target.execute("PRAGMA synchronous = OFF")
        target.execute("PRAGMA journal_mode = MEMORY")
        target.execute("PRAGMA secure_delete = OFF")
        create(target)
        seal_what_is_written(target)
        source = _open_source(path)
        if source is not None:
            with closing(source):
                _copy(source, target, report)
        _tell_of_nothing_left(target)
    with work.open("rb") as written:
        os.fsync(written.fileno())
    work.rename(_beside(path, ".salvaged"))
    finish(path)
    return report


def finish(path: Path) -> None:
    """Puts a salvaged file in its place, where a power cut left that undone."""
    whole = _beside(path, ".salvaged")
    _clear(_beside(path, ".salvaging"))
    if not whole.exists():
        return
    number = 1
    while _beside(path, f".corrupt-{number}").exists():
        number += 1
    # Each step is on the disk before the next: of names that are not synced a power cut may keep any.
    _sync(path.parent)
    # The WAL, too: beside the new file it would be replayed into it.
    for suffix in ("-wal", "-shm", "-journal", ""):
        old = _beside(path, suffix)
        if old.exists():
            old.rename(_beside(path, f".corrupt-{number}{suffix}"))
    _sync(path.parent)
    whole.rename(path)
    _sync(path.parent)
    for n in range(1, number + 1 - ASIDE_KEPT):
        _clear(_beside(path, f".corrupt-{n}"))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _clear(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        _beside(path, suffix).unlink(missing_ok=True)


def _open_source(path: Path) -> sqlite3.Connection | None:
    for repair in (False, True):
        if repair:
            _graft_schema(path)
        connection = sqlite3.connect(path, isolation_level=None, factory=SpoolFile)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'batches'").fetchone()
            connection.execute("SELECT id, body FROM batches LIMIT 0")
        except sqlite3.DatabaseError:
            connection.close()
        else:
            return connection
    return None


def _graft_schema(path: Path) -> None:
    """Without the pages of its schema SQLite reads nothing of a file that may be whole otherwise; they are known."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as template:
        template.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        create(template)
        roots = {number for (number,) in template.execute("SELECT rootpage FROM sqlite_schema")}
        data = bytearray(template.serialize())
    pages = path.stat().st_size // PAGE_BYTES
    data[18:20] = b"\x02\x02"  # WAL, as every spool
    # Change counter and "version valid for" agree, which makes the number of pages count; no free list.
    data[24:40] = struct.pack(">IIII", 1, pages, 0, 0)
    data[92:96] = struct.pack(">I", 1)
    with path.open("r+b") as damaged:
        for number in range(1, len(data) // PAGE_BYTES + 1):
            if number not in roots:
                damaged.seek((number - 1) * PAGE_BYTES)
                damaged.write(data[(number - 1) * PAGE_BYTES : number * PAGE_BYTES])


def _scan(source: sqlite3.Connection, table: str, columns: str, key: str) -> Iterator[tuple[object, ...]]:
    """Every row that can be read, in order of its key, the first column."""
    at, limit = -1, _CHUNK
    while at < _LAST:
        rows = _after(source, table, columns, key, at, limit)
        if rows is None and limit > 1:
            limit = 1
        elif rows is None:
            at = _beyond(source, table, columns, key, at)
        else:
            yield from rows
            if len(rows) < limit:
                return
            at, limit = int(rows[-1][0]), min(_CHUNK, limit + 1)


def _after(
    source: sqlite3.Connection, table: str, columns: str, key: str, at: int, limit: int
) -> list[tuple[int, ...]] | None:
    """The next rows; None where they cannot be read."""
    try:
        rows = source.execute(
            f"SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?",  # noqa: S608  # names of ours
            (at, limit),
        ).fetchall()
    except sqlite3.DatabaseError:
        return None
    # Where pages of another time lie in the tree, keys come out of order: whoever went back with them never ended.
    return rows if not rows or rows[-1][0] > at else None


def _beyond(source: sqlite3.Connection, table: str, columns: str, key: str, at: int) -> int:
    """The first key after which rows can be read again: by leaps, then by halves."""
    leap = 1
    while at + leap < _LAST and _after(source, table, columns, key, at + leap, 1) is None:
        leap *= 2
    bad, good = at + leap // 2, min(at + leap, _LAST)
    while good - bad > 1:
        middle = (bad + good) // 2
        if _after(source, table, columns, key, middle, 1) is None:
            bad = middle
        else:
            good = middle
    return good


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, report: Report) -> None:
    for table in ("epochs", "boots"):
        _copy_sealed(source, target, table)
    for values in _scan(source, "settlements", _SETTLED, "id"):
        _insert(target, "settlements", _SETTLED, values)
    settled = _settled(target)
    bad: list[Row] = []
    later: list[int] = []
    for head in _scan(source, "batches", _HEAD, "id"):
        row = read_row((*head, b""))
        if row is None or row.id >> SEQ_BITS < 1:
            continue  # found by the audit
        _know_epoch(target, row)
        number, seq = split_id(row.id)
        if seq in settled.get(number, RangeSet()):
            later.append(row.id)
        else:
            _copy_batch(source, target, row, bad, report)
    losses_known = _copy_sealed(source, target, "losses")
    _copy_sealed(source, target, "gaps")
    # Copies for the replay window only: where there is no room or no sound copy, they are as good as freed.
    for wanted in later:
        for head in _after(source, "batches", _HEAD, "id", wanted - 1, 1) or ():
            row = read_row((*head, b""))
            if row is not None and row.id == wanted:
                _copy_batch(source, target, row, None, report)
    target.execute("DELETE FROM gaps WHERE id NOT IN (SELECT id FROM batches) OR first_loss >= end_loss")
    target.execute("DELETE FROM settlements WHERE id >> 24 NOT IN (SELECT epoch_no FROM epochs)")
    target.execute("DELETE FROM losses WHERE batch IS NOT NULL AND batch >> 40 NOT IN (SELECT epoch_no FROM epochs)")
    for lost in bad:
        _lose(target, lost)
    if not losses_known:
        _tell_of_unknown_losses(target)
    _fill_in(source, target)


def _copy_sealed(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> bool:
    """Rows whose seal is right; whether that is all that was written."""
    columns = SEALED[table]
    whole = readable(source, table)
    for values in _scan(source, table, f"{columns}, seal", columns.split(",", maxsplit=1)[0]):
        if intact(table, values):
            _insert(target, table, columns, values[:-1])
        else:
            whole = False
    return whole


def _tell_of_unknown_losses(target: sqlite3.Connection) -> None:
    """What the losses were that cannot be read, nobody knows: some readings, between the first boot and the last.

    Those of batches are found by the server's audit, but of readings that were never sealed nothing else is left.
    """
    target.execute(
        "INSERT INTO losses (loss_no, reason, batch, readings, from_boot, from_us, to_boot, to_us)"
        " SELECT ?, 'bad_copy', NULL, NULL, coalesce(min(boot_no), 1), 0, coalesce(max(boot_no), 1),"
        " coalesce(max(started_us), 0) FROM boots",
        (_next_loss(target),),
    )


def _next_loss(target: sqlite3.Connection) -> int:
    # Not only behind the losses that are there: one that got a number in a gap batch's range would pass for told.
    (number,) = target.execute(
        "SELECT 1 + max(coalesce((SELECT max(loss_no) FROM losses), 0),"
        " coalesce((SELECT max(end_loss) - 1 FROM gaps), 0))"
    ).fetchone()
    return int(number)


def _tell_of_nothing_left(target: sqlite3.Connection) -> None:
    """Where not even an epoch is left, no later opening would say that something was here: when, nobody knows."""
    (epochs,) = target.execute("SELECT count(*) FROM epochs").fetchone()
    if not epochs:
        target.execute("DELETE FROM losses")
        target.execute("DELETE FROM boots")
        target.execute("INSERT INTO boots (boot_no, boot_id, started_us) VALUES (1, 'of a lost file', 0)")
        target.execute(
            "INSERT INTO losses (loss_no, reason, batch, readings, from_boot, from_us, to_boot, to_us)"
            " VALUES (1, 'bad_copy', NULL, NULL, 1, 0, 1, 0)"
        )


def _insert(target: sqlite3.Connection, table: str, columns: str, row: tuple[object, ...]) -> None:
    marks = ", ".join("?" * len(row))
    try:
        target.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608  # names of ours
    except sqlite3.DatabaseError:
        return  # of the wrong type, or twice: not what was written


def _settled(target: sqlite3.Connection) -> dict[int, RangeSet]:
    """What is settled by epoch_no; rows whose checksum is wrong go, and what they said is sent again."""
    found: dict[int, RangeSet] = {}
    for key, packed in target.execute("SELECT id, ranges FROM settlements").fetchall():
        number = key >> HOUR_BITS
        try:
            ranges = unpack_ranges(packed, key)
        except SpoolCorrupt:
            ranges = RangeSet()
        if not ranges:
            target.execute("DELETE FROM settlements WHERE id = ?", (key,))
        found[number] = found.get(number, RangeSet()) | ranges
    for number, packed in target.execute("SELECT epoch_no, freed FROM epochs").fetchall():
        try:
            unpack_ranges(packed, number)
        except SpoolCorrupt:
            target.execute("UPDATE epochs SET freed = x'' WHERE epoch_no = ?", (number,))
    return found


def _know_epoch(target: sqlite3.Connection, row: Row) -> None:
    """A batch's own checksum vouches for its epoch's name; the table's row has none."""
    number, _ = split_id(row.id)
    known = target.execute("SELECT epoch FROM epochs WHERE epoch_no = ?", (number,)).fetchone()
    if known is None:
        target.execute(
            "INSERT INTO epochs (epoch_no, epoch, boot_no, opened_us) VALUES (?, ?, ?, ?)",
            (number, row.epoch, row.boot_no, row.first_us),
        )
    elif known[0] != row.epoch:
        target.execute("UPDATE epochs SET epoch = ? WHERE epoch_no = ?", (row.epoch, number))


def _copy_batch(
    source: sqlite3.Connection, target: sqlite3.Connection, row: Row, bad: list[Row] | None, report: Report
) -> None:
    try:
        (stored,) = source.execute("SELECT body FROM batches WHERE id = ?", (row.id,)).fetchone() or (None,)
    except sqlite3.DatabaseError:
        stored = None
    whole = replace(row, body=replace(row.body, stored=stored if isinstance(stored, bytes) else b""))
    if not whole.body.intact():
        if bad is not None:
            bad.append(row)
            report.bad += 1
        return
    try:
        target.execute(INSERT, whole.columns())
        report.saved += 1
    except sqlite3.IntegrityError:
        return  # a page of another time had it, too: checksums say that both are what was sealed
    except sqlite3.DatabaseError as error:
        if not is_full(error):
            raise
        report.no_room += 1
        if bad is not None:
            bad.append(row)


def _lose(target: sqlite3.Connection, row: Row) -> None:
    """A batch whose copy is lost, and the newest of whose epoch it may be."""
    # A gap batch's own losses are still there and open again, since its row in `gaps` went with it.
    # Where a page of another time had it, too, another copy may be here, or its loss.
    target.execute(
        "INSERT INTO losses (loss_no, reason, batch, readings, from_boot, from_us, to_boot, to_us)"
        " SELECT ?6, 'bad_copy', ?1, ?2, ?3, ?4, ?3, ?5"
        " WHERE ?1 NOT IN (SELECT id FROM batches) AND ?1 NOT IN (SELECT batch FROM losses WHERE batch IS NOT NULL)",
        (row.id, row.readings, row.boot_no, row.first_us, row.last_us, _next_loss(target)),
    )
    number, seq = split_id(row.id)
    target.execute(
        "UPDATE epochs SET next_seq = ?, sealed = ?, last_us = ? WHERE epoch_no = ? AND next_seq <= ?",
        (seq + 1, row.before + row.readings, row.last_us, number, seq),
    )


def _fill_in(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Boots that only others name; totals; the pinned ledger."""
    for (number,) in target.execute(
        "SELECT boot_no FROM epochs UNION SELECT boot_no FROM batches"
        " UNION SELECT from_boot FROM losses UNION SELECT to_boot FROM losses"
    ).fetchall():
        target.execute(
            "INSERT OR IGNORE INTO boots (boot_no, boot_id, started_us) VALUES (?, ?, 0)", (number, f"unknown-{number}")
        )
    for table, columns in (("totals", "name, number"), ("pinned", "ledger")):
        try:
            rows = source.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608  # names of ours
        except sqlite3.DatabaseError:
            continue
        for row in rows:
            _insert(target, table, columns, row)
