"""Zero free bytes: a drop is recorded all the same, and appending never fails for want of room."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.link.ranges import RangeSet
from gateway.spool.database import PAGE_BYTES
from gateway.spool.reserve import Reserve
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from tests.gateway.spool.support import (
    ANCHOR,
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
from tests.peers.needs import wants

DISK_BYTES = 16 * 1024 * 1024
OPTIONS = SpoolOptions(bound_bytes=1 << 30, replay_window_s=3600.0)
NEWEST = replace(OPTIONS, when_full="drop_newest")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip(wants("the right to mount a tmpfs", "a disk that is really full is not tested"))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Takes every byte that is left."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as filler:
        size = 65536
        while size:
            try:
                if filler.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2
    return path


def test_a_full_disk_drops_by_policy_and_tells(disk: Path) -> None:
    server = Server()
    with opened(disk / "spool.sqlite", OPTIONS) as spool:
        assert spool.usage().reserve
        for n in range(120):  # 2.4 MB
            sealed(spool, 1, n, size=20_000, seed=n)
        filler = fill(disk)
        for n in range(120, 700):  # as much as twice the disk
            sealed(spool, 1, n, size=20_000, seed=n)
        usage = spool.usage()
        assert usage.whole_file.dropped["bound"] > 0
        assert usage.whole_file.sealed_readings == 700 == usage.whole_file.dropped["bound"] + usage.readings
        assert usage.readings > 100  # it did not throw away more than it had to
        assert everything(spool)[-1].seq == 699
        assert not usage.reserve
        assert spool.free_replayed(WALL_S) == 0
        assert not spool.usage().reserve  # no room: it must not take the last
        filler.unlink()
        spool.free_replayed(WALL_S)
        server.drain(spool)
        assert server.settled == {spool.epoch: RangeSet.below(spool.books().epochs[0].next)}
        assert server.committed + server.dropped == 700


def test_a_full_disk_keeps_what_was_sealed_earlier_where_that_is_to_stay(disk: Path) -> None:
    server = Server()
    with opened(disk / "spool.sqlite", NEWEST) as spool:
        kept = [sealed(spool, 1, n, size=20_000, seed=n) for n in range(120)]
        filler = fill(disk)
        results = [spool.append(body(20_000, n), 2, n, n) for n in range(120, 700)]
        for n in range(40):
            spool.record_loss("thinned", 3, n, n)
        lost = 2 * results.count(None)
        assert lost > 2 * 500
        usage = spool.usage()
        # What little went besides went for the books of the rest.
        assert usage.whole_file.dropped.get("bound", 0) <= 2
        assert usage.whole_file.unsealed == {"bound": lost, "thinned": 120}
        assert everything(spool)[:118] == kept[:118]
        assert spool.fill() > 0.9
        # It is on the disk, not only in the memory of a process that may be killed.
        left = copy_files(disk / "spool.sqlite", disk.parent / "left")
        with opened(left, now_us=1000) as after:
            assert after.usage().whole_file.unsealed == {"bound": lost, "thinned": 120}
        # A receipt makes room, and what comes next is sealed again.
        server.deliver(spool, 50)
        assert spool.apply_receipt(LEDGER, server.settled, WALL_S) == 50
        assert spool.append(body(20_000, 1), 2, 1, 1) is not None
        assert not spool.usage().reserve
        filler.unlink()
        assert spool.free_replayed(WALL_S) == 0
        assert spool.usage().reserve
        server.drain(spool)
        assert server.settled == {spool.epoch: RangeSet.below(spool.books().epochs[0].next)}
        whole = spool.usage().whole_file
        assert server.committed + server.dropped == whole.sealed_readings
        assert whole.sealed_readings + lost == 120 + 2 * 581


@pytest.mark.parametrize("options", [OPTIONS, NEWEST], ids=lambda o: o.when_full)
def test_a_disk_without_a_reserve_loses_readings_and_not_the_books(disk: Path, options: SpoolOptions) -> None:
    """Somebody else takes what the reserve gave back, and all of it."""
    server = Server()
    with opened(disk / "spool.sqlite", options) as spool:
        kept = [sealed(spool, 1, n, size=1000, seed=n) for n in range(20)]
        (disk / "spool.sqlite.reserve").unlink()
        filler = fill(disk)
        results = [spool.append(body(100_000, n), 7, n, n + 1) for n in range(60)]
        spool.record_loss("overrun", 5, 1, 2)
        lost = results.count(None)
        assert lost > 0
        usage = spool.usage()
        assert usage.readings + sum(usage.whole_file.dropped.values()) == usage.whole_file.sealed_readings
        filler.unlink()
        spool.record_loss("overrun", 5, 3, 4)  # brings the others with it
        server.drain(spool)
        assert server.settled == {spool.epoch: RangeSet.below(spool.books().epochs[0].next)}
        assert server.committed + server.dropped == len(kept) + 7 * (60 - lost)
        unsealed = {(g.reason, g.readings) for g in server.gaps if g.epoch == 0}
        assert {("bound", 7 * lost), ("overrun", 10)} == {
            (reason, sum(g.readings or 0 for g in server.gaps if g.reason == reason and g.epoch == 0))
            for reason, _ in unsealed
        }


def test_dropping_that_does_not_help_is_not_repeated(disk: Path) -> None:
    """A drop fits into what the WAL has, a batch does not: each try would throw away a little more, for nothing."""
    path = disk / "spool.sqlite"
    with opened(path, OPTIONS, draw=epochs()) as spool:
        for n in range(120):
            sealed(spool, 1, n, size=20_000, seed=n)
    with opened(path, OPTIONS, draw=epochs(2000), now_us=5) as spool:
        # Into pages that the file has, so that what is in the WAL finds its place in it whatever the disk has.
        for identity in everything(spool)[:4]:
            spool.drop(identity, "too_large")
        sealed(spool, 1, size=50_000)
        (disk / "spool.sqlite.reserve").unlink()
        fill(disk)
        assert [spool.append(body(110_000, n), 7, n, n) for n in range(20)] == [None] * 20
        whole = spool.usage().whole_file
        assert 0 < whole.dropped["bound"] < 40
        assert whole.unsealed == {"bound": 140}


def test_a_full_disk_does_not_keep_a_spool_from_opening(disk: Path) -> None:
    path = disk / "spool.sqlite"
    with opened(path, OPTIONS, draw=epochs()) as spool:
        for n in range(120):
            sealed(spool, 1, n, size=20_000, seed=n)
    fill(disk)
    with opened(path, OPTIONS, draw=epochs(2000), now_us=5) as spool:
        sealed(spool, 1, size=20_000)
        assert not spool.usage().reserve


@pytest.mark.parametrize("options", [OPTIONS, NEWEST], ids=lambda o: o.when_full)
def test_works_that_wait_together_survive_a_full_disk(disk: Path, options: SpoolOptions) -> None:
    with opened(disk / "spool.sqlite", options) as spool:
        for n in range(50):
            sealed(spool, 1, n, size=20_000, seed=n)
        fill(disk)
        for round_ in range(40):
            outcomes = spool.group(
                [
                    lambda s: s.apply_receipt(LEDGER, {}, WALL_S),
                    *[lambda s, n=n: s.append(body(20_000, n), 1, n, n) for n in range(10)],
                    lambda s: s.record_loss("overrun", 1, 0, 1),
                ]
            )
            assert [o.error for o in outcomes] == [None] * 12, round_
        usage = spool.usage()
        assert usage.whole_file.sealed_readings + usage.whole_file.unsealed.get("bound", 0) == 450
        assert usage.whole_file.unsealed["overrun"] == 40
        assert usage.readings + usage.whole_file.dropped.get("bound", 0) == usage.whole_file.sealed_readings
        assert usage.readings < 450


@contextmanager
def limited(spool: Spool, more_pages: int) -> Iterator[None]:
    """SQLite itself refuses to let the file grow."""
    connection = spool._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + more_pages}")
    yield
    connection.execute("PRAGMA max_page_count = 1000000000")


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    server = Server()
    with opened(tmp_path / "spool.sqlite") as spool:
        for n in range(30):
            sealed(spool, 2, n, size=20_000, seed=n)
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(5)}, WALL_S)
        with limited(spool, 20_000 // PAGE_BYTES):
            for n in range(30, 60):
                sealed(spool, 2, n, size=20_000, seed=n)
        server.drain(spool)
        whole = spool.usage().whole_file
        assert whole.settled_readings + whole.dropped["bound"] == 120
        assert server.settled[spool.epoch] | RangeSet.below(5) == RangeSet.below(spool.books().epochs[0].next)


def test_the_reserve_is_really_allocated_and_not_taken_where_room_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    assert not reserve.held
    assert not reserve.release()
    assert reserve.make()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    assert reserve.make()
    assert reserve.release()
    free = os.statvfs(tmp_path)
    huge = Reserve(tmp_path / "huge", free.f_bavail * free.f_frsize)
    assert not huge.make()
    assert not (tmp_path / "huge").exists()


def test_a_spool_opens_beside_a_folder_that_grants_no_reserve(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite.reserve").mkdir()
    with closing(Spool.open(tmp_path / "spool.sqlite", ROOMY, Boot("b", 0), None)) as spool:
        spool.set_anchor(ANCHOR)
        sealed(spool, 1)
