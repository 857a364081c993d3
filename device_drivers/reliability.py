"""How far a reading can be believed: the causes that are judged at the gateway, and the one rule that combines them."""

import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from device_drivers.reading import Causes
from firmware_profiles.profile import Channel

CAPS: Mapping[Causes, int] = MappingProxyType(
    {
        Causes.SENSOR_ERROR: 10,
        Causes.OUT_OF_RANGE: 20,
        Causes.STUCK: 30,
        Causes.FAST_CHANGE: 40,
        Causes.WARMING_UP: 50,
        Causes.LOW_BATTERY: 70,
        Causes.WEAK_SIGNAL: 90,
    }
)
"""The highest reliability that a reading with this cause may have. The clock's are in WIRE.md, section 3."""

LEAST_CHANGE_S = 1.0
"""What a channel may change within a second it may always change: two readings can be closer than the times at which
their bytes came."""

STUCK_READINGS = 5
"""Equal numbers in a row that are needed at least: a device that was away for hours and comes back is not stuck."""


@cache
def reliability(causes: int) -> int:
    """0 to 100: the least of the caps of its causes. Two faults do not make a reading worse than the graver one."""
    return min((cap for cause, cap in CAPS.items() if causes & cause), default=100)


class Plausibility:
    """What can be told of one channel's value from those before it. Sans I/O; times in µs of the monotonic clock."""

    def __init__(self, channel: Channel) -> None:
        self._rate = channel.max_rate
        self._stuck_after_us = None if channel.stuck_after_s is None else round(channel.stuck_after_s * 1e6)
        # The last value that had not changed too fast, so that a spike is one doubtful reading and not two. What it may
        # differ by grows with time: a step that lasts is believed in the end.
        self._believed: tuple[float, int] | None = None
        self._same: tuple[float, int] = (0.0, 0)
        self._times_same = 0

    def causes(self, value: float, taken_at_us: int) -> int:
        """Bits of FAST_CHANGE and STUCK. Values are told in the order in which they were taken."""
        found = 0
        if self._rate is not None and self._is_fast(self._rate, value, taken_at_us):
            found |= Causes.FAST_CHANGE.value
        if self._stuck_after_us is not None and self._is_stuck(self._stuck_after_us, value, taken_at_us):
            found |= Causes.STUCK.value
        return found

    def _is_fast(self, rate: float, value: float, taken_at_us: int) -> bool:
        if self._believed is not None:
            before, at_us = self._believed
            allowed = rate * max((taken_at_us - at_us) / 1e6, LEAST_CHANGE_S)
            # Not `>`: a value that is no number is no believable one.
            if not abs(value - before) <= allowed:
                return True
        if math.isfinite(value):  # anything else would make all that follows doubtful
            self._believed = value, taken_at_us
        return False

    def _is_stuck(self, after_us: int, value: float, taken_at_us: int) -> bool:
        same, since_us = self._same
        if self._times_same == 0 or value != same:
            self._same, self._times_same = (value, taken_at_us), 1
            return False
        self._times_same += 1
        return self._times_same >= STUCK_READINGS and taken_at_us - since_us >= after_us
