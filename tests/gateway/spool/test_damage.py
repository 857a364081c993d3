"""Files that are no longer what was written: at seeded places, so that a failure can be repeated."""

import lzma
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.link import wire
from gateway.link.ranges import RangeSet
from gateway.spool import salvage
from gateway.spool.database import PAGE_BYTES, connect
from gateway.spool.errors import SpoolCorrupt
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity
from tests.gateway.spool.support import (
    ANCHOR,
    GATEWAY,
    LEDGER,
    ROOMY,
    WALL_S,
    Server,
    body,
    copy_files,
    epochs,
    everything,
    opened,
    sealed,
)

READINGS = 10
BATCHES = 60


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A spool after a crash: 60 batches of which 20 are settled and 2 dropped; no WAL left."""
    folder = tmp_path / "before"
    folder.mkdir()
    path = folder / "spool.sqlite"
    with opened(path, draw=lambda: 777) as spool:
        for n in range(BATCHES):
            sealed(spool, READINGS, n, size=300 + 97 * n % 5000, seed=n)
        spool.apply_receipt(LEDGER, {777: RangeSet.below(20)}, WALL_S)
        for seq in (30, 31):
            spool.drop(Identity(777, seq), "too_large")
    with closing(connect(path)) as other:
        other.execute("UPDATE epochs SET clean = 0")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def check(path: Path, *, least: int) -> Server:
    """It opens, goes on, sends only what was written, and its books and the server's audit find all the rest."""
    server = Server()
    spool = Spool.open(path, ROOMY, Boot("after", 1), None, epochs())
    try:
        spool.set_anchor(ANCHOR)
        for identity in everything(spool):
            batch = spool.load(identity, GATEWAY, 1)
            if batch is not None and identity.epoch == 777 and batch.envelope.readings:
                assert batch.body == body(300 + 97 * identity.seq % 5000, identity.seq)
                assert batch.envelope.readings == READINGS
        fresh = sealed(spool, 5)
        assert spool.epoch != 777
        server.drain(spool)
        assert fresh in server.bodies
        for book in spool.books().epochs:
            assert book.held == RangeSet()
            # What the server may never hear of is what the gateway neither has nor names: found by the audit.
            assert not spool.settled()[book.epoch] - (server.settled.get(book.epoch, RangeSet()) | RangeSet.below(20))
    finally:
        spool.close()
    assert sum(identity.epoch == 777 for identity in server.bodies) >= least
    return server


def asides(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.glob("*.corrupt-*"))


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bits(written: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(written.read_bytes())
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    written.write_bytes(data)
    check(written, least=10)


@pytest.mark.parametrize("seed", range(12))
def test_pages_of_rubbish(written: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(written.read_bytes())
    for _ in range(rng.choice([1, 2, 6])):
        page = rng.randrange(1, len(data) // PAGE_BYTES)
        data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = rng.choice([bytes(PAGE_BYTES), rng.randbytes(PAGE_BYTES)])
    written.write_bytes(data)
    check(written, least=0)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_that_was_cut(written: Path, fraction: float) -> None:
    data = written.read_bytes()
    written.write_bytes(data[: int(len(data) * fraction)])
    check(written, least=0)


@pytest.mark.parametrize("fill", [0, 255])
def test_without_its_first_page_nearly_all_is_saved(written: Path, fill: int) -> None:
    data = written.read_bytes()
    written.write_bytes(bytes([fill]) * PAGE_BYTES + data[PAGE_BYTES:])
    server = check(written, least=38)
    assert server.settled[777] == RangeSet([(20, BATCHES)])
    assert asides(written) == ["spool.sqlite.corrupt-1"]


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_wal(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "spool.sqlite"
    with opened(path, draw=lambda: 777) as spool:
        for n in range(20):
            sealed(spool, READINGS, n, size=300 + 97 * n % 5000, seed=n)
        left = copy_files(path, tmp_path / "cut")
    rng = random.Random(seed)
    wal = left.with_name(left.name + "-wal")
    data = bytearray(wal.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    wal.write_bytes(data[: rng.randrange(len(data) // 2, len(data))] if seed % 2 else data)
    check(left, least=0)


def test_rubbish_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(random.Random(1).randbytes(50_000))
    check(path, least=0)
    path.write_text("not a database")
    check(path, least=0)
    assert asides(path) == ["spool.sqlite.corrupt-1", "spool.sqlite.corrupt-2"]
    path.write_text("not a database")
    check(path, least=0)
    assert asides(path) == ["spool.sqlite.corrupt-2", "spool.sqlite.corrupt-3"]


def test_a_bad_copy_found_while_salvaging_leaves_its_gap(written: Path) -> None:
    with closing(sqlite3.connect(written)) as other:
        other.execute("UPDATE batches SET body = zeroblob(length(body)) WHERE id & 0xff IN (40, 41, 59)")
        other.commit()
    salvage.salvage(written)
    server = check(written, least=35)
    assert server.settled[777] == RangeSet([(20, BATCHES)])
    assert server.dropped == 5 * READINGS


@pytest.mark.parametrize("table", ["epochs", "boots", "settlements", "losses", "gaps", "totals"])
def test_each_table_can_be_missed(written: Path, table: str) -> None:
    with closing(sqlite3.connect(written)) as other:
        other.execute(f"DROP TABLE {table}")
        other.commit()
    server = check(written, least=38)
    found = server.settled[777]
    expected = RangeSet([(0 if table == "settlements" else 20, BATCHES)])
    missing = RangeSet([(30, 32)]) if table == "losses" else RangeSet()
    assert found == expected - missing


def test_a_power_cut_at_any_step_of_salvaging_is_made_good(written: Path, tmp_path: Path) -> None:
    data = bytearray(written.read_bytes())
    data[:PAGE_BYTES] = bytes(PAGE_BYTES)
    written.write_bytes(data)
    # Half a copy: thrown away. A whole one beside the damaged file with its WAL: takes its place.
    written.with_name("spool.sqlite.salvaging").write_bytes(b"half")
    check(written, least=38)
    assert not written.with_name("spool.sqlite.salvaging").exists()
    whole = copy_files(written, tmp_path / "whole")
    written.rename(written.with_name("spool.sqlite.salvaged"))
    wal = written.with_name("spool.sqlite-wal")
    wal.write_bytes(b"of the damaged file")
    with opened(written, now_us=2) as spool:
        assert 777 in spool.settled()
    # Beside the new file it would have been replayed into it.
    (aside,) = written.parent.glob("*.corrupt-*-wal")
    assert aside.read_bytes() == b"of the damaged file"
    assert whole.exists()


def test_damage_that_is_met_while_running_is_salvaged_by_the_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with opened(path, draw=lambda: 777) as spool:
        for n in range(BATCHES):
            sealed(spool, READINGS, n, size=300 + 97 * n % 5000, seed=n)
    data = bytearray(path.read_bytes())
    # The scan at opening reads no body: a broken chain of its pages is met by who loads it.
    at = data.find(body(300 + 97 * 48, 48).stored[2000:2016]) // PAGE_BYTES
    data[at * PAGE_BYTES : at * PAGE_BYTES + 4] = b"\xff\xff\xff\x00"
    path.write_bytes(data)
    spool = Spool.open(path, ROOMY, Boot("b", 1), None, epochs())
    spool.set_anchor(ANCHOR)
    with pytest.raises(SpoolCorrupt):
        spool.group([lambda s: [s.load(i, GATEWAY, 1) for i in everything(s)]])
    spool.close()
    assert asides(path) == []
    server = check(path, least=BATCHES - 1)
    assert server.dropped == READINGS
    assert server.settled[777] | RangeSet.below(1) == RangeSet.below(BATCHES)
    assert asides(path) == ["spool.sqlite.corrupt-1"]


@pytest.mark.parametrize("word", [b"STRICT", b"INTEGER NOT NULL", b"batches"])
def test_a_schema_that_is_no_text_any_more_is_salvaged(written: Path, word: bytes) -> None:
    """SQLite quotes it in its error; Python could not decode the error, and the gateway did not start."""
    content = bytearray(written.read_bytes())
    content[content.index(word, content.index(b"CREATE TABLE batches"))] ^= 0x80
    written.write_bytes(content)
    check(written, least=BATCHES - 22)


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Ends what would never end."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not within {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_file_that_was_cut_and_grew_again_is_salvaged(tmp_path: Path) -> None:
    """Found by the fault harness: rows came out of order, salvage went round in a circle, and no gateway started.

    The file is kept as it was found: among 167 pages 103 are zeros, since a checkpoint wrote beyond the cut.
    """
    path = tmp_path / "spool.sqlite"
    path.write_bytes(lzma.decompress((Path(__file__).parent / "damaged" / "cut-and-grown.sqlite3.xz").read_bytes()))
    with no_longer_than(60):
        report = salvage.salvage(path)
    assert report.saved == 96


@pytest.mark.parametrize("left", [100, 1024, 70_000])
def test_a_file_of_which_nothing_is_left_is_told_as_a_gap(written: Path, left: int) -> None:
    """Without a row of its own the new file would look like a new gateway's: a silence."""
    written.write_bytes(b"\x07" * left)
    with opened(written) as spool:
        spool.set_anchor(ANCHOR)
        (told,) = spool.seal_gaps()
        batch = spool.load(told, GATEWAY, 1)
        assert batch is not None
        (gap,) = wire.decode_gaps(wire.unpack(batch))
    assert (gap.reason, gap.epoch, gap.readings) == ("bad_copy", 0, None)
    # Some time before now.
    assert gap.from_us is not None
    assert gap.to_us is not None
    assert gap.from_us <= 0 < gap.to_us <= WALL_S * 1e6
