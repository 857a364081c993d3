"""What the server counts since it started."""

from collections import deque
from dataclasses import dataclass, field

_LATENCIES = 10_000
# The newest groups only: percentiles of now, in bounded memory.


@dataclass(slots=True)
class Counters:
    """Batches and readings by fate; commit latencies in seconds, from arrival to COMMIT, of the newest batches."""

    batches: int = 0
    groups: int = 0
    committed: int = 0
    quarantined: int = 0
    duplicates: int = 0
    damaged: int = 0
    unsupported: int = 0
    conflicts: int = 0
    bad_control: int = 0
    storage_retries: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def latency_ms(self, share: float) -> float | None:
        """The percentile, e.g. 0.99, in milliseconds; None before the first commit."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
