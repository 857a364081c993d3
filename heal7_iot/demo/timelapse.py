"""Simulated time: a day that passes in minutes."""

from dataclasses import dataclass

from heal7_iot.demo.visitors import DAY_S, HOUR_S

# Just before opening: whoever watches for twenty seconds sees the first visitors come.
_BEGINS_S = 8.5 * HOUR_S


@dataclass(frozen=True, slots=True)
class Timelapse:
    """day_s: seconds that a simulated day takes."""

    day_s: float

    def at(self, elapsed_s: float) -> float:
        """Seconds since the first simulated midnight, so long after the beginning."""
        return _BEGINS_S + elapsed_s * DAY_S / self.day_s

    def clock(self, elapsed_s: float) -> str:
        """`day 1 08:30`."""
        day, time_of_day_s = divmod(self.at(elapsed_s), DAY_S)
        minutes = int(time_of_day_s / 60)
        return f"day {int(day) + 1} {minutes // 60:02d}:{minutes % 60:02d}"
