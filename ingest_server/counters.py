"""What the server counts since it started."""

from collections import deque
from dataclasses import dataclass, field, fields

_LATENCIES = 10_000
# The newest groups only: percentiles of now, in bounded memory.


@dataclass(slots=True)
class Counters:
    """What became of what arrived. Nothing counts as done before its COMMIT; each batch ends in one of the first six.

    Batches: settled by this worker, duplicates (settled before), damaged, unsupported, postponed (their gateway begins
    too many epochs), refused (by the database, quarantine included): only of the first two does a receipt tell.
    Readings of settled batches: committed, quarantined, dropped (quarantine is full).
    Statuses: heard, bad_control, lost (while the database was away). Receipts unsent: there was no broker.
    latencies_s: from arrival to COMMIT, of the newest batches.
    """

    settled: int = 0
    duplicates: int = 0
    damaged: int = 0
    unsupported: int = 0
    postponed: int = 0
    refused: int = 0
    committed: int = 0
    quarantined: int = 0
    dropped: int = 0
    groups: int = 0
    conflicts: int = 0
    storage_retries: int = 0
    statuses: int = 0
    bad_control: int = 0
    statuses_lost: int = 0
    receipts_unsent: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def moves(self) -> int:
        """Grows with whatever becomes of a batch, and with each attempt at a database that is away."""
        answered = self.settled + self.duplicates + self.damaged + self.unsupported + self.postponed + self.refused
        return answered + self.groups + self.storage_retries

    def latency_ms(self, share: float) -> float | None:
        """The percentile, e.g. 0.99, in milliseconds; None before the first commit."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


COUNTED = tuple(f.name for f in fields(Counters) if f.name != "latencies_s")
"""The names of what is a plain number."""
