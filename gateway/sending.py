"""What goes up in one session: batches from the spool, each until a receipt settles it (WIRE.md §2, §6).

Invariants: no batch is published while the server is not known to be online. What is under way is known by identity
only; its bytes are in the spool.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from gateway.clock import Clock
from gateway.link import wire
from gateway.link.session import Session
from gateway.speaker import Speaker
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.runner import SpoolRunner
from gateway.spool.store import Spool
from gateway.spool.values import Identity, Stored
from gateway.uplink_state import UplinkState
from gateway.waiting import either
from gateway.window import Lane, Room, Window

log = logging.getLogger(__name__)

DISK_RETRY_S = 1.0
"""A disk that is full or does not answer is asked again after this; meanwhile the sealer goes on as it can."""

# Fixed header, length of the topic, packet id and length of the properties: what a publish adds to its payload.
_PUBLISH_OVERHEAD = 16


@dataclass(frozen=True, slots=True)
class Start:
    """Where live begins: the identity that the next sealed batch will have, and one that comes just before it."""

    first: Identity
    before: Identity | None


def start_of(spool: Spool) -> Start:
    """As of now."""
    ends = spool.ends()
    first = ends[-1]
    if first.seq > 0:
        return Start(first, Identity(first.epoch, first.seq - 1))
    return Start(first, ends[-2] if len(ends) > 1 else None)


class Sending:
    """`run` is one task of a session. tell_disk: says once for an outage what cannot be done, and why.

    drained: set while nothing is left that could be sent or settled, once `finishing` is set.
    """

    def __init__(
        self,
        session: Session,
        speaker: Speaker,
        spool: SpoolRunner,
        window: Window,
        clock: Clock,
        state: UplinkState,
        wake: asyncio.Event,
        finishing: asyncio.Event,
        tell_disk: Callable[[str, SpoolUnavailable], None],
    ) -> None:
        self._session = session
        self._speaker = speaker
        self._topic = speaker.topics.batch(speaker.gateway)
        self._spool = spool
        self._window = window
        self._clock = clock
        self._state = state
        self._wake = wake
        self._finishing = finishing
        self._tell_disk = tell_disk
        self._online = False
        self._backlog_open = False
        self._start_at: Start | None = None
        self._view = 0
        self._cursors: dict[Lane, Identity | None] = dict.fromkeys(Lane)
        self._publishing: set[Identity] = set()
        # One of the broker's places is kept for the heartbeat.
        self._places = asyncio.Semaphore(max(1, session.receive_maximum - 1))
        self.drained = asyncio.Event()

    def server_is(self, online: bool) -> None:
        """While it is not, nothing is sent; when it comes back live begins anew, and the backlog waits for it."""
        if not online:
            self._backlog_open = False
            # What is sealed while it is away is no longer live: a fleet would send all of that in the same moment.
            self._start_at = None
            # What is being read from the disk for it is not to be sent, either.
            self._view += 1
        self._online = online
        self._wake.set()

    def close_backlog(self) -> None:
        """Old batches wait until the books are compared."""
        self._backlog_open = False

    def open_backlog(self) -> None:
        """Old batches go, too."""
        self._backlog_open = True
        self._window.hasten(self._clock.now_s())
        self._wake.set()

    def look_again(self) -> None:
        """Through the whole backlog, where none of it is under way: something behind the cursor may be sendable."""
        if self._window.batches(Lane.BACKLOG) == 0:
            self._cursors[Lane.BACKLOG] = None
            self._wake.set()

    def start_over(self, start_at: Start) -> None:
        """From here on, live is what is sealed next, and the backlog is looked through from its beginning.

        Nothing while the server is away: who calls this may have waited for the disk meanwhile.
        """
        if not self._online:
            return
        self._start_at = start_at
        self._view += 1
        self._cursors = {Lane.LIVE: start_at.before, Lane.BACKLOG: None}
        self._wake.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """For ever; each publish is a task of its own. Raises SessionLost from these."""
        while True:
            self._wake.clear()
            exhausted = not self._online
            if self._online and self._start_at is not None:
                try:
                    exhausted = await self._fill(Lane.LIVE, tasks)
                    if self._backlog_open:
                        exhausted = await self._fill(Lane.BACKLOG, tasks) and exhausted
                    await self._resend(tasks)
                except SpoolUnavailable as error:
                    self._tell_disk("nothing can be sent", error)
                    await asyncio.sleep(DISK_RETRY_S)
                    # What was picked and not started is looked for again; what is under way is left out. (Where the
                    # server has gone meanwhile, there is nothing to begin with until it comes back.)
                    if self._start_at is not None:
                        self.start_over(self._start_at)
            self._tell()
            if self._finishing.is_set() and exhausted and not (self._online and len(self._window)):
                self.drained.set()
            await either(self._wake, self._window.next_due_s() - self._clock.now_s() if self._online else None)

    async def _fill(self, lane: Lane, tasks: asyncio.TaskGroup) -> bool:
        """Sends while there is room; whether nothing is left to send."""
        while self._online and self._start_at is not None:
            room = self._window.room(lane)
            if not room.batches or not room.bytes:
                return False
            view, under_way = self._view, self._window.under_way()
            pick = _Pick(self._speaker, lane, self._start_at.first, self._cursors[lane], room, under_way)
            seen, found = await self._spool.run(pick)
            if seen is None:
                return True
            # Somebody may have started over while the disk was read: then this belongs to a view that is gone.
            if self._view != view:
                continue
            self._cursors[lane] = seen
            for stored, batch in found:
                payload = wire.encode(batch)
                if await self._refused_for_size(stored.identity, payload):
                    continue
                if self._view != view:
                    break
                if self._window.sent(lane, stored, self._clock.now_s()):
                    self._state.sent += 1
                    self._start(stored.identity, payload, tasks)
        return False

    async def _resend(self, tasks: asyncio.TaskGroup) -> None:
        now_s = self._clock.now_s()
        for identity in self._window.due(now_s):
            if identity not in self._window:
                continue  # settled while the disk was read for one before it
            # The broker has not even taken the first copy: a second one would only lengthen the queue before it.
            if identity not in self._publishing:
                speaker = self._speaker
                batch = await self._spool.run(
                    partial(Spool.load, identity=identity, gateway=speaker.gateway, instance=speaker.instance)
                )
                if batch is None:
                    self._window.forget(identity)
                    continue
                if not self._online:
                    return
                if identity not in self._window:
                    continue  # settled while the disk was read
                self._state.resent += 1
                self._start(identity, wire.encode(batch), tasks)
            self._window.resent(identity, now_s)

    async def _refused_for_size(self, identity: Identity, payload: bytes) -> bool:
        if fits(self._session, self._topic, payload):
            return False
        log.error(
            "batch %016x/%d of %d bytes is more than the broker's limit of %s: dropped, and told to the server",
            identity.epoch,
            identity.seq,
            len(payload),
            self._session.maximum_packet_size,
        )
        self._state.too_large += 1

        def drop(spool: Spool) -> None:
            spool.drop(identity, "too_large")
            spool.seal_gaps()

        await self._spool.run(drop)
        self._wake.set()
        return True

    def _start(self, identity: Identity, payload: bytes, tasks: asyncio.TaskGroup) -> None:
        self._publishing.add(identity)
        tasks.create_task(self._publish(identity, payload), name=f"publish {identity.epoch:016x}/{identity.seq}")

    async def _publish(self, identity: Identity, payload: bytes) -> None:
        try:
            async with self._places:
                await self._session.publish(self._topic, payload)
        finally:
            self._publishing.discard(identity)

    def _tell(self) -> None:
        self._state.live = self._window.batches(Lane.LIVE)
        self._state.backlog = self._window.batches(Lane.BACKLOG)
        self._state.drain_bytes_s = self._window.drain.bytes_s


def fits(session: Session, topic: str, payload: bytes) -> bool:
    """Whether the broker takes a packet of this size."""
    most = session.maximum_packet_size
    return most is None or len(payload) + len(topic.encode()) + _PUBLISH_OVERHEAD <= most


def body_limit(session: Session, speaker: Speaker) -> int | None:
    """Bytes that the broker's limit on packets leaves for a batch's body; None where it has none."""
    most = session.maximum_packet_size
    if most is None:
        return None
    return most - len(speaker.topics.batch(speaker.gateway).encode()) - _PUBLISH_OVERHEAD - wire.ENVELOPE_ROOM


@dataclass(frozen=True, slots=True)
class _Pick:
    """Looks through the spool, where the spool lives, for what a lane sends next."""

    speaker: Speaker
    lane: Lane
    live_from: Identity
    after: Identity | None
    room: Room
    under_way: Collection[Identity]

    def __call__(self, spool: Spool) -> tuple[Identity | None, list[tuple[Stored, wire.Batch]]]:
        """The last batch looked at, None where there was none, and those of them to be sent."""
        last: Identity | None = None
        found: list[tuple[Stored, wire.Batch]] = []
        for stored in spool.sendable(self.after, self.room.batches, self.room.bytes):
            identity = stored.identity
            live = identity.epoch == self.live_from.epoch and identity.seq >= self.live_from.seq
            if live and self.lane is Lane.BACKLOG:
                break
            last = identity
            if identity in self.under_way or live is not (self.lane is Lane.LIVE):
                continue
            # None: settled meanwhile, or the copy turned out bad, and a gap says so from now on.
            batch = spool.load(identity, self.speaker.gateway, self.speaker.instance)
            if batch is not None:
                found.append((stored, batch))
        return last, found
