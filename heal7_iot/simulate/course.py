"""What simulated sensors say. Every reading is known beforehand by its gateway, its sensor and its number, all from 0,
so that a table can be compared with what must be in it, value by value."""

from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct

from heal7_iot.simulate.plan import Plan

_KEY = Struct("<qIIQ")
_DRAWS = Struct("<III")
_RANGE = 2**32


@dataclass(frozen=True, slots=True)
class Due:
    """One reading to come. after_us: when it is taken, since the start; delay_us: how much later it is handed over."""

    value: float
    after_us: int
    delay_us: int


class Course:
    """The readings of a plan, from its seed alone."""

    def __init__(self, plan: Plan) -> None:
        self._seed = plan.seed
        self._period_us = round(1_000_000 / plan.rate)
        self._jitter = plan.jitter
        self._late_share = plan.late.share if plan.late is not None else 0.0
        self._late_us = round(plan.late.delay_s * 1_000_000) if plan.late is not None else 0

    def reading(self, gateway: int, sensor: int, number: int) -> Due:
        """20.00 … 24.99 in steps of 0.01, as rooms are; the readings of one sensor are in the order of their times."""
        value, moved, late = self._draw(gateway, sensor, number)
        # A fleet that was switched on at once is not in step: sensors count from when they were made.
        (phase, _, _) = self._draw(gateway, sensor, -1)
        off = self._jitter * (2 * moved / _RANGE - 1)
        after_us = int((number + 0.5 + phase / _RANGE + off) * self._period_us)
        delay_us = self._late_us if late < self._late_share * _RANGE else 0
        return Due((2000 + value % 500) / 100, after_us, delay_us)

    def _draw(self, gateway: int, sensor: int, number: int) -> tuple[int, int, int]:
        # Not `random`: what a sensor says must not depend on which others were asked before it.
        digest = blake2b(_KEY.pack(self._seed, gateway, sensor, number + 1), digest_size=_DRAWS.size).digest()
        value, moved, late = _DRAWS.unpack(digest)
        return value, moved, late
