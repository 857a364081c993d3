"""How long batches take from being sealed to their receipt."""

import math
from collections import Counter, deque

_STEP = 1.04
"""Each class reaches so much further than the one before it: a quantile is exact to 4 %, and hours take no memory."""
_SMALLEST_S = 0.001
_RECENT_S = 5.0
_RECENT = 4096


class Latencies:
    """Of the whole run, and of what the last seconds brought."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self.longest_s = 0.0

    def add(self, seconds: float, now_s: float) -> None:
        """now_s: of the caller's clock, when the receipt came."""
        self._classes[max(0, math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S, _STEP)))] += 1
        self._recent.append((now_s, seconds))
        self.longest_s = max(self.longest_s, seconds)

    def quantile_s(self, share: float) -> float | None:
        """Of the whole run: so large a share took at most so long. None before the first."""
        wanted = share * self._classes.total()
        below = 0
        for number, count in sorted(self._classes.items()):
            below += count
            if below >= wanted:
                return min(_SMALLEST_S * _STEP**number, self.longest_s)
        return None

    def recent_s(self, now_s: float, *shares: float) -> tuple[float | None, ...]:
        """The same of the receipts of the last five seconds, and of the last four thousand at most."""
        while self._recent and self._recent[0][0] < now_s - _RECENT_S:
            self._recent.popleft()
        found = sorted(seconds for _, seconds in self._recent)
        return tuple(found[min(len(found) - 1, int(share * len(found)))] if found else None for share in shares)
