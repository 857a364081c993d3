"""Sets of sequence numbers, against Python's own sets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.link.ranges import RangeSet

MEMBERS = st.sets(st.integers(0, 60), max_size=40)


@given(MEMBERS, MEMBERS)
def test_it_computes_as_a_set_does(a: set[int], b: set[int]) -> None:
    left, right = RangeSet.of(a), RangeSet.of(b)
    assert set((left | right).members()) == a | b
    assert set((left - right).members()) == a - b
    assert set((left & right).members()) == a & b
    assert (left == right) == (a == b)
    assert bool(left) == bool(a)
    assert left.count() == len(a)
    assert left.end() == max(a, default=-1) + 1
    assert [n in left for n in range(62)] == [n in a for n in range(62)]


@given(MEMBERS)
def test_its_ranges_are_sorted_disjoint_and_as_few_as_can_be(a: set[int]) -> None:
    ranges = list(RangeSet.of(a))
    assert all(first < end for first, end in ranges)
    assert all(end < first for (_, end), (first, _) in pairwise(ranges))
    assert RangeSet(ranges) == RangeSet.of(a)
    assert RangeSet.of(a).spans() == len(ranges)
    assert hash(RangeSet(reversed(ranges))) == hash(RangeSet.of(a))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 12))))
def test_ranges_may_overlap_where_they_come_in(given_ranges: list[tuple[int, int]]) -> None:
    members = {n for first, length in given_ranges for n in range(first, first + length)}
    assert RangeSet((first, first + length) for first, length in given_ranges) == RangeSet.of(members)


@given(MEMBERS, st.integers(1, 6))
def test_a_coarse_set_holds_all_and_a_short_one_nothing_else(a: set[int], spans: int) -> None:
    whole = RangeSet.of(a)
    coarse, short = whole.coarse(spans), whole.first_spans(spans)
    assert coarse.spans() <= spans
    assert not whole - coarse
    assert coarse.end() == whole.end()
    assert short.spans() <= spans
    assert not short - whole


@given(st.integers(0, 2**62))
def test_below_is_what_a_gateway_has_sealed(end: int) -> None:
    assert RangeSet.below(end).count() == end


@pytest.mark.parametrize("wrong", [(3, 3), (4, 3), (-1, 2)])
def test_what_is_no_range_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not a range"):
        RangeSet([(0, 1), wrong])
