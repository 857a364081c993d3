"""How many devices that nobody listed may become ours within an hour. No clock: time is an argument."""

from collections import deque

# A center's sensors come up together, and then hardly a new one in months. Somebody who makes up addresses gets no
# further than this, and leaves the listed devices alone.
MOST_IN_AN_HOUR = 64

_HOUR_US = 3_600_000_000


class Newcomers:
    """Counts those of the last hour."""

    def __init__(self) -> None:
        self._admitted_us: deque[int] = deque(maxlen=MOST_IN_AN_HOUR)

    def admits(self, now_us: int) -> bool:
        """Whether one more may come; it has come then."""
        full = len(self._admitted_us) == MOST_IN_AN_HOUR
        if full and now_us - self._admitted_us[0] < _HOUR_US:
            return False
        self._admitted_us.append(now_us)
        return True
