"""What the uplink knows of itself: counted where it happens, read by the health report."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class UplinkState:
    """Batches unless said otherwise, since the start. Times: seconds of the monotonic clock."""

    session: str = "not connected"
    connected: bool = False
    server_online: bool = False
    sessions: int = 0
    sent: int = 0
    resent: int = 0
    taken_back: int = 0
    too_large: int = 0
    receipts: int = 0
    foreign_receipts: int = 0
    bad_messages: int = 0
    last_receipt_s: float | None = None
    drain_bytes_s: float | None = None
    live: int = 0
    backlog: int = 0
    told_ledgers: set[str] = field(default_factory=set)
    """Foreign ledgers that the log has named. Bounded by whoever adds."""
