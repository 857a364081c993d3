"""The spool as its callers see it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.link.wire import MAX_PAYLOAD, Gap, Kind, decode_gaps, unpack
from gateway.spool.counting import BOOK_EPOCHS
from gateway.spool.errors import ForeignLedger, SpoolBusy, SpoolError, SpoolUnavailable
from gateway.spool.room import GAP_ROOM
from gateway.spool.store import Spool, draw_epoch
from gateway.spool.values import Boot, Identity, SpoolOptions
from tests.gateway.spool.support import (
    ANCHOR,
    GATEWAY,
    LEDGER,
    ROOMY,
    SMALL,
    WALL_S,
    Server,
    body,
    copy_files,
    epochs,
    everything,
    opened,
    sealed,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def below(spool: Spool, end: int) -> dict[int, RangeSet]:
    return {spool.epoch: RangeSet.below(end)}


def test_what_is_appended_is_sent_in_order(path: Path) -> None:
    with opened(path) as spool:
        identities = [sealed(spool, n + 1, n * 100, seed=n) for n in range(5)]
        assert everything(spool) == identities == [Identity(spool.epoch, n) for n in range(5)]
        batch = spool.load(identities[3], GATEWAY, 99)
        assert batch is not None
        assert batch.body == body(2000, 3)
        envelope = batch.envelope
        assert (envelope.kind, envelope.gateway, envelope.instance) == (Kind.DATA, GATEWAY, 99)
        assert (envelope.readings, envelope.readings_before, envelope.anchor) == (4, 1 + 2 + 3, ANCHOR)


def test_sending_goes_on_after_the_last_and_keeps_to_its_limits(path: Path) -> None:
    with opened(path) as spool:
        identities = [sealed(spool, 1, size=1000) for _ in range(6)]
        assert [s.identity for s in spool.sendable(identities[1], 2, 1 << 30)] == identities[2:4]
        size = spool.sendable(None, 1, 1 << 30)[0].size_bytes
        assert len(spool.sendable(None, 100, 3 * size + 1)) == 3
        assert spool.sendable(None, 100, size - 1) == []
        assert spool.sendable(None, 0, 1 << 30) == []


def test_every_opening_begins_an_epoch_and_older_ones_drain_first(path: Path) -> None:
    draw = epochs()
    with opened(path, draw=draw) as spool:
        first = sealed(spool, 3)
    with opened(path, draw=draw) as spool:
        second = sealed(spool, 4)
        assert (first.epoch, second.epoch) == (1000, 1001)
        assert everything(spool) == [first, second]
        assert [(b.epoch, b.next, b.sealed) for b in spool.books().epochs] == [(1000, 1, 3), (1001, 1, 4)]


def test_an_epoch_that_is_in_the_file_is_not_drawn_again(path: Path) -> None:
    with opened(path, draw=lambda: 5) as spool:
        sealed(spool, 1)
    draws = iter([5, 0, 2**63, 6])
    with opened(path, draw=lambda: next(draws)) as spool:
        assert spool.epoch == 6


def test_epochs_are_drawn_from_all_that_the_wire_allows() -> None:
    drawn = {draw_epoch() for _ in range(100)}
    assert len(drawn) == 100
    assert all(1 <= epoch < 2**63 for epoch in drawn)
    assert max(drawn) > 2**60


def test_a_receipt_settles_and_only_adds(path: Path) -> None:
    with opened(path) as spool:
        identities = [sealed(spool, 10) for _ in range(4)]
        assert spool.apply_receipt(LEDGER, {spool.epoch: RangeSet([(1, 3)])}, WALL_S) == 2
        assert spool.apply_receipt(LEDGER, {spool.epoch: RangeSet([(1, 2)])}, WALL_S) == 0
        assert everything(spool) == [identities[0], identities[3]]
        assert spool.load(identities[1], GATEWAY, 1) is None
        assert spool.settled() == {spool.epoch: RangeSet([(1, 3)])}
        assert spool.books().epochs[0].held == RangeSet([(0, 1), (3, 4)])
        usage = spool.usage()
        assert (usage.batches, usage.readings) == (2, 20)
        assert usage.bytes > 4000
        assert (usage.whole_file.settled_batches, usage.whole_file.settled_readings) == (2, 20)


def test_a_receipt_does_not_settle_what_is_not_sealed_yet(path: Path) -> None:
    with opened(path) as spool:
        sealed(spool, 1)
        assert spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(9), 77: RangeSet.below(3)}, WALL_S) == 1
        later = sealed(spool, 1)
        assert everything(spool) == [later]


def test_the_first_ledger_is_pinned_and_others_free_nothing(path: Path) -> None:
    with opened(path) as spool:
        sealed(spool, 1)
        assert spool.pinned_ledger is None
        assert spool.apply_receipt(LEDGER, {}, WALL_S) == 0
    with opened(path, now_us=1) as spool:
        assert spool.pinned_ledger == LEDGER
        waiting = everything(spool)
        epoch = waiting[0].epoch
        with pytest.raises(ForeignLedger):
            spool.apply_receipt("staging", {epoch: RangeSet.below(1)}, WALL_S)
        assert everything(spool) == waiting
        spool.trust("staging")
        assert spool.apply_receipt("staging", {epoch: RangeSet.below(1)}, WALL_S) == 1


def test_settlement_and_counters_outlive_the_process(path: Path) -> None:
    with opened(path) as spool:
        for _ in range(3):
            sealed(spool, 5)
        spool.apply_receipt(LEDGER, below(spool, 2), WALL_S)
        before = spool.usage()
        old = spool.epoch
    with opened(path, now_us=1) as spool:
        assert everything(spool) == [Identity(old, 2)]
        assert spool.usage().whole_file == before.whole_file
        assert (spool.usage().batches, spool.usage().readings) == (1, 5)


def test_taking_back_sends_again_what_is_still_here(path: Path) -> None:
    with opened(path) as spool:
        identities = [sealed(spool, 5) for _ in range(4)]
        spool.apply_receipt(LEDGER, below(spool, 3), WALL_S)
        assert spool.take_back(spool.epoch, RangeSet([(1, 9)])) == 2
        assert spool.take_back(12345, RangeSet([(1, 9)])) == 0
        assert everything(spool) == identities[1:]
        assert spool.usage().readings == 15
        assert spool.usage().whole_file.settled_readings == 5
    with opened(path, now_us=1) as spool:
        assert everything(spool) == identities[1:]


def test_settled_batches_stay_for_the_window_counted_from_settlement(path: Path) -> None:
    with opened(path) as spool:
        sealed(spool, 1)
        week_s = 7 * 86400
        # Sealed long ago, settled now: the window begins now.
        spool.apply_receipt(LEDGER, below(spool, 1), WALL_S + week_s)
        assert spool.free_replayed(WALL_S + week_s + 71 * 3600) == 0
        assert spool.take_back(spool.epoch, RangeSet.below(1)) == 1
        spool.apply_receipt(LEDGER, below(spool, 1), WALL_S + week_s + 71 * 3600)
        assert spool.free_replayed(WALL_S + week_s + 80 * 3600) == 0
        assert spool.free_replayed(WALL_S + week_s + 145 * 3600) == 1
        assert spool.take_back(spool.epoch, RangeSet.below(1)) == 0
        assert spool.settled() == below(spool, 1)
        assert spool.usage().whole_file.settled_batches == 1


@pytest.mark.parametrize("wall_s", [None, WALL_S + 20 * 365 * 86400])
def test_a_window_that_began_at_an_unknown_time_begins_when_it_is_known(path: Path, wall_s: float | None) -> None:
    with opened(path) as spool:
        sealed(spool, 1)
        spool.apply_receipt(LEDGER, below(spool, 1), wall_s)
        assert spool.free_replayed(WALL_S) == 0
        assert spool.free_replayed(WALL_S + 71 * 3600) == 0
        assert spool.free_replayed(WALL_S + 74 * 3600) == 1


def test_epochs_of_which_nothing_is_left_leave_the_books_after_the_window(path: Path) -> None:
    draw = epochs()
    with opened(path, draw=draw):
        pass  # sealed nothing: gone at once
    with opened(path, draw=draw) as spool:
        sealed(spool, 2)
        spool.apply_receipt(LEDGER, below(spool, 1), WALL_S)
    with opened(path, draw=draw) as spool:
        assert [b.epoch for b in spool.books().epochs] == [1001, 1002]
        spool.free_replayed(WALL_S + 74 * 3600)
        assert [b.epoch for b in spool.books().epochs] == [1001, 1002]
        spool.free_replayed(WALL_S + 150 * 3600)
        assert [b.epoch for b in spool.books().epochs] == [1002]
        whole = spool.usage().whole_file
        assert (whole.sealed_batches, whole.sealed_readings, whole.settled_readings) == (1, 2, 2)


def test_the_bound_frees_settled_batches_before_it_drops_others(path: Path) -> None:
    with opened(path, SMALL) as spool:
        first = [sealed(spool, 1, size=20_000, seed=n) for n in range(10)]
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet([(4, 10)])}, WALL_S)
        sealed_more = [sealed(spool, 1, size=20_000, seed=n) for n in range(8)]
        assert everything(spool) == first[:4] + sealed_more
        assert spool.usage().whole_file.dropped == {}
        assert spool.usage().file_bytes <= SMALL.bound_bytes - GAP_ROOM


def test_at_the_bound_the_oldest_go_and_leave_a_gap(path: Path) -> None:
    server = Server()
    with opened(path, SMALL) as spool:
        for n in range(40):
            sealed(spool, n, at_us=1000 * n, size=20_000, seed=n)
            assert spool.usage().file_bytes <= SMALL.bound_bytes
        kept = everything(spool)
        lost = kept[0].seq
        assert kept == [Identity(spool.epoch, n) for n in range(lost, 40)]
        assert lost > 20
        assert spool.usage().whole_file.dropped == {"bound": sum(range(lost))}
        # Not lost to the server's audit before it could know of the gap.
        assert spool.books().epochs[0].held == RangeSet.below(40)
        (gap,) = spool.seal_gaps()
        assert spool.seal_gaps() == []
        batch = spool.load(gap, GATEWAY, 1)
        assert batch is not None
        offset = ANCHOR.offset_us
        assert decode_gaps(unpack(batch)) == [
            Gap("bound", spool.epoch, 0, tuple(range(lost)), 0, offset, offset + 1000 * (lost - 1) + 10)
        ]
        server.drain(spool)
        assert spool.books().epochs[0].held == RangeSet()
        assert spool.settled() == below(spool, 41)
    assert server.settled == {gap.epoch: RangeSet.below(41)}
    assert (server.committed, server.dropped) == (sum(range(lost, 40)), sum(range(lost)))


def test_dropped_seqs_are_held_until_their_gap_is_settled(path: Path) -> None:
    with opened(path) as spool:
        identity = sealed(spool, 9)
        sealed(spool, 1)
        spool.drop(identity, "too_large")
        spool.drop(identity, "too_large")
        (gap,) = spool.seal_gaps()
        assert spool.apply_receipt(LEDGER, {spool.epoch: RangeSet([(1, 2)])}, WALL_S) == 1
        assert spool.books().epochs[0].held == RangeSet([(0, 1), (2, 3)])
        old = spool.epoch
    with opened(path, now_us=1) as spool:
        assert spool.books().epochs[0].held == RangeSet([(0, 1), (2, 3)])
        spool.apply_receipt(LEDGER, {old: RangeSet([(gap.seq, gap.seq + 1)])}, WALL_S)
        assert spool.books().epochs[0].held == RangeSet()
    with opened(path, now_us=2) as spool:
        assert spool.books().epochs[0].held == RangeSet()
        assert spool.take_back(old, RangeSet([(2, 3)])) == 1
        assert spool.books().epochs[0].held == RangeSet([(0, 1), (2, 3)])
        assert everything(spool) == [gap]


def test_a_dropped_batch_that_had_arrived_is_settled(path: Path) -> None:
    with opened(path) as spool:
        identity = sealed(spool, 9)
        spool.drop(identity, "bound")
        assert spool.apply_receipt(LEDGER, below(spool, 1), WALL_S) == 0
        assert spool.books().epochs[0].held == RangeSet()


def test_a_gap_batch_that_is_refused_is_sealed_again(path: Path) -> None:
    server = Server()
    with opened(path) as spool:
        for n in range(600):
            spool.drop(sealed(spool, n % 50, size=10), "bound")
        (gap,) = spool.seal_gaps()
        spool.drop(gap, "too_large")
        assert len(spool.seal_gaps()) == 1
        server.drain(spool)
        assert server.settled == below(spool, 602)
        assert server.dropped == sum(n % 50 for n in range(600))
        spool.free_replayed(WALL_S + 100 * 3600)
        assert spool.settled() == below(spool, 602)
        assert spool.usage().whole_file.dropped == {"bound": server.dropped}


def test_a_gap_batch_holds_no_more_than_the_wire_allows(path: Path) -> None:
    server = Server()
    with opened(path) as spool:

        def many(spool: Spool) -> None:
            for n in range(5000):
                spool.drop(sealed(spool, 1, size=1), "bound" if n % 3 else "too_large")

        assert spool.group([many])[0].error is None
        gaps = spool.seal_gaps()
        assert len(gaps) > 2
        assert all(s.size_bytes <= MAX_PAYLOAD for s in spool.sendable(None, 1000, 1 << 40))
        server.drain(spool)
        assert server.settled == below(spool, 5000 + len(gaps))
        assert server.dropped == 5000


def test_unsealed_losses_wait_for_the_clock_and_follow_each_other_as_one(path: Path) -> None:
    server = Server()
    with opened(path, anchor=None) as spool:
        for n in range(5):
            spool.record_loss("overrun", 10, 1_000_000 * n, 1_000_000 * n + 500_000)
        spool.record_loss("overrun", None, 9_000_000, 9_000_001)
        assert spool.seal_gaps() == []
        spool.set_anchor(ANCHOR)
        assert len(spool.seal_gaps()) == 1
        server.drain(spool)
        offset = ANCHOR.offset_us
        assert server.gaps == [
            Gap("overrun", 0, 0, (), 50, offset, offset + 4_500_000),
            Gap("overrun", 0, 0, (), None, offset + 9_000_000, offset + 9_000_001),
        ]
        assert spool.usage().whole_file.unsealed == {"overrun": 50}


def test_an_unclean_stop_is_a_loss_from_the_last_sealed_reading(path: Path, tmp_path: Path) -> None:
    server = Server()
    with opened(path) as spool:
        sealed(spool, 1, at_us=5_000_000)
        left = copy_files(path, tmp_path / "cut")
    with opened(left, boot="boot-2", now_us=30_000_000, anchor=None) as spool:
        spool.set_anchor(Anchor(ANCHOR.offset_us + 100_000_000, 5, ClockSource.SYSTEM))
        server.drain(spool)
    offset = ANCHOR.offset_us
    assert server.gaps == [Gap("unclean_stop", 0, 0, (), None, offset + 5_000_010, offset + 130_000_000)]
    with opened(path, now_us=1) as spool:
        assert spool.seal_gaps() == []  # the original was closed cleanly


def test_batches_wait_for_the_first_anchor_of_their_boot_and_keep_it(path: Path) -> None:
    with opened(path, anchor=None) as spool:
        identity = sealed(spool, 1)
        assert everything(spool) == []
        assert spool.load(identity, GATEWAY, 1) is None
        spool.set_anchor(ANCHOR)
        spool.set_anchor(None)
        after = sealed(spool, 1)
        spool.set_anchor(Anchor(5, 6, ClockSource.SYSTEM))
        own = sealed(spool, 1)
        found = [spool.load(i, GATEWAY, 1) for i in (identity, after, own)]
        assert [b.envelope.anchor for b in found if b] == [ANCHOR, ANCHOR, Anchor(5, 6, ClockSource.SYSTEM)]
    with opened(path, now_us=9, anchor=None) as spool:  # another process of the same boot
        last = sealed(spool, 1)
        batch = spool.load(last, GATEWAY, 1)
        assert batch is not None
        assert batch.envelope.anchor == ANCHOR


def test_a_boot_that_never_knew_the_time_gets_its_latest_possible_one(path: Path) -> None:
    hour = 3_600_000_000
    with opened(path, boot="a"):
        pass
    with opened(path, boot="b", now_us=hour, anchor=None) as spool:
        first = sealed(spool, 1, at_us=2 * hour - 10)
    with opened(path, boot="c", anchor=None, now_us=5) as spool:
        second = sealed(spool, 1, at_us=hour - 10)
    begun = Anchor(ANCHOR.offset_us + 10 * hour, 7, ClockSource.KERNEL)
    with opened(path, boot="d", anchor=None, now_us=6) as spool:
        assert everything(spool) == []
        spool.set_anchor(begun)
        assert everything(spool) == [first, second]
        anchors = [b.envelope.anchor for i in (first, second) if (b := spool.load(i, GATEWAY, 1))]
        # c lasted an hour until d began, b two hours until then; a was seen at its start.
        assert anchors == [
            Anchor(ANCHOR.offset_us + 7 * hour, 7 * hour, ClockSource.ESTIMATED),
            Anchor(ANCHOR.offset_us + 9 * hour, 9 * hour + 7, ClockSource.ESTIMATED),
        ]
        spool.apply_receipt(LEDGER, {}, WALL_S)
    with opened(path, boot="e", anchor=Anchor(1, 2, ClockSource.SYSTEM), now_us=6) as spool:
        again = [b.envelope.anchor for i in (first, second) if (b := spool.load(i, GATEWAY, 1))]
        assert again == anchors  # fixed once it was said


def test_a_bad_copy_is_dropped_with_its_gap_when_it_is_loaded(path: Path) -> None:
    server = Server()
    with opened(path) as spool:
        identities = [sealed(spool, 10 + n, size=3000, seed=n) for n in range(3)]
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE batches SET body = zeroblob(3000) WHERE readings = 11")
        other.commit()
    with opened(path, now_us=1) as spool:
        assert spool.load(identities[0], GATEWAY, 1) is not None
        assert spool.load(identities[1], GATEWAY, 1) is None
        assert spool.usage().whole_file.dropped == {"bad_copy": 11}
        server.drain(spool)
    assert (server.committed, server.dropped) == (10 + 12, 11)
    assert server.settled[identities[0].epoch] == RangeSet.below(3)


def test_a_batch_whose_columns_are_wrong_is_left_to_the_audit(path: Path) -> None:
    with opened(path) as spool:
        identity = sealed(spool, 10)
        kept = sealed(spool, 1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE batches SET readings = 1000 WHERE readings = 10")
        other.commit()
    with opened(path, now_us=1) as spool:
        assert spool.load(identity, GATEWAY, 1) is None
        assert everything(spool) == [kept]
        assert spool.books().epochs[0].held == RangeSet([(1, 2)])
        assert (spool.usage().batches, spool.usage().readings) == (1, 1)


def test_a_work_that_fails_harms_no_other(path: Path) -> None:
    def fails(spool: Spool) -> Identity:
        sealed(spool, 100)
        raise KeyError("of the caller")

    with opened(path) as spool:
        outcomes = spool.group([lambda s: sealed(s, 1), fails, lambda s: sealed(s, 2)])
        assert [o.value for o in outcomes] == [Identity(spool.epoch, 0), None, Identity(spool.epoch, 1)]
        assert isinstance(outcomes[1].error, KeyError)
        usage = spool.usage()
        assert (usage.batches, usage.readings, usage.whole_file.sealed_readings) == (2, 3, 3)


def test_only_one_process_may_own_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spool.database._BUSY_MS", 1)
    with opened(path), pytest.raises(SpoolBusy):
        Spool.open(path, ROOMY, Boot("b", 0), None)


def test_a_file_of_a_later_release_is_not_touched(path: Path) -> None:
    with opened(path) as spool:
        sealed(spool, 1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 3")
    with pytest.raises(SpoolError, match="later release"):
        Spool.open(path, ROOMY, Boot("b", 0), None)
    assert [p.name for p in path.parent.iterdir() if "corrupt" in p.name] == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnavailable):
        Spool.open(tmp_path / "no" / "spool.sqlite", ROOMY, Boot("b", 0), None)


def test_a_bound_that_gaps_alone_would_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="524288"):
        SpoolOptions(bound_bytes=1000, replay_window_s=0.0)


def test_a_status_never_outgrows_its_message(path: Path) -> None:
    draw = epochs()
    for _ in range(70):
        with opened(path, draw=draw) as spool:
            sealed(spool, 1, size=1)
    with opened(path, draw=draw) as spool:
        for _ in range(500):
            sealed(spool, 1, size=1)
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.of(range(0, 500, 2))}, WALL_S)
        books = spool.books().epochs
        assert len(books) == 64
        assert books[-1].epoch == spool.epoch
        assert books[-1].held.spans() <= 200
        assert not RangeSet.of(range(1, 500, 2)) - books[-1].held


def test_too_many_epochs_are_cut_to_those_that_hold_something_and_this_is_told(path: Path) -> None:
    draw = epochs()
    holding = (0, 3, 5)
    for n in range(BOOK_EPOCHS + 5):
        with opened(path, draw=draw, now_us=n) as spool:
            sealed(spool, 1)
            if n not in holding:
                spool.apply_receipt(LEDGER, below(spool, 1), WALL_S)
            assert spool.books().whole is (n < BOOK_EPOCHS)
            assert spool.ends()[-1] == Identity(spool.epoch, 1)
    with opened(path, draw=draw, now_us=1000) as spool:
        books = spool.books()
        listed = [book.epoch for book in books.epochs]
        assert (len(listed), books.whole) == (BOOK_EPOCHS, False)
        assert listed == sorted(listed)
        assert listed[-1] == spool.epoch
        assert listed[:3] == [1000 + n for n in holding]
        assert listed[3:] == list(range(spool.epoch - BOOK_EPOCHS + 4, spool.epoch + 1))
        assert len(spool.ends()) == BOOK_EPOCHS + 6


def test_epochs_that_are_too_many_for_one_status_take_turns(path: Path) -> None:
    """Once the oldest were never told of: what a restored database had lost of them stayed lost, and nobody knew."""
    draw = epochs()
    for n in range(2 * BOOK_EPOCHS):
        with opened(path, draw=draw, now_us=n) as spool:
            sealed(spool, 1)
            # Those that hold something leave few places for the rest.
            if n < BOOK_EPOCHS - 10:
                spool.apply_receipt(LEDGER, below(spool, 1), WALL_S)
    with opened(path, draw=draw, now_us=1000) as spool:
        told: set[int] = set()
        for _ in range(2 * BOOK_EPOCHS // 8):
            books = spool.books().epochs
            assert len(books) == BOOK_EPOCHS
            assert books[-1].epoch == spool.epoch
            told |= {book.epoch for book in books if not book.held}
        assert told >= set(range(1000, 1000 + BOOK_EPOCHS - 10))


def test_the_books_of_this_opening_are_told_however_many_others_hold_something(path: Path) -> None:
    """Without it the uplink would not know where live begins, nor the server what is sealed now."""
    draw = epochs()
    for n in range(BOOK_EPOCHS + 2):
        with opened(path, draw=draw, now_us=n) as spool:
            sealed(spool, 1)
            assert spool.books().epochs[-1].epoch == spool.epoch
    with opened(path, draw=draw, now_us=1000) as spool:
        listed = [book.epoch for book in spool.books().epochs]
        assert listed == [*range(1000, 1000 + BOOK_EPOCHS - 1), spool.epoch]


def test_a_storm_of_losses_of_unknown_number_is_one(path: Path) -> None:
    with opened(path, anchor=None) as spool:
        for n in range(100):
            spool.record_loss("overrun", None, 1_000_000 * n, 1_000_000 * n + 500_000)
        spool.record_loss("overrun", 3, 100_000_000, 100_000_001)  # known: not to be lost in a sum with unknown ones
        spool.set_anchor(ANCHOR)
        (gap,) = spool.seal_gaps()
        batch = spool.load(gap, GATEWAY, 1)
        assert batch is not None
        told = [(g.readings, g.from_us, g.to_us) for g in decode_gaps(unpack(batch))]
        at = ANCHOR.offset_us
        assert told == [(None, at, at + 99_500_000), (3, at + 100_000_000, at + 100_000_001)]
