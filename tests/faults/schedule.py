"""Faults by chance, from a seed: what, where, how long; up to three at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.faults.center import Center
from tests.faults.injected import Fault, kinds

AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, how long it lasts, and how long after the one before it begins."""

    kind: str
    fault: Fault
    lasts_s: float
    after_s: float


def plan(center: Center, seed: int, longest_s: float, only: Sequence[str] = ()) -> Iterator[Planned]:
    """For ever. Every kind comes once before any comes again. only: these kinds; none: all that can be injected.

    Raises KeyError where one of `only` cannot be injected here.
    """
    rng = Random(seed)
    possible = kinds(center)
    makers = {kind: possible[kind] for kind in only} or possible
    while True:
        for kind in rng.sample(sorted(makers), len(makers)):
            lasts_s = min(rng.expovariate(1 / 0.7), 4.0)
            if rng.random() < 0.08:
                lasts_s = rng.uniform(2.0, longest_s)
            yield Planned(kind, makers[kind](center, rng), lasts_s, min(rng.expovariate(1 / 0.4), 2.0))


class Injection:
    """Injects what is planned."""

    def __init__(self, center: Center, planned: Iterator[Planned], say: Callable[[str], None] = print) -> None:
        self._center = center
        self._planned = planned
        self._say = say
        self._active: list[tuple[float, Fault]] = []
        self.by_kind: Counter[str] = Counter()

    def inject(self, count: int) -> None:
        """So many faults; all have healed when it returns."""
        for _ in range(count):
            one = next(self._planned)
            time.sleep(one.after_s)
            self._heal(partial(self._may_begin, one.fault))
            self._center.assert_nobody_died()
            self.by_kind[one.kind] += 1
            self._say(f"fault {self.by_kind.total()}: {one.fault.what}, {one.lasts_s:.1f} s")
            one.fault.begin()
            self._active.append((time.monotonic() + one.lasts_s, one.fault))
        self._heal(lambda: not self._active)

    def _may_begin(self, fault: Fault) -> bool:
        return len(self._active) < AT_ONCE and not any(fault.touches & other.touches for _, other in self._active)

    def _heal(self, enough: Callable[[], bool]) -> None:
        while True:
            due = [entry for entry in self._active if entry[0] <= time.monotonic()]
            for entry in due:
                entry[1].heal()
                self._active.remove(entry)
            if enough():
                return
            time.sleep(0.02)
