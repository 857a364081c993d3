"""Takes readings from the queue, seals them and brings what is sealed to the spool."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.batcher import Batcher, Refused, Sealed
from gateway.clock import Clock
from gateway.collector import Overrun, ReadingQueue
from gateway.link.anchor import Anchor
from gateway.link.backoff import FullJitter
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread
from gateway.thinning import BEGIN, END, MINUTE_US, LeftOut

log = logging.getLogger(__name__)

# How long the task may sleep without showing that it lives: well below the watchdog's patience.
_IDLE_S = 5.0

_RETRY_FIRST_S = 0.5
_RETRY_LONGEST_S = 10.0

# A stop waits so long for a disk that does not answer, then tells what it loses.
_LAST_TRIES = 3


@dataclass(slots=True)
class SealerState:
    """Readings taken and refused since the start, and readings that found no room in the spool."""

    taken: int = 0
    refused: int = 0
    no_room: int = 0
    last_fault: str = ""


class Sealer:
    """One task of the daemon; `run` returns when the queue is closed and all that came is in the spool.

    thin: whether readings may be thinned while the spool fills up (`gateway.thinning`).
    """

    def __init__(
        self,
        queue: ReadingQueue,
        batcher: Batcher,
        spool: SpoolThread,
        clock: Clock,
        *,
        thin: bool,
        sealed: Callable[[], None],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._batcher = batcher
        self._spool = spool
        self._clock = clock
        self._thin = thin
        self._sealed = sealed
        self._progress = progress
        self._no_room = False
        self.state = SealerState()

    async def run(self) -> None:
        """Until the queue is closed and empty. Raises SpoolError other than SpoolUnavailable, which is waited out."""
        while True:
            wait_s = min(_IDLE_S, max(0.0, self._batcher.due_s() - self._clock.now_s()))
            groups = await self._queue.take(wait_s)
            now_s = self._clock.now_s()
            sealed: list[Sealed] = []
            for group in groups or ():
                self.state.taken += len(group)
                sealed += self._batcher.add(group, now_s)
            sealed += self._batcher.seal() if groups is None else self._batcher.seal_due(now_s)
            fill = await self._store(sealed)
            self._progress()
            if groups is None:
                return
            if fill is not None and self._thin:
                await self._weigh(fill)

    async def _weigh(self, fill: float) -> None:
        """Begins to thin readings, or ends it."""
        thinning = self._batcher.thinning
        if thinning.active and fill < END:
            log.info("the spool is %.0f %% full of what is not settled: every reading is sealed again", 100 * fill)
            await self._store(self._batcher.end_thinning())
            # Where the disk refuses that, an unclean stop is told of from a minute too early on.
            await self._hold_back(0)
        # Not before the file says how far back an unclean stop would have to be told.
        elif not thinning.active and fill >= BEGIN and await self._hold_back(MINUTE_US):
            thinning.begin(self._clock.now_us())
            log.warning(
                "the spool is %.0f %% full of what is not settled: from now on the first, the last, the least and the "
                "greatest reading of each minute and series are sealed; the others will be told as a gap",
                100 * fill,
            )

    async def _hold_back(self, us: int) -> bool:
        try:
            await self._spool.run(lambda spool: spool.hold_back(us))
        except SpoolUnavailable:
            # Readings wait for none of this: it is tried again with the next that are sealed.
            return False
        return True

    async def _store(self, sealed: list[Sealed]) -> float | None:
        """Brings it to the spool, with all that was lost on the way here; how full the spool is then.

        None where there was nothing to bring, or a stop gave up on a disk that does not answer.
        """
        refused, overrun = self._batcher.refused(), self._queue.overrun()
        if not sealed and refused is None and overrun is None:
            return None
        if refused is not None:
            self._tell(refused)
        if overrun is not None:
            log.warning("readings came faster than they could be taken: some were dropped, and will be told as a gap")
        anchor = self._clock.read_anchor()
        if anchor is not None:
            self._batcher.thinning.align(anchor.offset_us)
        # What is left out was so for something that is sealed, soon or now: it need not be brought by itself.
        left_out = self._batcher.thinning.left_out()
        put = _Put(anchor, [*map(_append, sealed), *_losses(refused, overrun, left_out, self._clock.now_us())])
        backoff = FullJitter(_RETRY_FIRST_S, _RETRY_LONGEST_S)
        tries = 0
        while True:
            try:
                no_room, fill = await self._spool.run(put)
            except SpoolUnavailable as error:
                # The stop may come while this waits.
                tries += self._queue.closed
                if tries >= _LAST_TRIES:
                    lost = sum(one.readings for one in sealed)
                    log.error("%s: %d readings that were not yet sealed are lost with this stop", error, lost)
                    self._spool.leave_unclean()
                    return None
                # Meanwhile the queue fills, and then drivers wait: nothing is taken that cannot be kept.
                log.warning("%s: trying again", error)
                await asyncio.sleep(backoff.next_s())
                continue
            self._tell_room(no_room, some=bool(sealed))
            self._sealed()
            return fill

    def _tell_room(self, no_room: int, *, some: bool) -> None:
        self.state.no_room += no_room
        # One line when it begins, however long it lasts: the health report says how many there are.
        if no_room and not self._no_room:
            log.error("the spool is full: readings find no room in it, and will be told as a gap")
        elif self._no_room and some and not no_room:
            log.info("readings find room in the spool again")
        self._no_room = bool(no_room) if some else self._no_room

    def _tell(self, refused: Refused) -> None:
        self.state.refused += refused.readings
        # A driver with a bug has it in each reading: one line for each kind of fault.
        if refused.fault != self.state.last_fault:
            log.error("refused %d readings that no batch can hold: %s", refused.readings, refused.fault)
        self.state.last_fault = refused.fault


_Step = Callable[[Spool], int]
"""One call on the spool; how many readings found no room."""


@dataclass(slots=True)
class _Put:
    """What goes to the spool together, in order; may be called until it succeeds.

    On a full disk each step commits by itself, and a later one may fail: what has committed is not done again, else
    readings would be there twice, under two identities.
    """

    anchor: Anchor | None
    steps: list[_Step]
    no_room: int = 0
    """Of the steps that have committed, and are no longer among `steps`."""

    def __call__(self, spool: Spool) -> tuple[int, float]:
        """How many readings found no room, and how full the spool is."""
        spool.set_anchor(self.anchor)
        no_room = self.no_room
        for step in tuple(self.steps):
            no_room += step(spool)
            if not spool.in_group:
                self.steps.remove(step)
                self.no_room = no_room
        return no_room, spool.fill()


def _append(one: Sealed) -> _Step:
    def step(spool: Spool) -> int:
        found = spool.append(one.body, one.readings, one.first_us, one.last_us)
        return one.readings if found is None else 0

    return step


def _losses(refused: Refused | None, overrun: Overrun | None, left_out: LeftOut | None, now_us: int) -> Iterator[_Step]:
    if refused is not None:
        first_us = now_us if refused.first_us is None else refused.first_us
        last_us = now_us if refused.last_us is None else refused.last_us
        yield _loss("unencodable", refused.readings, first_us, last_us)
    if overrun is not None:
        yield _loss("overrun", None, overrun.from_us, overrun.to_us)
    if left_out is not None:
        yield _loss("thinned", left_out.readings, left_out.from_us, left_out.to_us)


def _loss(reason: str, readings: int | None, from_us: int, to_us: int) -> _Step:
    def step(spool: Spool) -> int:
        spool.record_loss(reason, readings, from_us, to_us)
        return 0

    return step
