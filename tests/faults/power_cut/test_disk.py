"""The disk that the cuts are made on: what is synced stays, what is not may be there in any part."""

import random

import pytest

from tests.faults.power_cut.disk import SECTOR, Disk, Files, Log, Manner

OLD, NEW = b"o" * 3 * SECTOR, b"n" * 3 * SECTOR


def left(log: Log, manner: Manner, seed: int = 0) -> Files:
    disk = Disk()
    disk.follow(log.operations)
    return disk.cut(manner, random.Random(seed))


@pytest.fixture
def log() -> Log:
    """A file that is synced, with its name, and then written over."""
    log = Log()
    file = log.opened("a", new=True)
    log.wrote(file, 0, OLD)
    log.synced(file)
    log.synced_folder()
    log.wrote(file, 0, NEW)
    return log


def test_what_is_synced_is_there_whatever_becomes_of_the_rest(log: Log) -> None:
    log.synced(0)
    for manner in Manner:
        assert left(log, manner) == {"a": NEW}


def test_what_is_not_synced_is_lost_or_kept(log: Log) -> None:
    assert left(log, Manner.NOTHING) == {"a": OLD}
    assert left(log, Manner.ALL) == {"a": NEW}
    assert {left(log, Manner.SOME, seed)["a"] for seed in range(20)} == {OLD, NEW}


def test_a_write_is_torn_at_sectors_and_no_byte_beside_it_changes(log: Log) -> None:
    log.wrote(0, SECTOR + 100, b"x" * SECTOR)
    seen = {left(log, Manner.SECTORS, seed)["a"] for seed in range(200)}
    edges = (0, SECTOR, SECTOR + 100, 2 * SECTOR, 2 * SECTOR + 100)
    for data in seen:
        # Whatever lies between two edges came or did not come as one.
        assert all(len(set(data[at:to])) == 1 for at, to in zip(edges, (*edges[1:], 3 * SECTOR), strict=True))
    assert {bytes(data[at] for at in edges) for data in seen} >= {b"ooooo", b"nnxxn", b"onxoo", b"noooo", b"oooxo"}
    assert {len(left(log, Manner.RUBBISH, seed)["a"]) for seed in range(50)} == {3 * SECTOR}


def test_later_writes_may_be_kept_without_earlier_ones(log: Log) -> None:
    log.wrote(0, 0, b"z")
    assert {left(log, Manner.SOME, seed)["a"][:2] for seed in range(50)} == {b"oo", b"zo", b"nn", b"zn"}
    assert {left(log, Manner.PREFIX, seed)["a"][:2] for seed in range(50)} == {b"oo", b"nn", b"zn"}


def test_a_name_needs_a_sync_of_its_folder(log: Log) -> None:
    log.synced(0)
    file = log.opened("b", new=True)
    log.wrote(file, 0, b"whole")
    log.synced(file)
    assert left(log, Manner.NOTHING) == {"a": NEW}
    log.renamed("b", "a")
    assert {tuple(sorted(left(log, Manner.SOME, seed).items())) for seed in range(50)} == {
        (("a", NEW),),
        (("a", NEW), ("b", b"whole")),
        (("a", b"whole"),),
    }
    log.synced_folder()
    assert left(log, Manner.NOTHING) == {"a": b"whole"}
    log.unlinked("a")
    assert left(log, Manner.NOTHING) == {"a": b"whole"}
    assert left(log, Manner.ALL) == {}


def test_a_truncation_is_a_write(log: Log) -> None:
    log.synced(0)
    log.truncated(0, 5)
    assert left(log, Manner.NOTHING) == {"a": NEW}
    assert left(log, Manner.ALL) == {"a": NEW[:5]}


def test_a_cut_in_the_log_is_where_the_disk_goes_on(log: Log) -> None:
    log.cut({"a": b"torn"})
    assert left(log, Manner.NOTHING) == left(log, Manner.ALL) == {"a": b"torn"}
