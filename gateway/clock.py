"""The boot's monotonic clock, and when the wall clock is to be believed."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.link.anchor import Anchor, ClockSource

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

RELEASED_S = 1_767_225_600
"""2026-01-01T00:00:00Z: a wall clock before this release is a board without a battery that has not heard the time."""

SYSTEM_UNCERTAINTY_US = 500_000
"""With trust = "system" nobody says how far the clock is off: by hand one gets within half a second."""

DRIFT_PPM = 500
"""How fast an unsynchronised clock may wander: the kernel's own bound for its frequency correction."""

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5

# A reading of both clocks that was interrupted for longer is repeated: its offset would be wrong by as much.
_CLOSE_NS = 100_000
_TRIES = 5


def read_boot_id(path: Path = BOOT_ID) -> str:
    """The kernel's random name of this boot."""
    return path.read_text(encoding="ascii").strip()


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2); what follows `status` is not read here but written by the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel says of its wall clock. maxerror_us: the bound that the time daemon and the drift give."""

    synchronised: bool
    maxerror_us: int


def read_kernel_clock() -> KernelClock:
    """adjtimex(2), reading only: needs no privilege. Not synchronised where the kernel has no such call."""
    timex = _Timex(modes=0)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except AttributeError:
        return KernelClock(False, 0)
    synchronised = state >= 0 and state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return KernelClock(synchronised, timex.maxerror)


class Clock:
    """Reads anchors as `clock.trust` says. The sources of time are arguments, so that a test can stand in any year."""

    def __init__(
        self,
        trust: Literal["kernel", "system"],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        kernel: Callable[[], KernelClock] = read_kernel_clock,
    ) -> None:
        self._trust = trust
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._kernel = kernel
        self._last: tuple[Anchor, int] | None = None

    def now_us(self) -> int:
        """Microseconds of this boot's monotonic clock."""
        return self._monotonic_ns() // 1000

    def now_s(self) -> float:
        """Seconds of this boot's monotonic clock."""
        return self._monotonic_ns() / 1e9

    def wall_s(self) -> float | None:
        """Unix time in seconds; None until the wall clock is known in this boot."""
        anchor = self.read_anchor()
        return None if anchor is None else (self.now_us() + anchor.offset_us) / 1e6

    def read_anchor(self) -> Anchor | None:
        """The offset from monotonic to wall time; None until the wall clock is known in this boot.

        A clock that loses its synchronisation later is carried on from its last anchor, ever less certain: the
        monotonic clock drifts little, and the alternative would be to date nothing during a long outage.
        """
        found, now_us = self._read()
        if found is not None:
            self._last = found, now_us
            return found
        if self._last is None:
            return None
        anchor, since_us = self._last
        doubt_us = (now_us - since_us) * DRIFT_PPM // 1_000_000
        return Anchor(anchor.offset_us, anchor.uncertainty_us + doubt_us, anchor.source)

    def _read(self) -> tuple[Anchor | None, int]:
        offset_us, error_us, now_us, wall_s = self._offset()
        if wall_s < RELEASED_S:
            return None, now_us
        if self._trust == "system":
            return Anchor(offset_us, SYSTEM_UNCERTAINTY_US + error_us, ClockSource.SYSTEM), now_us
        kernel = self._kernel()
        if not kernel.synchronised:
            return None, now_us
        return Anchor(offset_us, kernel.maxerror_us + error_us, ClockSource.KERNEL), now_us

    def _offset(self) -> tuple[int, int, int, float]:
        best: tuple[int, int, int] | None = None
        for _ in range(_TRIES):
            before = self._monotonic_ns()
            wall = self._wall_ns()
            after = self._monotonic_ns()
            if best is None or after - before < best[0]:
                best = after - before, (before + after) // 2, wall
            if best[0] <= _CLOSE_NS:
                break
        assert best is not None
        width, middle, wall = best
        return (wall - middle) // 1000, width // 2000, middle // 1000, wall / 1e9
