"""What the gateway expects of every driver."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, Self, runtime_checkable

from device_drivers.reading import Reading

Clock = Callable[[], int]
"""Microseconds of this boot's monotonic clock."""


OVERFLOWS = "queue_overflows"
"""The fault under which a driver counts what it had to drop, oldest first, because nobody took its readings. The
collector tells the server of such a loss; other faults are of what could not be read anyway."""


class Driver(Protocol):
    """Owns one transport; entering opens it, leaving closes it.

    `readings` yields what one frame or advertisement gave, together. It ends only by an error:
    `LinkLost` asks the caller to leave, wait and enter a new driver. Frames that are damaged are
    counted in `faults` and skipped, never raised.
    """

    @property
    def name(self) -> str:
        """Names the driver and its line to a person, e.g. `pms5003 on /dev/serial/by-id/usb-…`."""

    @property
    def faults(self) -> dict[str, int]:
        """Damaged frames, unknown devices and the like since opening, by kind."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def readings(self) -> AsyncIterator[Sequence[Reading]]: ...


@runtime_checkable
class AsksOnLine(Protocol):
    """What a driver that asks can tell besides: how much of its line it takes."""

    @property
    def line_busy_s(self) -> float:
        """Seconds since opening in which a request was in flight, or the line settled after one without a reply."""
