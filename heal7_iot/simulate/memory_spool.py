"""A gateway's spool without its disk: the real one, in SQLite's memory, on the event loop's own thread.

A thread for each of a thousand spools would cost more than all that they do: a work takes some 50 µs here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.batcher import Sealed
from gateway.clock import Clock
from gateway.link.ranges import RangeSet
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Counters, SpoolOptions
from heal7_iot.simulate.latency import Latencies

T = TypeVar("T")

BOUND_BYTES = 64 * 1024 * 1024
"""Of each spool: beyond it the oldest batches are dropped with their gap, as on a gateway."""

# To SQLite no name of a file.
_MEMORY = Path(":memory:")

# Nothing is kept for a database that is restored: settled up to now is past a window of no length, counted in hours.
_PAST_WINDOW_S = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class _Sealed:
    at_s: float
    readings: int
    presence: tuple[int, int] | None


class MemorySpool:
    """A `SpoolRunner`. To be closed.

    every: told how long each batch took from `seal` to its receipt; live: the same of those that had both while the
    server was there. presence: which time it is that a server is there; None while none is.
    """

    def __init__(
        self, clock: Clock, every: Latencies, live: Latencies, presence: Callable[[], tuple[int, int] | None]
    ) -> None:
        options = SpoolOptions(BOUND_BYTES, replay_window_s=0.0, reserve_bytes=0)
        self._spool = Spool.open(_MEMORY, options, Boot("simulated", clock.now_us()), clock.wall_s())
        self._spool.set_anchor(clock.read_anchor())
        self._clock = clock
        self._every, self._live = every, live
        self._presence = presence
        self._held = self._spool.held
        self._open = RangeSet()
        self._sealed: dict[int, _Sealed] = {}  # by seq
        self.settled_readings = 0
        """Of those that were sealed here."""

    @property
    def held_batches(self) -> int:
        """Sealed, and not settled."""
        return self._spool.held.batches

    @property
    def held_readings(self) -> int:
        """Sealed, and not settled."""
        return self._spool.held.readings

    def counted(self) -> Counters:
        """What was sealed, and what became of it."""
        return self._spool.usage().whole_file

    async def run(self, op: Callable[[Spool], T], *, within_s: float = 0.0) -> T:
        """As `SpoolRunner`; nothing is gained by waiting here, nor by a transaction around what only reads."""
        try:
            return op(self._spool)
        finally:
            self._note_settled()

    def seal(self, sealed: Sequence[Sealed]) -> None:
        """Takes batches, which are to be sent from now on."""
        now_s = self._clock.now_s()
        for one in sealed:
            expected = self._spool.held.readings + one.readings
            identity = self._spool.append(one.body, one.readings, one.first_us, one.last_us)
            assert identity is not None, "memory is never a full disk"
            self._open |= RangeSet.of([identity.seq])
            self._sealed[identity.seq] = _Sealed(now_s, one.readings, self._presence())
            self._forget_dropped(expected - self._spool.held.readings)

    def tidy(self) -> None:
        """Tells of what was dropped, and gives back the memory of what is settled. Call it now and then."""
        self._spool.seal_gaps()
        wall_s = self._clock.wall_s()
        assert wall_s is not None
        self._spool.free_replayed(wall_s + _PAST_WINDOW_S)

    def close(self) -> None:
        """Gives all of it back."""
        self._spool.close()

    def _forget_dropped(self, readings: int) -> None:
        # At its bound the spool drops what is oldest. Once the gap has arrived, it counts as settled there.
        while readings > 0:
            seq = next(iter(self._sealed))
            readings -= self._sealed.pop(seq).readings
            self._open -= RangeSet.of([seq])

    def _note_settled(self) -> None:
        before, self._held = self._held, self._spool.held
        if before == self._held:
            return
        settled = self._open & self._spool.settled()[self._spool.epoch]
        now_s = self._clock.now_s()
        for seq in settled.members():
            sealed = self._sealed.pop(seq)
            self._every.add(now_s - sealed.at_s, now_s)
            if sealed.presence is not None and sealed.presence == self._presence():
                self._live.add(now_s - sealed.at_s, now_s)
            self.settled_readings += sealed.readings
        self._open -= settled
