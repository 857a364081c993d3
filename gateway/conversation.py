"""One session with the broker: statuses and batches go up, receipts come down (WIRE.md §5 to §7).

Invariants: nothing but the gateway's own status is published while the server is not known to be online. Only a
receipt that the spool has applied frees a place in the window; a PUBACK frees nothing. What is under way is known by
identity only; its bytes are in the spool.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from random import random
from secrets import randbits

from gateway.clock import Clock
from gateway.config import UplinkOptions
from gateway.link import wire
from gateway.link.errors import ControlError
from gateway.link.ranges import RangeSet
from gateway.link.receipts import Receipt
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from gateway.link.status import EpochBook, ServerStatus, SpoolBook, Status, parse
from gateway.link.topics import Topics
from gateway.spool.errors import ForeignLedger, SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread
from gateway.spool.values import Identity, Stored
from gateway.uplink_state import UplinkState
from gateway.window import Lane, Room, Window

log = logging.getLogger(__name__)

VERSION = version("heal7-iot")

# The retained server status follows the subscription at once; with it in hand the first status is the audit, too.
_GREETING_S = 1.0

# An epoch may be listed by at most so many held ranges (WIRE.md §5); it may overstate them.
_MAX_HELD_SPANS = 200

# Fixed header, length of the topic, packet id and length of the properties: what a publish adds to its payload.
_PUBLISH_OVERHEAD = 16

# A receipt waits so long for an append to share its commit with: an SD card wears by the write. It costs no more than
# a place in the window for that time.
_RECEIPT_WAITS_S = 0.25

# A disk that is full or does not answer is asked again after this; meanwhile the sealer goes on as it can.
_DISK_RETRY_S = 1.0

_MAX_TOLD = 16  # foreign ledgers that are named in the log; whoever invents more is not worth the lines


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: `<site>/<name>`, this start's instance, and under which root of topics."""

    gateway: str
    instance: int
    topics: Topics

    def offline(self) -> bytes:
        """The last will, which a clean stop publishes, too."""
        return Status(v=1, state="offline", instance=self.instance).model_dump_json(exclude_unset=True).encode()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A status that waits for its answer, and what was settled when it was sent, by epoch."""

    nonce: int
    settled: dict[int, RangeSet]


class Conversation:
    """Made for one session; `run` ends by SessionLost, or when `finishing` is set and what can be sent is settled."""

    def __init__(
        self,
        session: Session,
        speaker: Speaker,
        options: UplinkOptions,
        spool: SpoolThread,
        window: Window,
        clock: Clock,
        state: UplinkState,
        beats: Callable[[], int],
        wake: asyncio.Event,
        finishing: asyncio.Event,
        progress: Callable[[], None],
    ) -> None:
        self._session = session
        self._speaker = speaker
        self._topics = speaker.topics
        self._options = options
        self._spool = spool
        self._window = window
        self._clock = clock
        self._state = state
        self._beats = beats
        self._wake = wake
        self._finishing = finishing
        self._progress = progress
        self._online = False
        self._ledger = ""
        self._told_bad = False
        self._told_disk = False
        self._backlog_open = False
        self._start_at: _Start | None = None
        self._view = 0
        self._cursors: dict[Lane, Identity | None] = dict.fromkeys(Lane)
        self._round_wanted = asyncio.Event()
        self._asked: _Asked | None = None
        self._answered = asyncio.Event()
        self._drained = asyncio.Event()
        self._publishing: set[Identity] = set()
        # One of the broker's places is kept for the heartbeat.
        self._places = asyncio.Semaphore(max(1, session.receive_maximum - 1))

    def ask(self) -> None:
        """Publishes a status now and takes its answer as the server's whole book."""
        self._round_wanted.set()

    async def run(self) -> None:
        """Talks until the session is lost (SessionLost) or finishing is done."""
        speaker, topics = self._speaker, self._topics
        self._state.session = "waiting for the server"
        await self._session.subscribe(topics.receipt(speaker.gateway))
        await self._session.subscribe(topics.server_status)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._listen(), name="uplink listen"),
                tasks.create_task(self._beat(), name="uplink status"),
                tasks.create_task(self._send(tasks), name="uplink send"),
            ]
            await self._finishing.wait()
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.drain_s):
                    await self._drained.wait()
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await self._session.publish(topics.status(speaker.gateway), speaker.offline(), retain=True)

    # -- what comes down ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        receipts = self._topics.receipt(self._speaker.gateway)
        async for topic, payload in self._session.messages():
            try:
                if topic == self._topics.server_status:
                    self._hear_server(parse(ServerStatus, payload))
                elif topic == receipts:
                    await self._hear_receipt(parse(Receipt, payload))
            except ControlError as error:
                self._state.bad_messages += 1
                if not self._told_bad:
                    log.warning("ignored a message on %s: %s; more of the kind are only counted", topic, error)
                self._told_bad = True
            except SpoolUnavailable as error:
                # Lost, it comes again: what it settles stays under way, is sent again, and answered again.
                self._tell_disk("a receipt cannot be entered", error)

    def _hear_server(self, status: ServerStatus) -> None:
        online = status.state == "online" and wire.VERSION in status.wire
        if status.state == "online" and not online:
            log.error(
                "the server takes wire versions %s, this gateway speaks %d: nothing is sent until one is updated",
                list(status.wire),
                wire.VERSION,
            )
        came, changed = online and not self._online, online and status.ledger != self._ledger
        if online != self._online:
            log.info("the server is %s", "online" if online else "away: batches stay in the spool")
        self._online = self._state.server_online = online
        self._ledger = status.ledger
        if came or changed:
            self._backlog_open = False
            self._round_wanted.set()
        if not online:
            self._backlog_open = False
            self._state.session = "waiting for the server"
        self._wake.set()

    async def _hear_receipt(self, receipt: Receipt) -> None:
        ranges: dict[int, RangeSet] = {}
        for entry in receipt.epochs:
            ranges[entry.epoch] = ranges.get(entry.epoch, RangeSet()) | entry.settled
        asked = self._asked
        lost: dict[int, RangeSet] = {}
        answers = asked is not None and receipt.nonce == asked.nonce
        if asked is not None and answers:
            lost = {e: gone for e, settled in ranges.items() if (gone := asked.settled.get(e, RangeSet()) - settled)}
        wall_s = self._clock.wall_s()

        def apply(spool: Spool) -> tuple[int, _Start]:
            spool.apply_receipt(receipt.ledger, ranges, wall_s)
            return sum(spool.take_back(epoch, gone) for epoch, gone in lost.items()), _start(spool)

        try:
            taken_back, start_at = await self._spool.run(apply, within_s=_RECEIPT_WAITS_S)
        except ForeignLedger as error:
            self._hear_foreign(error)
            return
        self._told_disk = False
        now_s = self._clock.now_s()
        self._state.receipts += 1
        self._state.last_receipt_s = now_s
        self._window.settled(ranges, now_s)
        if answers:
            # Once only: a second answer would take back what was sent again and settled meanwhile.
            self._asked = None
            self._answered.set()
        if taken_back:
            self._state.taken_back += taken_back
            log.warning("the database no longer holds %d batches that it had: they are sent again", taken_back)
            self._start_over(start_at)
        self._progress()
        self._wake.set()

    def _tell_disk(self, what: str, error: SpoolUnavailable) -> None:
        # One line for an outage of the disk, however long: it is tried again every second.
        if not self._told_disk:
            log.error("%s: %s; trying again", what, error)
        self._told_disk = True

    def _hear_foreign(self, error: ForeignLedger) -> None:
        self._state.foreign_receipts += 1
        told = self._state.told_ledgers
        if error.ledger not in told and len(told) < _MAX_TOLD:
            told.add(error.ledger)
            log.error("%s", error)

    # -- statuses -------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        await _either(self._round_wanted, _GREETING_S)
        while True:
            opening = self._round_wanted.is_set() and self._online
            self._round_wanted.clear()
            try:
                await self._publish_status(opening)
            except SpoolUnavailable as error:
                self._tell_disk("no status can be told", error)
                if opening:
                    self._round_wanted.set()
                await asyncio.sleep(_DISK_RETRY_S)
                continue
            self._progress()
            if opening:
                await self._open_backlog()
            await _either(self._round_wanted, self._options.heartbeat_s)
            # What became sendable behind the cursor, as by an anchor for an older boot, is found again so.
            if self._window.batches(Lane.BACKLOG) == 0:
                self._cursors[Lane.BACKLOG] = None
                self._wake.set()

    async def _publish_status(self, opening: bool) -> None:
        anchor = self._clock.read_anchor()
        sent_at_us = None if anchor is None else self._clock.now_us() + anchor.offset_us
        books, settled, usage, start_at = await self._spool.run(
            lambda spool: (spool.books(), spool.settled(), spool.usage(), _start(spool))
        )
        # Never 0, which stands for no nonce.
        nonce = randbits(62) + 1
        listed = {book.epoch for book in books}
        self._answered.clear()
        self._asked = _Asked(nonce, {epoch: ranges for epoch, ranges in settled.items() if epoch in listed})
        if opening:
            self._start_over(start_at)
            self._state.session = "comparing books"
            self._wake.set()
        status = Status(
            state="online",
            instance=self._speaker.instance,
            beat=self._beats(),
            nonce=nonce,
            version=VERSION,
            sent_at_us=sent_at_us,
            epochs=tuple(_coarse(book, _MAX_HELD_SPANS) for book in books),
            spool=SpoolBook(
                bytes=usage.bytes, bound_bytes=usage.bound_bytes, batches=usage.batches, readings=usage.readings
            ),
        )
        topic = self._topics.status(self._speaker.gateway)
        payload = status.payload()
        if not self._fits(topic, payload):
            payload = status.model_copy(update={"epochs": tuple(_coarse(book, 1) for book in books)}).payload()
        if not self._fits(topic, payload):
            # Published, it would end the session with an error of the broker's that says less.
            raise SessionLost(f"the broker takes no packet of {len(payload)} bytes, which the gateway's status needs")
        await self._session.publish(topic, payload, retain=True)

    async def _open_backlog(self) -> None:
        # Without an answer old batches go anyway: what is settled already is recognised by the ledger.
        await _either(self._answered, self._options.audit_wait_s)
        await _either(self._finishing, random() * self._options.spread_s)
        if self._online:
            self._backlog_open = True
            self._window.hasten(self._clock.now_s())
            self._state.session = "sending"
            self._wake.set()

    def _start_over(self, start_at: "_Start") -> None:
        """From here on, live is what is sealed next, and the backlog is looked through from its beginning."""
        self._start_at = start_at
        self._view += 1
        self._cursors = {Lane.LIVE: start_at.before, Lane.BACKLOG: None}

    # -- what goes up ---------------------------------------------------------------------------------------------

    async def _send(self, tasks: asyncio.TaskGroup) -> None:
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
                    await asyncio.sleep(_DISK_RETRY_S)
                    # What was picked and not started is looked for again; what is under way is left out.
                    self._start_over(self._start_at)
                    self._wake.set()
            self._tell()
            if self._finishing.is_set() and exhausted and not (self._online and len(self._window)):
                self._drained.set()
            await _either(self._wake, self._window.next_due_s() - self._clock.now_s() if self._online else None)

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
                if self._window.sent(lane, stored, self._clock.now_s()):
                    self._state.sent += 1
                    self._start(stored.identity, payload, tasks)
        return False

    async def _resend(self, tasks: asyncio.TaskGroup) -> None:
        now_s = self._clock.now_s()
        for identity in self._window.due(now_s):
            # The broker has not even taken the first copy: a second one would only lengthen the queue before it.
            if identity not in self._publishing:
                speaker = self._speaker
                batch = await self._spool.run(
                    partial(Spool.load, identity=identity, gateway=speaker.gateway, instance=speaker.instance)
                )
                if batch is None:
                    self._window.forget(identity)
                    continue
                if identity not in self._window:
                    continue  # settled while the disk was read
                self._state.resent += 1
                self._start(identity, wire.encode(batch), tasks)
            self._window.resent(identity, now_s)

    async def _refused_for_size(self, identity: Identity, payload: bytes) -> bool:
        if self._fits(self._topics.batch(self._speaker.gateway), payload):
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

    def _fits(self, topic: str, payload: bytes) -> bool:
        most = self._session.maximum_packet_size
        return most is None or len(payload) + len(topic.encode()) + _PUBLISH_OVERHEAD <= most

    def _start(self, identity: Identity, payload: bytes, tasks: asyncio.TaskGroup) -> None:
        self._publishing.add(identity)
        tasks.create_task(self._publish(identity, payload), name=f"publish {identity.epoch:016x}/{identity.seq}")

    async def _publish(self, identity: Identity, payload: bytes) -> None:
        try:
            async with self._places:
                await self._session.publish(self._topics.batch(self._speaker.gateway), payload)
        finally:
            self._publishing.discard(identity)

    def _tell(self) -> None:
        self._state.live = self._window.batches(Lane.LIVE)
        self._state.backlog = self._window.batches(Lane.BACKLOG)
        self._state.drain_bytes_s = self._window.drain.bytes_s


def body_limit(session: Session, speaker: Speaker) -> int | None:
    """Bytes that the broker's limit on packets leaves for a batch's body; None where it has none."""
    most = session.maximum_packet_size
    if most is None:
        return None
    return most - len(speaker.topics.batch(speaker.gateway).encode()) - _PUBLISH_OVERHEAD - wire.ENVELOPE_ROOM


@dataclass(frozen=True, slots=True)
class _Start:
    """Where live begins: the identity that the next sealed batch will have, and one that comes just before it."""

    first: Identity
    before: Identity | None


def _start(spool: Spool) -> _Start:
    books = spool.books()
    at = next(i for i, book in enumerate(books) if book.epoch == spool.epoch)
    first = Identity(spool.epoch, books[at].next)
    if first.seq > 0:
        return _Start(first, Identity(first.epoch, first.seq - 1))
    return _Start(first, Identity(books[at - 1].epoch, books[at - 1].next) if at > 0 else None)


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


def _coarse(book: EpochBook, spans: int) -> EpochBook:
    return book if book.held.spans() <= spans else book.model_copy(update={"held": book.held.coarse(spans)})


async def _either(event: asyncio.Event, timeout_s: float | None) -> None:
    """Waits for the event or the time, whichever comes first; None or infinity: no time."""
    if timeout_s is not None and timeout_s == float("inf"):
        timeout_s = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s if timeout_s is None else max(0.0, timeout_s)):
            await event.wait()
