"""The bound and its two policies: what goes, what stays, and that each reading is in the books or in a gap."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.link.ranges import RangeSet
from gateway.link.wire import Gap
from gateway.spool import losses
from gateway.spool.losses import MANY, MANY_PENDING, MERGE_US
from gateway.spool.room import GAP_ROOM
from gateway.spool.seals import SEALED
from gateway.spool.state import Loss
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity, SpoolOptions
from tests.gateway.spool.support import (
    ANCHOR,
    LEDGER,
    ROOMY,
    SMALL,
    WALL_S,
    Server,
    body,
    copy_files,
    everything,
    opened,
    sealed,
)

NEWEST = replace(SMALL, when_full="drop_newest")
SECOND = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def fill(spool: Spool, batches: int, *, first: int = 0, size: int = 20_000, readings: int = 3) -> list[Identity | None]:
    """One batch a second; None for those that found no room."""
    return [spool.append(body(size, n), readings, n * SECOND, n * SECOND + 10) for n in range(first, first + batches)]


def unsealed(server: Server) -> dict[str, int]:
    """Readings in gaps that name no seq, by reason."""
    found: dict[str, int] = {}
    for gap in server.gaps:
        if gap.epoch == 0:
            found[gap.reason] = found.get(gap.reason, 0) + (gap.readings or 0)
    return found


def test_drop_newest_keeps_what_was_sealed_earlier_and_counts_what_comes(path: Path) -> None:
    server = Server()
    with opened(path, NEWEST) as spool:
        identities = fill(spool, 40)
        kept = [i for i in identities if i is not None]
        assert identities == kept + [None] * (40 - len(kept))
        assert kept == [Identity(spool.epoch, n) for n in range(len(kept))] == everything(spool)
        lost = 40 - len(kept)
        assert lost > 10
        usage = spool.usage()
        assert usage.file_bytes <= NEWEST.bound_bytes - GAP_ROOM
        assert usage.whole_file.dropped == {}
        assert usage.whole_file.unsealed == {"bound": 3 * lost}
        assert usage.whole_file.sealed_readings == usage.readings == 3 * len(kept)
        server.drain(spool)
        offset = ANCHOR.offset_us
        assert server.gaps == [Gap("bound", 0, 0, (), 3 * lost, offset + len(kept) * SECOND, offset + 39 * SECOND + 10)]
        assert (server.committed, server.dropped) == (3 * len(kept), 0)
        # What is settled makes room again, and goes first.
        assert None not in fill(spool, len(kept) - 1, first=40)


def test_drop_newest_frees_settled_batches_first_which_is_no_drop(path: Path) -> None:
    with opened(path, NEWEST) as spool:
        first = fill(spool, 10)
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet([(0, 4), (6, 10)])}, WALL_S)
        more = fill(spool, 10, first=10)
        assert None not in more
        assert everything(spool) == first[4:6] + more
        assert spool.usage().whole_file.dropped == spool.usage().whole_file.unsealed == {}


def test_a_lower_bound_throws_nothing_away_where_what_was_sealed_earlier_is_to_stay(path: Path) -> None:
    with opened(path, ROOMY) as spool:
        kept = fill(spool, 60)
    with opened(path, NEWEST, now_us=100 * SECOND) as spool:
        assert fill(spool, 3, first=100) == [None] * 3
        (gap,) = spool.seal_gaps()
        assert everything(spool)[:-1] == kept[: len(everything(spool)) - 1]
        assert len(everything(spool)) >= 60
        assert everything(spool)[-1] == gap
    with opened(path, SMALL, now_us=200 * SECOND) as spool:
        assert fill(spool, 1, first=200) != [None]
        assert spool.usage().file_bytes <= SMALL.bound_bytes


def test_what_found_no_room_is_durable_with_its_count(path: Path, tmp_path: Path) -> None:
    """In the transaction that refuses it: a kill right after must not forget it."""
    with opened(path, NEWEST) as spool:
        lost = 0
        for n in range(30):
            lost += 3 * fill(spool, 1, first=n).count(None)
            with opened(copy_files(path, tmp_path / "cut"), NEWEST, now_us=60 * SECOND) as after:
                whole = after.usage().whole_file
                assert whole.unsealed.get("bound", 0) == lost
                assert whole.sealed_readings + lost == 3 * (n + 1)
        assert lost


def test_an_unclean_stop_of_a_full_spool_begins_where_its_losses_end(path: Path, tmp_path: Path) -> None:
    """Else it would claim all the time since the spool was full, which another gap has told of with its count."""
    server = Server()
    with opened(path, NEWEST) as spool:
        identities = fill(spool, 40)
        left = copy_files(path, tmp_path / "cut")
    assert identities[-1] is None
    with opened(left, NEWEST, now_us=45 * SECOND) as spool:
        server.drain(spool)
    (stop,) = (g for g in server.gaps if g.reason == "unclean_stop")
    assert (stop.from_us, stop.to_us) == (ANCHOR.offset_us + 39 * SECOND + 10, ANCHOR.offset_us + 45 * SECOND)


@pytest.mark.parametrize("options", [SMALL, NEWEST], ids=lambda o: o.when_full)
def test_a_gap_always_fits_and_the_file_keeps_its_bound(path: Path, options: SpoolOptions) -> None:
    """However long the outage, however often it is told: the room kept for gaps must not fill up with them."""
    server = Server()
    rng = random.Random(4)
    with opened(path, options) as spool:
        made = 0
        for n in range(1500):
            fill(spool, 1, first=n, size=rng.choice([900, 9_000]))
            if n % 7 == 0:
                spool.record_loss("thinned", 5, n * SECOND, n * SECOND + 20)
            made += len(spool.seal_gaps())
            assert spool.usage().file_bytes <= options.bound_bytes
        # Many wait; what was lost since is told once they have arrived.
        assert made < 300
        whole = spool.usage().whole_file
        assert whole.unsealed["thinned"] == 5 * 215
        server.drain(spool)
        assert server.settled == {spool.epoch: RangeSet.below(spool.ends()[-1].seq)}
        told = unsealed(server)
        assert told["thinned"] == 5 * 215
        assert server.committed + server.dropped + told.get("bound", 0) == 3 * 1500
        assert spool.usage().whole_file.dropped.get("bound", 0) == server.dropped


def test_a_spool_full_of_losses_still_keeps_its_bound(path: Path) -> None:
    """Each dropped batch leaves a row. Where all that is left are such rows, what comes in is the loss."""
    server = Server()
    with opened(path, SMALL) as spool:

        def many(spool: Spool) -> None:
            for n in range(10_000):
                identity = spool.append(body(5, n), 1, n * SECOND, n * SECOND)
                if identity is not None:
                    spool.drop(identity, "too_large")

        assert spool.group([many])[0].error is None
        assert spool.usage().whole_file.unsealed["bound"] > 0
        assert fill(spool, 50, size=30_000) == [None] * 50
        assert spool.usage().file_bytes <= SMALL.bound_bytes
        server.drain(spool)
        whole = spool.usage().whole_file
        assert server.settled == {spool.epoch: RangeSet.below(spool.ends()[-1].seq)}
        assert server.committed + server.dropped == whole.sealed_readings
        assert unsealed(server) == dict(whole.unsealed)
        assert whole.sealed_readings + whole.unsealed["bound"] == 10_000 + 3 * 50


def test_losses_that_lie_far_apart_are_few_rows_all_the_same(path: Path) -> None:
    """An outage of weeks, with a little loss of several kinds now and then: their room is bounded, their sum exact."""
    server = Server()
    with opened(path, NEWEST, anchor=None) as spool:
        for n in range(500):
            at_us = n * 10 * MERGE_US
            spool.record_loss("overrun", 2, at_us, at_us + 5)
            spool.record_loss("unencodable", None, at_us + 6, at_us + 7)
        (rows,) = spool._connection.execute("SELECT count(*) FROM losses").fetchone()
        assert rows <= MANY + 4
        spool.set_anchor(ANCHOR)
        server.drain(spool)
    assert unsealed(server) == {"overrun": 1000, "unencodable": 0}
    overruns = [g for g in server.gaps if g.reason == "overrun"]
    assert overruns[0].from_us == ANCHOR.offset_us
    assert overruns[-1].to_us == ANCHOR.offset_us + 499 * 10 * MERGE_US + 5
    assert {g.readings for g in server.gaps if g.reason == "unencodable"} == {None}


def test_starts_in_an_outage_do_not_begin_to_count_losses_anew(path: Path) -> None:
    for start in range(4):
        with opened(path, NEWEST, now_us=start, anchor=None) as spool:
            for n in range(MANY):
                at_us = (start * MANY + n) * 10 * MERGE_US
                spool.record_loss("overrun", 2, at_us, at_us + 5)
            (rows, readings) = spool._connection.execute("SELECT count(*), sum(readings) FROM losses").fetchone()
            assert rows <= MANY + 4
            assert readings == 2 * MANY * (start + 1)


def test_losses_of_several_kinds_that_take_turns_are_a_row_each(path: Path) -> None:
    """As while readings are thinned and others find no room; the older end of an interval may come later."""
    server = Server()
    with opened(path) as spool:
        for n in range(100):
            spool.record_loss("thinned", 7, (n - 5) * SECOND if n > 5 else 0, n * SECOND)
            spool.record_loss("bound", 1, n * SECOND, n * SECOND)
        server.drain(spool)
    offset = ANCHOR.offset_us
    assert sorted(server.gaps, key=lambda g: g.reason) == [
        Gap("bound", 0, 0, (), 100, offset, offset + 99 * SECOND),
        Gap("thinned", 0, 0, (), 700, offset, offset + 99 * SECOND),
    ]


def test_losses_in_memory_are_bounded_and_their_sum_is_exact() -> None:
    """A disk without a byte for weeks: what cannot be written must not fill the memory."""
    pending: tuple[Loss, ...] = ()
    for n in range(10_000):
        reason, readings = ("bound", 3) if n % 2 else ("overrun", None)
        pending = losses.remember(pending, Loss(reason, None, readings, 1, n * 2 * MERGE_US, 1, n * 2 * MERGE_US))
    assert len(pending) <= MANY_PENDING
    assert sum(loss.readings or 0 for loss in pending) == 15_000
    assert max(loss.to_us for loss in pending) == 9_999 * 2 * MERGE_US
    assert min(loss.from_us for loss in pending) == 0


def test_losses_of_two_boots_are_joined_only_where_there_are_too_many() -> None:
    one, two = Loss("bound", None, 1, 1, 90, 1, 99), Loss("bound", None, 2, 2, 5, 2, 6)
    assert losses.merge(one, two, anyway=False) is None
    assert losses.merge(one, two, anyway=True) == Loss("bound", None, 3, 1, 90, 2, 6)
    assert losses.merge(two, one, anyway=True) == Loss("bound", None, 3, 1, 90, 2, 6)
    assert losses.merge(one, replace(two, reason="thinned"), anyway=True) is None
    assert losses.merge(one, replace(two, readings=None), anyway=True) is None
    assert losses.merge(one, replace(two, batch=7), anyway=True) is None


@pytest.mark.parametrize("options", [SMALL, NEWEST], ids=lambda o: o.when_full)
@pytest.mark.parametrize("size", [200, 550, 5_000])
def test_how_full_it_is_says_when_something_must_go(path: Path, options: SpoolOptions, size: int) -> None:
    """Whatever size batches have, which share pages well or badly, and however much is settled."""
    with opened(path, options) as spool:
        assert spool.fill() == 0
        whole = spool.usage().whole_file

        def until_something_goes() -> float:
            fills = [spool.fill()]
            while spool.usage().whole_file.dropped == whole.dropped and fill(spool, 1, size=size) != [None]:
                fills.append(spool.fill())
            assert all(later > earlier - 0.02 for earlier, later in pairwise(fills))
            return fills[-2]

        assert 0.9 < until_something_goes() <= 1.0
        end = spool.ends()[-1].seq
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(end)}, WALL_S)
        assert spool.fill() == 0
        # Of settled batches it is still full to the brim: they make room by themselves.
        assert spool.usage().file_bytes > 0.7 * (options.bound_bytes - GAP_ROOM)
        whole = spool.usage().whole_file
        assert 0.9 < until_something_goes() <= 1.0
        assert spool.usage().fill == spool.fill()


def test_how_full_it_is_outlives_the_process(path: Path) -> None:
    with opened(path, SMALL) as spool:
        fill(spool, 12)
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(5)}, WALL_S)
        before = spool.fill()
    with opened(path, SMALL, now_us=1) as spool:
        assert spool.fill() == pytest.approx(before, abs=0.02)
        spool.free_replayed(WALL_S)
        spool.free_replayed(WALL_S + 100 * 3600)
        assert spool.fill() == pytest.approx(before, abs=0.02)


def test_what_readings_are_held_back_for_begins_the_gap_of_an_unclean_stop(path: Path, tmp_path: Path) -> None:
    def gap_of(left: Path) -> tuple[int | None, int | None]:
        server = Server()
        with opened(left, now_us=600 * SECOND) as after:
            server.drain(after)
        (gap,) = server.gaps
        assert (gap.reason, gap.readings) == ("unclean_stop", None)
        assert gap.from_us is not None
        assert gap.to_us is not None
        return gap.from_us - ANCHOR.offset_us, gap.to_us - ANCHOR.offset_us

    with opened(path) as spool:
        spool.hold_back(60 * SECOND)
        sealed(spool, 1, at_us=SECOND)
        assert gap_of(copy_files(path, tmp_path / "early"))[0] == 0  # the boot began no earlier
        sealed(spool, 1, at_us=100 * SECOND)
        assert gap_of(copy_files(path, tmp_path / "thinning")) == (40 * SECOND + 10, 600 * SECOND)
        spool.hold_back(0)
        assert gap_of(copy_files(path, tmp_path / "ended")) == (100 * SECOND + 10, 600 * SECOND)
        spool.hold_back(60 * SECOND)
    with opened(path, now_us=200 * SECOND) as spool:  # a clean stop, and a new epoch that holds nothing back
        assert spool.seal_gaps() == []
        sealed(spool, 1, at_us=300 * SECOND)
        assert gap_of(copy_files(path, tmp_path / "later")) == (300 * SECOND + 10, 600 * SECOND)


def test_a_work_that_is_repeated_says_again_what_is_held_back(path: Path) -> None:
    """On a full disk works are undone together and repeated one by one."""

    def fails(spool: Spool) -> None:
        spool.hold_back(5)
        raise KeyError("of the caller")

    with opened(path) as spool:
        assert isinstance(spool.group([fails])[0].error, KeyError)
        spool.hold_back(5)
        assert spool._connection.execute("SELECT max(held_back_us) FROM epochs").fetchone() == (5,)


def test_a_file_of_the_first_layout_is_taken_over(path: Path) -> None:
    with opened(path) as spool:
        kept = sealed(spool, 4)
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE epochs DROP COLUMN held_back_us")
        for table in SEALED:
            other.execute(f"ALTER TABLE {table} DROP COLUMN seal")
        other.execute("PRAGMA user_version = 1")
        other.commit()
    with opened(path, now_us=1) as spool:
        assert everything(spool) == [kept]
        spool.hold_back(7)
    with opened(path, now_us=2) as spool:
        assert everything(spool) == [kept]
    assert [p.name for p in path.parent.iterdir() if "corrupt" in p.name] == []


def test_a_file_without_a_clock_gets_its_reserve_back(path: Path) -> None:
    with closing(Spool.open(path, ROOMY, Boot("b", 0), None)) as spool:
        spool._reserve.release()
        assert not spool.usage().reserve
        assert spool.free_replayed(None) == 0
        assert spool.usage().reserve
