"""The window, without a broker: time and chance are arguments."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.link.ranges import RangeSet
from gateway.link.wire import MAX_PAYLOAD
from gateway.spool.values import Identity, Stored
from gateway.window import DRAIN_S, Lane, Room, Window, WindowLimits

EPOCH = 7
LIMITS = WindowLimits(
    live_batches=3,
    live_bytes=1_000_000,
    backlog_batches=50,
    backlog_bytes=1_000_000,
    resend_first_s=5,
    resend_longest_s=60,
)


def stored(seq: int, size: int = 1000) -> Stored:
    return Stored(Identity(EPOCH, seq), size, 10)


def window(draw: float = 0.5, limits: WindowLimits = LIMITS) -> Window:
    return Window(limits, lambda: draw)


def test_a_lane_takes_so_many_batches_and_no_more() -> None:
    w = window()
    for seq in range(3):
        assert w.room(Lane.LIVE).batches == 3 - seq
        assert w.sent(Lane.LIVE, stored(seq), 0.0)
    assert w.room(Lane.LIVE) == Room(0, 997_000)


def test_the_lanes_do_not_take_each_others_room() -> None:
    w = window()
    for seq in range(3):
        w.sent(Lane.LIVE, stored(seq), 0.0)
    assert w.room(Lane.BACKLOG) == Room(1, MAX_PAYLOAD)


def test_a_batch_under_way_is_not_sent_twice() -> None:
    w = window()
    assert w.sent(Lane.LIVE, stored(1), 0.0)
    assert not w.sent(Lane.BACKLOG, stored(1), 0.0)
    assert (w.batches(Lane.LIVE), w.batches(Lane.BACKLOG)) == (1, 0)


def test_one_batch_always_fits_into_an_empty_lane() -> None:
    w = window()
    w.sent(Lane.BACKLOG, stored(0, 100), 0.0)
    w.settled({EPOCH: RangeSet.of([0])}, 1000.0)  # a tenth of a byte a second
    assert w.room(Lane.BACKLOG) == Room(1, MAX_PAYLOAD)


def test_the_backlog_has_under_way_what_the_server_settles_in_two_seconds() -> None:
    w = window()
    w.sent(Lane.BACKLOG, stored(0, 100_000), 10.0)
    w.settled({EPOCH: RangeSet.of([0])}, 11.0)
    assert w.drain.bytes_s == pytest.approx(100_000)
    w.sent(Lane.BACKLOG, stored(1, 50_000), 11.0)
    assert w.room(Lane.BACKLOG).bytes == DRAIN_S * 100_000 - 50_000


def fill(w: Window, first: int, now_s: float) -> int:
    """Sends small batches of the backlog while there is room; how many."""
    count = 0
    while w.room(Lane.BACKLOG).batches:
        w.sent(Lane.BACKLOG, stored(first + count, 100), now_s)
        count += 1
    return count


def drained(w: Window, rounds: int) -> list[int]:
    """How many batches each round of receipts lets out."""
    waves: list[int] = []
    for now_s in range(rounds):
        first = sum(waves)
        waves.append(fill(w, first, now_s))
        w.settled({EPOCH: RangeSet([(first, first + waves[-1])])}, now_s + 0.1)
    return waves


def test_the_backlog_begins_with_one_batch_and_doubles_up_to_its_bound() -> None:
    """A thousand gateways that come back together would otherwise send all that they hold at once."""
    w = window()
    assert drained(w, 8) == [1, 2, 4, 8, 16, 32, 50, 50]
    w.clear()
    assert drained(w, 3) == [1, 2, 4]


def test_live_receipts_open_no_room_for_the_backlog() -> None:
    w = window()
    for seq in range(20):
        w.sent(Lane.LIVE, stored(seq), seq)
        w.settled({EPOCH: RangeSet.of([seq])}, seq + 0.1)
    assert w.room(Lane.BACKLOG).batches == 1


def test_what_must_be_sent_again_slows_the_backlog_down() -> None:
    w = window()
    assert drained(w, 4) == [1, 2, 4, 8]
    assert fill(w, 100, 10.0) == 16
    for identity in w.due(1000.0)[:2]:
        w.resent(identity, 1000.0)
    w.settled({EPOCH: RangeSet([(100, 116)])}, 1000.1)
    assert fill(w, 200, 1001.0) == 16 // 4 + 16
    w.sent(Lane.LIVE, stored(300), 1001.2)
    w.resent(Identity(EPOCH, 300), 2000.0)
    w.settled({EPOCH: RangeSet([(200, 301)])}, 2000.1)
    assert fill(w, 400, 2001.0) == 2 * (16 // 4 + 16)


def test_idle_time_does_not_lower_the_drain_rate() -> None:
    w = window()
    w.sent(Lane.BACKLOG, stored(0, 100_000), 10.0)
    w.settled({EPOCH: RangeSet.of([0])}, 11.0)
    w.sent(Lane.BACKLOG, stored(1, 100_000), 5000.0)
    w.settled({EPOCH: RangeSet.of([1])}, 5001.0)
    assert w.drain.bytes_s == pytest.approx(100_000)


def test_a_receipt_frees_what_it_names_and_nothing_else() -> None:
    w = window()
    for seq in range(3):
        w.sent(Lane.LIVE, stored(seq), 0.0)
    assert w.settled({EPOCH: RangeSet([(1, 2)]), 99: RangeSet.below(9)}, 1.0) == 1
    assert Identity(EPOCH, 1) not in w
    assert w.settled({EPOCH: RangeSet([(1, 2)])}, 2.0) == 0
    assert (len(w), w.room(Lane.LIVE)) == (2, Room(1, 998_000))


def test_resends_come_late_and_later() -> None:
    w = window(draw=1.0)
    w.sent(Lane.LIVE, stored(0), 0.0)
    waits, now_s = [], 0.0
    for _ in range(6):
        due_s = w.next_due_s()
        assert w.due(due_s - 0.01) == []
        assert w.due(due_s) == [Identity(EPOCH, 0)]
        waits.append(due_s - now_s)
        now_s = due_s
        w.resent(Identity(EPOCH, 0), now_s)
    assert waits == [10, 15, 25, 45, 60, 60]


def test_no_draw_of_chance_sends_again_before_the_first_bound() -> None:
    w = window(draw=0.0)
    w.sent(Lane.LIVE, stored(0), 0.0)
    assert w.next_due_s() == 5.0


def test_after_the_server_was_away_all_is_due_soon() -> None:
    w = window(draw=0.5)
    w.sent(Lane.LIVE, stored(0), 0.0)
    for _ in range(5):
        w.resent(Identity(EPOCH, 0), 0.0)
    w.hasten(1.0)
    assert w.next_due_s() == 3.5


def test_an_empty_window_is_never_due() -> None:
    w = window()
    assert w.next_due_s() == math.inf
    w.sent(Lane.LIVE, stored(0), 0.0)
    w.clear()
    assert (w.next_due_s(), len(w), w.room(Lane.LIVE)) == (math.inf, 0, Room(3, 1_000_000))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.sampled_from(Lane), st.integers(0, 40), st.integers(1, MAX_PAYLOAD)),
        st.tuples(st.just("settled"), st.integers(0, 40), st.integers(1, 10)),
        st.tuples(st.just("forget"), st.integers(0, 40)),
        st.tuples(st.just("resend"), st.floats(0, 100)),
        st.tuples(st.just("clear")),
    ),
    max_size=60,
)


@given(_STEPS, st.floats(0, 1))
def test_the_books_of_the_window_always_add_up_and_its_bounds_hold(
    steps: list[tuple[object, ...]], draw: float
) -> None:
    w = window(draw)
    model: dict[int, tuple[Lane, int]] = {}
    now_s = 0.0
    for step in steps:
        now_s += 0.5
        match step:
            case ("sent", Lane() as lane, int() as seq, int() as size):
                room = w.room(lane)
                if room.batches and size <= room.bytes and w.sent(lane, stored(seq, size), now_s):
                    assert seq not in model
                    model[seq] = lane, size
            case ("settled", int() as first, int() as count):
                gone = [seq for seq in model if first <= seq < first + count]
                assert w.settled({EPOCH: RangeSet([(first, first + count)])}, now_s) == len(gone)
                model = {seq: flight for seq, flight in model.items() if seq not in gone}
            case ("forget", int() as seq):
                w.forget(Identity(EPOCH, seq))
                model.pop(seq, None)
            case ("resend", float() as later_s):
                for identity in w.due(now_s + later_s):
                    assert identity.seq in model
                    w.resent(identity, now_s)
            case _:
                w.clear()
                model.clear()
        assert w.under_way() == {Identity(EPOCH, seq) for seq in model}
        for lane, most in ((Lane.LIVE, LIMITS.live_bytes), (Lane.BACKLOG, LIMITS.backlog_bytes)):
            sizes = [size for other, size in model.values() if other is lane]
            assert w.batches(lane) == len(sizes)
            assert sum(sizes) <= most
            if not sizes:
                assert w.room(lane).bytes >= MAX_PAYLOAD
            elif lane is Lane.LIVE:
                assert w.room(lane).bytes == most - sum(sizes)
        assert (w.next_due_s() == math.inf) is (not model)
