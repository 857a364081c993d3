"""Takes readings from the queue, seals them and brings what is sealed to the spool."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.batcher import Batcher, Refused, Sealed
from gateway.clock import Clock
from gateway.collector import Overrun, ReadingQueue
from gateway.link.anchor import Anchor
from gateway.link.backoff import FullJitter
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread

log = logging.getLogger(__name__)

# How long the task may sleep without showing that it lives: well below the watchdog's patience.
_IDLE_S = 5.0

_RETRY_FIRST_S = 0.5
_RETRY_LONGEST_S = 10.0

# A stop waits so long for a disk that does not answer, then tells what it loses.
_LAST_TRIES = 3


@dataclass(slots=True)
class SealerState:
    """Readings taken and refused since the start, and readings that the disk had no room for."""

    taken: int = 0
    refused: int = 0
    no_room: int = 0
    last_fault: str = ""


class Sealer:
    """One task of the daemon; `run` returns when the queue is closed and all that came is in the spool."""

    def __init__(
        self,
        queue: ReadingQueue,
        batcher: Batcher,
        spool: SpoolThread,
        clock: Clock,
        *,
        sealed: Callable[[], None],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._batcher = batcher
        self._spool = spool
        self._clock = clock
        self._sealed = sealed
        self._progress = progress
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
            if groups is None or self._batcher.due_s() <= now_s:
                sealed += self._batcher.seal()
            await self._store(sealed, self._batcher.refused(), self._queue.overrun())
            self._progress()
            if groups is None:
                return

    async def _store(self, sealed: list[Sealed], refused: Refused | None, overrun: Overrun | None) -> None:
        if not sealed and refused is None and overrun is None:
            return
        if refused is not None:
            self._tell(refused)
        if overrun is not None:
            log.warning("readings came faster than they could be taken: some were dropped, and will be told as a gap")
        anchor, now_us = self._clock.read_anchor(), self._clock.now_us()
        backoff = FullJitter(_RETRY_FIRST_S, _RETRY_LONGEST_S)
        tries = 0
        while True:
            try:
                no_room = await self._spool.run(lambda spool: _put(spool, anchor, sealed, refused, overrun, now_us))
            except SpoolUnavailable as error:
                # The stop may come while this waits.
                tries += self._queue.closed
                if tries >= _LAST_TRIES:
                    lost = sum(one.readings for one in sealed)
                    log.error("%s: %d readings that were not yet sealed are lost with this stop", error, lost)
                    self._spool.leave_unclean()
                    return
                # Meanwhile the queue fills, and then drivers wait: nothing is taken that cannot be kept.
                log.warning("%s: trying again", error)
                await asyncio.sleep(backoff.next_s())
                continue
            if no_room:
                self.state.no_room += no_room
                log.error("the disk is full: %d readings were dropped, and will be told as a gap", no_room)
            self._sealed()
            return

    def _tell(self, refused: Refused) -> None:
        self.state.refused += refused.readings
        # A driver with a bug has it in each reading: one line for each kind of fault.
        if refused.fault != self.state.last_fault:
            log.error("refused %d readings that no batch can hold: %s", refused.readings, refused.fault)
        self.state.last_fault = refused.fault


def _put(
    spool: Spool,
    anchor: Anchor | None,
    sealed: list[Sealed],
    refused: Refused | None,
    overrun: Overrun | None,
    now_us: int,
) -> int:
    """One transaction for all of it; how many readings found no room."""
    spool.set_anchor(anchor)
    no_room = 0
    for one in sealed:
        if spool.append(one.body, one.readings, one.first_us, one.last_us) is None:
            no_room += one.readings
    if refused is not None:
        first_us = now_us if refused.first_us is None else refused.first_us
        last_us = now_us if refused.last_us is None else refused.last_us
        spool.record_loss("unencodable", refused.readings, first_us, last_us)
    if overrun is not None:
        spool.record_loss("overrun", None, overrun.from_us, overrun.to_us)
    return no_room
