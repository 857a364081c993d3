"""A bit flips in a row that says what batches mean, and no page's structure shows it.

Whatever it is: nothing is sent under another name or with another time than before, nothing is settled that no
receipt settled, and what is then missing is named by a gap or missing in the server's ledger, where the audit finds it.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.spool.seals import SEALED
from gateway.spool.values import Identity
from tests.gateway.spool.support import (
    ANCHOR,
    GATEWAY,
    LEDGER,
    ROOMY,
    WALL_S,
    Server,
    body,
    everything,
    opened,
    sealed,
)

FIRST, SECOND, THIRD = 701, 702, 703
READINGS = 4
LATE = Anchor(ANCHOR.offset_us + 3_600_000_000, 1_000, ClockSource.KERNEL)
"""Of the second boot."""
COLUMNS = [(table, column) for table, columns in SEALED.items() for column in columns.split(", ")]


def write(path: Path) -> None:
    """Three epochs of two boots: settled, dropped with and without a gap batch, unsealed losses; the stop was clean.

    What was sealed before the boot had a clock has it from the boot's row.
    """
    with opened(path, draw=lambda: FIRST, anchor=None) as spool:
        for n in range(10):
            sealed(spool, READINGS, n, seed=n)
        spool.set_anchor(ANCHOR)
        spool.apply_receipt(LEDGER, {FIRST: RangeSet.below(3)}, WALL_S)
        spool.drop(Identity(FIRST, 4), "too_large")
        assert spool.seal_gaps() == [Identity(FIRST, 10)]
    with opened(path, draw=lambda: SECOND, boot="boot-2", now_us=5, anchor=None) as spool:
        for n in range(6):
            sealed(spool, READINGS, 10 + n, seed=100 + n)
        spool.set_anchor(LATE)
        spool.record_loss("overrun", 9, 20, 30)
        spool.drop(Identity(SECOND, 2), "too_large")
        spool.apply_receipt(LEDGER, {SECOND: RangeSet([(4, 5)])}, WALL_S)
    with opened(path, draw=lambda: THIRD, boot="boot-2", now_us=50, anchor=LATE) as spool:
        sealed(spool, READINGS, 60, seed=200)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("books") / "spool.sqlite"
    write(path)
    return path.read_bytes()


WHOLE = {FIRST: 11, SECOND: 6, THIRD: 1}
SETTLED = {FIRST: RangeSet.below(3), SECOND: RangeSet([(4, 5)]), THIRD: RangeSet()}
DROPPED = {Identity(FIRST, 4), Identity(SECOND, 2)}


def check(path: Path) -> Server:
    """Opens, goes on and drains, as a gateway does after its next boot."""
    server = Server(settled={epoch: ranges for epoch, ranges in SETTLED.items() if ranges})
    sent: set[Identity] = set()
    with opened(path, ROOMY, boot="after", now_us=1, draw=lambda: 999, anchor=None) as spool:
        spool.set_anchor(Anchor(LATE.offset_us + 10**12, 1_000, ClockSource.KERNEL))
        fresh = sealed(spool, 5, 2)
        for epoch, ranges in spool.settled().items():
            assert epoch == 999 or not ranges - SETTLED.get(epoch, RangeSet()), "settled by no receipt"
        for identity in everything(spool):
            batch = spool.load(identity, GATEWAY, 1)
            assert batch is not None
            envelope = batch.envelope
            sent.add(identity)
            if identity.epoch in WHOLE and envelope.readings:
                assert identity not in DROPPED
                seed = {FIRST: 0, SECOND: 100, THIRD: 200}[identity.epoch] + identity.seq
                assert batch.body == body(2_000, seed)
                right = ANCHOR if identity.epoch == FIRST else LATE
                # Where the boot's row is lost, its time is an estimate, and says so.
                assert envelope.anchor == right or envelope.anchor.source is ClockSource.ESTIMATED
        server.drain(spool)
        assert all(not book.held for book in spool.books().epochs)
    assert fresh in sent
    assert set(server.settled) <= {*WHOLE, 999}, "under another name"
    for gap in server.gaps:
        for seq, readings in enumerate(gap.counts, gap.first):
            named = Identity(gap.epoch, seq)
            assert named in DROPPED
            assert named not in sent
            assert readings == READINGS
    for epoch, batches in WHOLE.items():
        missing = {Identity(epoch, seq) for seq in (RangeSet.below(batches) - server.settled[epoch]).members()}
        # The audit finds what a damaged loss does not name any more.
        assert missing <= DROPPED
    overruns = sum(gap.readings or 0 for gap in server.gaps if gap.reason == "overrun")
    assert overruns == 9 or any(gap.reason == "bad_copy" and gap.readings is None for gap in server.gaps)
    return server


def test_without_damage(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(written)
    server = check(path)
    assert [gap.reason for gap in server.gaps] == ["too_large", "too_large", "overrun"]
    assert not list(tmp_path.glob("*.corrupt-*"))


def changes(value: object) -> Iterator[object]:
    """A value with a bit flipped: low, middle and high."""
    if isinstance(value, int):
        yield from (value ^ 1, value ^ 1 << 17, value ^ 1 << 40)
    elif isinstance(value, str):
        yield from (value[:-1] + chr(ord(value[-1]) ^ 1), "\0" + value[1:])
    elif isinstance(value, bytes):
        yield from [value[:-1] + bytes([value[-1] ^ 4])] if value else [b"\1"]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_value_that_is_not_what_was_written(written: bytes, tmp_path: Path, table: str, column: str) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(written)
    with closing(sqlite3.connect(path)) as before:
        values = before.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    assert values
    done = 0
    for rowid, value in values:
        for changed in changes(value):
            if any(changed == other for _, other in values):
                continue  # a key that another row has
            path.write_bytes(written)
            with closing(sqlite3.connect(path)) as other:
                other.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, rowid))
                other.commit()
            check(path)
            for left in tmp_path.glob("spool.sqlite*"):
                left.unlink()
            done += 1
    assert done or all(value is None for _, value in values)


@pytest.mark.parametrize("seed", range(4))
def test_bits_that_flip_in_the_pages_of_the_books(written: bytes, tmp_path: Path, seed: int) -> None:
    """After a clean stop, when nobody looks through the whole file."""
    rng = random.Random(seed)
    path = tmp_path / "spool.sqlite"
    path.write_bytes(written)
    with closing(sqlite3.connect(path)) as before:
        (size,) = before.execute("PRAGMA page_size").fetchone()
        roots = dict(before.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall())
    for table in SEALED:
        for _ in range(12):
            data = bytearray(written)
            used = [at for at in range((roots[table] - 1) * size, roots[table] * size) if data[at]]
            data[rng.choice(used)] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            check(path)
            for left in tmp_path.glob("spool.sqlite*"):
                left.unlink()


@pytest.mark.parametrize("table", list(SEALED))
def test_a_page_of_the_books_that_is_gone(written: bytes, tmp_path: Path, table: str) -> None:
    """What was to be told of the lost losses got the number of one that a gap batch had told, and was never told."""
    path = tmp_path / "spool.sqlite"
    path.write_bytes(written)
    with closing(sqlite3.connect(path)) as before:
        (size,) = before.execute("PRAGMA page_size").fetchone()
        ((root,),) = before.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
    data = bytearray(written)
    data[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(data)
    check(path)
