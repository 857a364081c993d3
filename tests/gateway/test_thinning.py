"""What thinning keeps and leaves out, against the plain reading of "first, last, least, greatest of each minute"."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.reading import Reading, Series
from gateway.batcher import Batcher
from gateway.link import wire
from gateway.thinning import MINUTE_US, LeftOut, Thinning
from tests.gateway.scripted_driver import reading
from tests.gateway.test_batcher import opened

SECOND = 1_000_000


def active(offset_us: int = 0) -> Thinning:
    thinning = Thinning()
    thinning.align(offset_us)
    thinning.begin(0)
    return thinning


def fed(thinning: Thinning, readings: Sequence[Reading]) -> list[Reading]:
    """Each as it comes, and at last what is held back."""
    kept = [one for r in readings for one in thinning.pick([r], r.taken_at_us)]
    return kept + thinning.release()


def wanted(readings: Sequence[Reading], offset_us: int) -> list[Reading]:
    """The first, the last, and a least and a greatest of each minute and series."""
    minutes: dict[tuple[Series, int], list[Reading]] = defaultdict(list)
    for r in readings:
        minutes[r.series, (r.taken_at_us + offset_us) // MINUTE_US].append(r)
    found = []
    for some in minutes.values():
        found += [some[0], some[-1], min(some, key=lambda r: r.value), max(some, key=lambda r: r.value)]
    return found


def same(one: Reading) -> Callable[[Reading], bool]:
    return lambda other: other is one


_STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([0.0, -1.0, 2.5, 7.0, 7.5, 100.0]),
        st.sampled_from([0, 1, SECOND, 9 * SECOND, 50 * SECOND]),
    ),
    max_size=80,
)


@given(_STEPS, st.integers(0, 2 * MINUTE_US))
def test_of_each_minute_and_series_the_first_last_least_and_greatest_are_sealed(
    steps: list[tuple[str, float, int]], offset_us: int
) -> None:
    readings, at_us = [], 5 * SECOND
    for device, value, pause_us in steps:
        at_us += pause_us
        readings.append(reading(device, value, at_us))
    thinning = active(offset_us)
    kept = fed(thinning, readings)
    left = thinning.left_out()
    # As they are: the same objects, none twice.
    assert len({id(r) for r in kept}) == len(kept)
    for one in wanted(readings, offset_us):
        assert any(map(same(one), kept))
    missing = [r for r in readings if not any(map(same(r), kept))]
    times = [r.taken_at_us for r in missing]
    assert left == (LeftOut(len(missing), min(times), max(times)) if missing else None)
    assert thinning.left_out() is None


def test_what_is_kept_grows_with_the_logarithm() -> None:
    """Sixty readings of noise a minute: what is first or beyond all before it, and the last."""
    rng = random.Random(3)
    readings = [reading("a", rng.random(), n * SECOND) for n in range(3600)]
    kept = fed(active(), readings)
    assert 60 * 4 <= len(kept) <= 60 * 12
    assert len(fed(active(), [reading("a", 20.0 + n // 30 / 10, n * SECOND) for n in range(3600)])) <= 60 * 4
    # The case that it does nothing for, as its head says.
    assert len(fed(active(), [reading("a", float(n), n * SECOND) for n in range(3600)])) == 3600


def test_what_is_held_back_waits_for_its_minute_and_no_longer() -> None:
    thinning = active(offset_us=20 * SECOND)
    assert thinning.due_us() == math.inf
    first, later, newest = (reading("a", 5.0, n * SECOND) for n in (41, 42, 43))
    assert thinning.pick([first, later, newest], 43 * SECOND) == [first]
    assert thinning.held_back() == 1
    # A minute of the wall clock, which is 20 s ahead, ends at 100 s.
    assert thinning.due_us() == 100 * SECOND
    assert thinning.turn(100 * SECOND - 1) == []
    assert thinning.turn(100 * SECOND) == [newest]
    assert (thinning.held_back(), thinning.due_us(), thinning.turn(101 * SECOND)) == (0, math.inf, [])
    assert thinning.left_out() == LeftOut(1, 42 * SECOND, 42 * SECOND)


def test_a_reading_of_the_next_minute_comes_after_what_was_held_back() -> None:
    """Else a kill could lose a reading that is older than a minute before the last sealed one."""
    thinning = active()
    a, b = (reading("a", 1.0, n * SECOND) for n in (1, 2))
    later = reading("b", 1.0, 61 * SECOND)
    assert thinning.pick([a, b], 2 * SECOND) == [a]
    assert thinning.pick([later], 61 * SECOND) == [b, later]


def test_a_frame_that_is_kept_keeps_no_reading_from_being_thinned() -> None:
    thinning = active()
    told = [replace(reading("a", value, n * SECOND), frame=b"kept") for n, value in ((1, 1.0), (2, 1.0), (3, 2.0))]
    assert thinning.pick(told, 3 * SECOND) == [told[0], told[2]]


def test_what_comes_late_or_cannot_be_compared_is_sealed() -> None:
    thinning = active()
    first = reading("a", 1.0, 61 * SECOND)
    odd = [
        reading("a", math.nan, 62 * SECOND),
        reading("a", math.inf, 62 * SECOND),
        replace(reading("a", math.nan, 62 * SECOND), frame=b"raw"),
        reading("a", 1.0, 59 * SECOND),  # of the minute before
        reading("a", 1.0, 10_000 * SECOND),  # a clock gone wrong
        reading("a", 1.0, 61 * SECOND - 1),
        reading("a", 1.0, 63 * SECOND),
    ]
    assert thinning.pick([first, *odd], 63 * SECOND) == [first, *odd[:-1]]
    assert thinning.release() == odd[-1:]
    assert thinning.left_out() is None


def test_series_that_are_thinned_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.thinning.MAX_SERIES", 3)
    thinning = active()
    readings = [reading(f"d{n % 5}", 1.0, SECOND + n) for n in range(20)]
    kept = thinning.pick(readings, 2 * SECOND)
    # The two that are beyond the bound are sealed whole.
    assert len(kept) == 3 + 2 * 4
    assert thinning.held_back() == 3


def test_minutes_that_jump_with_the_clock_lose_nothing() -> None:
    thinning = active()
    rng = random.Random(9)
    readings = [reading("ab"[n % 2], float(n % 7), n * SECOND // 3) for n in range(900)]
    kept = []
    for r in readings:
        if rng.random() < 0.05:
            thinning.align(rng.randrange(-MINUTE_US, MINUTE_US))
        kept += thinning.pick([r], r.taken_at_us)
    kept += thinning.release()
    left = thinning.left_out()
    assert left is not None
    assert len(kept) + left.readings == 900
    assert len({id(r) for r in kept}) == len(kept)


# -- in the batcher


def test_the_batcher_seals_what_is_kept_with_the_linger_as_ever() -> None:
    batcher = Batcher(linger_s=1.0, max_readings=100)
    batcher.thinning.begin(0)
    assert batcher.add([reading("a", 5.0, 10 * SECOND)], 10.0) == []
    assert batcher.due_s() == 11.0
    assert batcher.add([reading("a", 5.0, 10 * SECOND + n) for n in range(1, 50)], 10.5) == []
    assert batcher.waiting() == 2
    (sealed,) = batcher.seal_due(11.0)
    assert (sealed.readings, sealed.first_us, sealed.last_us) == (1, 10 * SECOND, 10 * SECOND)
    # What is held back comes at the end of the minute, and lingers.
    assert (batcher.waiting(), batcher.due_s()) == (1, 60.0)
    assert batcher.seal_due(59.9) == []
    assert batcher.seal_due(60.0) == []
    assert batcher.due_s() == 61.0
    (sealed,) = batcher.seal_due(61.0)
    assert (sealed.readings, sealed.last_us) == (1, 10 * SECOND + 49)
    assert batcher.thinning.left_out() == LeftOut(48, 10 * SECOND + 1, 10 * SECOND + 48)


@pytest.mark.parametrize("how", [Batcher.seal, Batcher.end_thinning])
def test_a_stop_and_the_end_of_thinning_seal_what_was_held_back(how: Callable[[Batcher], list[object]]) -> None:
    batcher = Batcher(linger_s=1.0, max_readings=4)
    batcher.thinning.begin(0)
    batcher.add([reading(d, 5.0, 10 * SECOND + n) for n in range(3) for d in "abcdef"], 10.5)
    sealed = how(batcher)
    readings = [one.readings for one in sealed]  # type: ignore[attr-defined]
    assert sum(readings) == 6 * 2 - 4
    assert max(readings) <= 4
    assert (batcher.waiting(), batcher.due_s(), batcher.seal()) == (0, math.inf, [])
    left = batcher.thinning.left_out()
    assert left is not None
    assert left.readings == 6


def test_readings_that_no_batch_can_hold_are_refused_once_also_while_thinning() -> None:
    batcher = Batcher(1.0, 100)
    batcher.thinning.begin(0)
    bad = [replace(reading("a", 1.0, SECOND), value=v) for v in ("1.0", None)]  # type: ignore[arg-type]
    batcher.add([reading("a", 1.0, SECOND), *bad, reading("a", 2.0, SECOND)], 1.0)
    (sealed,) = batcher.seal()
    assert sealed.readings == 2
    refused = batcher.refused()
    assert refused is not None
    assert refused.readings == 2


def test_before_it_begins_and_after_it_ends_every_reading_is_sealed() -> None:
    batcher = Batcher(1.0, 1000)
    batcher.add([reading("a", 5.0, n) for n in range(10)], 1.0)
    batcher.thinning.begin(0)
    batcher.end_thinning()
    batcher.add([reading("a", 5.0, n) for n in range(10)], 2.0)
    (sealed,) = batcher.seal()
    assert sealed.readings == 10
    assert batcher.thinning.left_out() is None
    assert len(wire.decode_series(opened(sealed)["series"])) == 1
