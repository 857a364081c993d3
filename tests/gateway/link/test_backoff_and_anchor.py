"""Waiting times, and what an uncertain clock costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.reading import Causes
from gateway.link.anchor import Anchor, ClockSource, clock_penalty
from gateway.link.backoff import FullJitter, bound_s

SECOND = 1_000_000


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = FullJitter(0.5, 3.0, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


@given(st.floats(0, 1), st.integers(0, 5_000))
def test_a_wait_is_anywhere_below_its_bound(draw: float, attempts: int) -> None:
    assert bound_s(0.5, 30.0, attempts) <= 30.0
    assert FullJitter(0.5, 30.0, draw=lambda: draw).next_s() == pytest.approx(0.5 * draw)


@pytest.mark.parametrize(
    ("uncertainty_us", "cap"),
    [
        (0, 100),
        (SECOND, 100),
        (SECOND + 1, 80),
        (60 * SECOND, 80),
        (60 * SECOND + 1, 50),
        (3600 * SECOND, 50),
        (3600 * SECOND + 1, 20),
        (2**64 - 1, 20),
    ],
)
def test_uncertainty_caps_reliability(uncertainty_us: int, cap: int) -> None:
    for source in (ClockSource.KERNEL, ClockSource.SYSTEM):
        expected = Causes.NONE if cap == 100 else Causes.CLOCK_UNCERTAIN
        assert clock_penalty(Anchor(0, uncertainty_us, source)) == (cap, expected)
    estimated = clock_penalty(Anchor(0, uncertainty_us, ClockSource.ESTIMATED))
    assert estimated == (cap, Causes.CLOCK_ESTIMATED | (Causes.NONE if cap == 100 else Causes.CLOCK_UNCERTAIN))


def test_an_anchor_that_was_decoded_counts_as_one_that_was_made() -> None:
    """Its source is a plain number then, which once was taken for none of them."""
    assert clock_penalty(Anchor(0, 0, 2)) == (100, Causes.CLOCK_ESTIMATED)  # type: ignore[arg-type]
