"""What turns the boot's monotonic time into wall time, and how far that can be believed."""

from dataclasses import dataclass
from enum import IntEnum

from device_drivers.reading import Causes


class ClockSource(IntEnum):
    """Who vouches for the wall time (WIRE.md §2)."""

    KERNEL = 0
    SYSTEM = 1
    ESTIMATED = 2


@dataclass(frozen=True, slots=True)
class Anchor:
    """Wall time (Unix µs) = monotonic time + offset_us, known within ± uncertainty_us."""

    offset_us: int
    uncertainty_us: int
    source: ClockSource


_SECOND = 1_000_000
# Above the first bound of each pair, reliability is capped at the second (WIRE.md §3).
_CAPS = ((3600 * _SECOND, 20), (60 * _SECOND, 50), (_SECOND, 80))


def clock_penalty(anchor: Anchor) -> tuple[int, Causes]:
    """The highest reliability that readings dated by this anchor may have, and why."""
    # Not `is`: what was decoded from the wire is a number.
    causes = Causes.CLOCK_ESTIMATED if anchor.source == ClockSource.ESTIMATED else Causes.NONE
    for bound, cap in _CAPS:
        if anchor.uncertainty_us > bound:
            return cap, causes | Causes.CLOCK_UNCERTAIN
    return 100, causes
