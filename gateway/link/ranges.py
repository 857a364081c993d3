"""Sets of sequence numbers as sorted, disjoint, half-open ranges: `[(a, b), …]` holds a … b-1."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Self


class RangeSet:
    """An immutable set of integers >= 0 that costs memory by range, not by member.

    Raises ValueError where a range is empty or negative.
    """

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for first, end in sorted(ranges):
            if first < 0 or end <= first:
                raise ValueError(f"[{first}, {end}) is not a range of sequence numbers")
            if merged and first <= merged[-1][1]:
                if end > merged[-1][1]:
                    merged[-1] = (merged[-1][0], end)
            else:
                merged.append((first, end))
        self._ranges = tuple(merged)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """The set of the given members."""
        return cls((n, n + 1) for n in numbers)

    @classmethod
    def below(cls, end: int) -> Self:
        """The set [0, end); empty for 0."""
        return cls([(0, end)] if end > 0 else ())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __repr__(self) -> str:
        return f"RangeSet({list(self._ranges)})"

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._ranges, number, key=lambda r: r[0])
        return i > 0 and number < self._ranges[i - 1][1]

    def __or__(self, other: "RangeSet") -> "RangeSet":
        if not other:
            return self
        if not self:
            return other
        return RangeSet((*self._ranges, *other._ranges))

    def __sub__(self, other: "RangeSet") -> "RangeSet":
        if not other or not self:
            return self
        kept: list[tuple[int, int]] = []
        holes = other._ranges
        i = 0
        for first, end in self._ranges:
            while i < len(holes) and holes[i][1] <= first:
                i += 1
            at, j = first, i
            while j < len(holes) and holes[j][0] < end:
                if holes[j][0] > at:
                    kept.append((at, holes[j][0]))
                at = max(at, holes[j][1])
                j += 1
            if at < end:
                kept.append((at, end))
        return RangeSet(kept)

    def __and__(self, other: "RangeSet") -> "RangeSet":
        return self - (self - other)

    def count(self) -> int:
        """How many members."""
        return sum(end - first for first, end in self._ranges)

    def spans(self) -> int:
        """How many ranges."""
        return len(self._ranges)

    def end(self) -> int:
        """One more than the greatest member; 0 for the empty set."""
        return self._ranges[-1][1] if self._ranges else 0

    def coarse(self, spans: int) -> "RangeSet":
        """At most `spans` ranges that hold every member, and perhaps more."""
        if len(self._ranges) <= spans:
            return self
        head = self._ranges[: spans - 1]
        return RangeSet((*head, (self._ranges[spans - 1][0], self._ranges[-1][1])))

    def first_spans(self, spans: int) -> "RangeSet":
        """The first `spans` ranges: a subset."""
        return self if len(self._ranges) <= spans else RangeSet(self._ranges[:spans])

    def members(self) -> Iterator[int]:
        """Every member, in order."""
        for first, end in self._ranges:
            yield from range(first, end)
