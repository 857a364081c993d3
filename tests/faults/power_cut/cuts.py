"""Where the power is cut: at every sync, and at some places between."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from gateway.spool import database
from tests.faults.power_cut.disk import Disk, Files, Manner, Sync, SyncFolder
from tests.faults.power_cut.known import Moment
from tests.faults.power_cut.life import Draw, Life
from tests.faults.power_cut.machine import Machine
from tests.gateway.spool.support import SMALL

WAL_BYTES = 65_536
"""As small as this, it is written back to the file many times in a life."""
BETWEEN = 60
"""Cuts at places other than syncs."""


def drawn(rng: random.Random) -> Callable[[], int]:
    """Epochs as the spool draws them, but from a seed."""
    return lambda: rng.randrange(1, 1 << 63)


def counted(rng: random.Random) -> Callable[[], int]:
    """What a spool must not do: the first number that its file does not know."""
    return count(1).__next__


def recorded_life(
    folder: Path, seed: int, *, rounds: int = 1, draw: Draw = drawn, instead: Mapping[str, str] | None = None
) -> Life:
    """A life on a machine of its own, so many times through all that can happen. The seed also says what a full spool
    drops: odd ones the oldest.

    instead: SQL statements by what is said in their place.
    """
    with pytest.MonkeyPatch.context() as patch, Machine.running(folder, instead=instead) as machine:
        patch.setattr(database, "WAL_BYTES", WAL_BYTES)
        options = SMALL if seed % 2 else replace(SMALL, when_full="drop_newest")
        life = Life(machine, random.Random(f"life {seed}"), draw, options)
        life.live(rounds)
    return life


@dataclass(frozen=True)
class PossibleCut:
    """The power was cut after `at` operations, in `moment` or after it; `left` are the files."""

    at: int
    moment: Moment
    manner: Manner
    left: Files

    def __str__(self) -> str:
        place = "in" if self.at < self.moment.ended else "after"
        return (
            f"cut {place} {self.moment.what}, after {self.at} operations; of what was not synced: {self.manner.value}"
        )


def cuts(life: Life, seed: int, *, every: int = 1, between: int = BETWEEN, lies: float = 0.0) -> Iterator[PossibleCut]:
    """What a cut leaves just before each sync (or the n-th ones only), and at so many other places.

    lies: how likely the disk says that something is synced, and it is not.
    """
    rng = random.Random(f"cuts {seed}")
    others = set(rng.sample(range(len(life.operations)), min(between, len(life.operations))))
    disk = Disk()
    syncs = 0
    for at, (operation, moment) in enumerate(zip(life.operations, _moments(life), strict=True)):
        is_sync = isinstance(operation, Sync | SyncFolder)
        if (is_sync and syncs % every == 0) or at in others:
            for manner in manners(disk, rng):
                yield PossibleCut(at, moment, manner, disk.cut(manner, rng))
        syncs += is_sync
        if not is_sync or rng.random() >= lies:
            disk.follow([operation])


def manners(disk: Disk, rng: random.Random) -> Sequence[Manner]:
    """Nothing kept, and another one; where all is synced they are the same."""
    if not disk.waiting:
        return [Manner.NOTHING]
    return [Manner.NOTHING, rng.choice([manner for manner in Manner if manner is not Manner.NOTHING])]


def _moments(life: Life) -> Iterator[Moment]:
    """For each place of the log the moment that it is in, or else the last before it."""
    following = iter(life.moments[1:])
    now, after = life.moments[0], next(following, None)
    for at in range(len(life.operations)):
        while after is not None and after.begun <= at:
            now, after = after, next(following, None)
        yield now
