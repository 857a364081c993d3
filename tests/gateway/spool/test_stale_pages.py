"""Pages that are sound, each by itself, and of different times: what a disk leaves that had not synced what it said."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.link.ranges import RangeSet
from gateway.spool.database import PAGE_BYTES
from gateway.spool.rows import batch_id
from gateway.spool.values import Identity
from tests.gateway.spool.support import ROOMY, Server, body, epochs, everything, opened, sealed

READINGS = 3
BATCHES = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool after a clean stop, of which no opening looks through all pages; a drop is told by its last batch."""
    path = tmp_path / "spool.sqlite"
    with opened(path, draw=lambda: 777) as spool:
        for n in range(BATCHES):
            sealed(spool, READINGS, n, size=1_500, seed=n)
        spool.drop(Identity(777, 3), "too_large")
        spool.seal_gaps()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def leaves(data: bytes | bytearray) -> list[int]:
    """Offsets of the pages that hold rows of `batches`, in the order of their keys."""
    found = []
    for at in range(0, len(data), PAGE_BYTES):
        if data[at] != 13 or at == 0:
            continue
        cell = at + int.from_bytes(data[at + 8 : at + 10], "big")
        key, after = _varint(data, _varint(data, cell)[1])
        if key >> 40 == 1 and after <= at + PAGE_BYTES:
            found.append((key, at))
    return [at for _, at in sorted(found)]


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number of SQLite's (below 2^56), and where it ends."""
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def check(path: Path, missing: set[int]) -> None:
    """All but these seqs arrive, once, as they were sealed; nothing waits for ever, and the file was salvaged."""
    server = Server()
    with opened(path, ROOMY, draw=epochs(), now_us=99) as spool:
        for identity in everything(spool):
            batch = spool.load(identity, "seoul/room-1", 1)
            assert batch is not None
            if identity.epoch == 777 and batch.envelope.readings:
                assert batch.body == body(1_500, identity.seq)
        server.drain(spool)
        assert all(not book.held for book in spool.books().epochs)
    assert RangeSet.below(BATCHES + 1) - server.settled[777] == RangeSet.of(missing)
    assert list(path.parent.glob("*.corrupt-1"))


def test_rows_that_only_a_scan_finds(path: Path) -> None:
    """Two pages in each other's place: they were held for ever, and never sent."""
    data = bytearray(path.read_bytes())
    first, second = leaves(data)[2:4]
    data[first : first + PAGE_BYTES], data[second : second + PAGE_BYTES] = (
        data[second : second + PAGE_BYTES],
        data[first : first + PAGE_BYTES],
    )
    path.write_bytes(data)
    check(path, set())


def test_rows_that_are_there_twice(path: Path) -> None:
    """A page of another time in the place of one: salvage failed with the second copy, and no gateway started."""
    data = bytearray(path.read_bytes())
    first, second, third = leaves(data)[2:5]
    overwritten = _seqs(data, second)
    data[second : second + PAGE_BYTES] = data[first : first + PAGE_BYTES]
    path.write_bytes(data)
    assert overwritten
    assert third
    check(path, overwritten)


def _seqs(data: bytes | bytearray, at: int) -> set[int]:
    cells = int.from_bytes(data[at + 3 : at + 5], "big")
    pointers = [at + int.from_bytes(data[at + 8 + 2 * n : at + 10 + 2 * n], "big") for n in range(cells)]
    return {_varint(data, _varint(data, pointer)[1])[0] & (1 << 40) - 1 for pointer in pointers}


def test_a_gap_batch_that_is_gone_names_its_losses_no_longer(path: Path) -> None:
    """They were named already, it seemed, and nobody was ever told of them."""
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("DELETE FROM batches WHERE id = ?", (batch_id(1, BATCHES),)).rowcount == 1
        other.commit()
    check(path, {BATCHES})


def test_a_boot_that_is_gone(path: Path) -> None:
    """Its batches waited for its clock for ever, or had that of the next boot, which took its number."""
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("DELETE FROM boots").rowcount == 1
        other.commit()
    check(path, set())
