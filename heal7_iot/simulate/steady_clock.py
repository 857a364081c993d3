"""One clock for the whole fleet, whose offset does not move."""

from gateway.clock import Clock
from gateway.link.anchor import Anchor


class SteadyClock(Clock):
    """Believes the system's clock once and for all: each reading has the wall time that the plan gives it, to the
    microsecond, however long the simulation runs. Raises ValueError where the system's clock is not set."""

    def __init__(self) -> None:
        super().__init__("system")
        anchor = super().read_anchor()
        if anchor is None:
            raise ValueError("this machine's clock stands before 2026: set it, since readings are dated by it")
        self._anchor = anchor

    @property
    def offset_us(self) -> int:
        """Wall time (Unix µs) minus monotonic time."""
        return self._anchor.offset_us

    def read_anchor(self) -> Anchor:
        return self._anchor
