"""Between PostgreSQL's `int8multirange` and our sets of sequence numbers."""

from psycopg.types.multirange import Multirange

from gateway.link.ranges import RangeSet


def to_text(ranges: RangeSet) -> str:
    """The literal that PostgreSQL reads."""
    return "{" + ",".join(f"[{first},{end})" for first, end in ranges) + "}"


def from_multirange(value: Multirange[int]) -> RangeSet:
    """What psycopg read. PostgreSQL normalises discrete ranges to [a, b)."""
    return RangeSet((r.lower, r.upper) for r in value if r.lower is not None and r.upper is not None)
