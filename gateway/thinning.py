"""Fewer readings while the spool fills up: of each minute and series the first, the last, the least and the greatest.

They are kept as they are. What is the first, or beyond all before it in its minute, is known at once and waits no
longer than ever. Only the last is known late: the newest reading of a series is held back until a newer one comes or
the minute is over. So a kill loses of each series at most its newest reading besides what lingers. More than four are
kept where a minute brings new extremes: of n values in random order some 2 ln n, of ever rising ones all.

Sans I/O. Times are µs of the boot's monotonic clock; minutes are those of the wall clock where that is known, so that
a minute's least, greatest, first and last are what they would have been.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from device_drivers.reading import Reading, Series

MINUTE_US = 60_000_000
"""No reading is held back for longer."""
BEGIN = 0.8
"""Share of the spool's room for data, of what is not settled, from which on readings are thinned …"""
END = 0.7
"""… and below which they no longer are: apart, so that it does not turn on and off with each receipt."""
MAX_SERIES = 8192
"""Series that are thinned. What sensors in range invent beyond is sealed as it comes."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Readings that are not sealed, and between which times they were taken (monotonic µs)."""

    readings: int
    from_us: int
    to_us: int


@dataclass(slots=True)
class _Seen:
    """Of one series in the minute at hand. newest: held back, None where it is sealed already."""

    least: float
    greatest: float
    last_us: int
    newest: Reading | None = None


class Thinning:
    """Does nothing until `begin`."""

    def __init__(self) -> None:
        self.since_us: int | None = None
        self._offset_us = 0
        self._minute = 0
        self._series: dict[Series, _Seen] = {}
        self._held_back = 0
        self._left_out: LeftOut | None = None

    @property
    def active(self) -> bool:
        """Whether readings are thinned now."""
        return self.since_us is not None

    def begin(self, now_us: int) -> None:
        """From now on."""
        self.since_us = now_us

    def end(self) -> list[Reading]:
        """No longer; what was held back."""
        self.since_us = None
        return self.release()

    def align(self, offset_us: int) -> None:
        """Where minutes begin: wall time minus monotonic time."""
        self._offset_us = offset_us

    def pick(self, readings: Iterable[Reading], now_us: int) -> list[Reading]:
        """Those to be sealed now, and before them what was held back in a minute that is over."""
        kept = self.turn(now_us)
        for reading in readings:
            self._pick(reading, kept)
        return kept

    def turn(self, now_us: int) -> list[Reading]:
        """What was held back, where its minute is over."""
        minute = self._minute_of(now_us)
        if minute == self._minute:
            return []
        self._minute = minute
        return self.release()

    def release(self) -> list[Reading]:
        """What was held back, in order of time. The minute begins anew."""
        series, self._series, self._held_back = self._series, {}, 0
        return sorted((s.newest for s in series.values() if s.newest is not None), key=lambda r: r.taken_at_us)

    def held_back(self) -> int:
        """How many readings are held back."""
        return self._held_back

    def due_us(self) -> float:
        """When the minute at hand is over; infinite where nothing waits for that."""
        return (self._minute + 1) * MINUTE_US - self._offset_us if self._held_back else math.inf

    def left_out(self) -> LeftOut | None:
        """What was left out since this was asked last."""
        left_out, self._left_out = self._left_out, None
        return left_out

    def _minute_of(self, us: int) -> int:
        return (us + self._offset_us) // MINUTE_US

    def _pick(self, reading: Reading, kept: list[Reading]) -> None:
        value, taken_us = reading.value, reading.taken_at_us
        seen = self._series.get(reading.series)
        # What cannot be compared, or was read in another minute than it comes in, is sealed as it is.
        if not math.isfinite(value) or self._minute_of(taken_us) != self._minute:
            kept.append(reading)
        elif seen is None:
            if len(self._series) < MAX_SERIES:
                self._series[reading.series] = _Seen(value, value, taken_us)
            kept.append(reading)
        elif taken_us < seen.last_us:
            kept.append(reading)
        else:
            if seen.newest is not None:
                self._held_back -= 1
                self._leave_out(seen.newest)
            seen.last_us = taken_us
            if seen.least <= value <= seen.greatest:
                self._held_back += 1
                seen.newest = reading
            else:
                seen.least, seen.greatest = min(seen.least, value), max(seen.greatest, value)
                seen.newest = None
                kept.append(reading)

    def _leave_out(self, reading: Reading) -> None:
        before, at_us = self._left_out, reading.taken_at_us
        self._left_out = (
            LeftOut(1, at_us, at_us)
            if before is None
            else LeftOut(before.readings + 1, min(before.from_us, at_us), max(before.to_us, at_us))
        )
