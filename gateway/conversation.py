"""One session with the broker: who is there, what is settled, whose books are right (WIRE.md §5 to §7).

Invariant: only a receipt that the spool has applied frees a place in the window; a PUBACK frees nothing. What goes up
besides statuses is `gateway.sending`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
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
from gateway.sending import DISK_RETRY_S, Sending, Start, fits, start_of
from gateway.speaker import Speaker
from gateway.spool.errors import ForeignLedger, SpoolUnavailable
from gateway.spool.runner import SpoolRunner
from gateway.spool.store import Spool
from gateway.uplink_state import UplinkState
from gateway.waiting import either
from gateway.window import Window

log = logging.getLogger(__name__)

VERSION = version("heal7-iot")

# The retained server status follows the subscription at once; with it in hand the first status is the audit, too.
_GREETING_S = 1.0

# A receipt waits so long for an append to share its commit with: an SD card wears by the write. It costs no more than
# a place in the window for that time.
_RECEIPT_WAITS_S = 0.25

_MAX_TOLD = 16  # foreign ledgers that are named in the log; whoever invents more is not worth the lines


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
        spool: SpoolRunner,
        window: Window,
        clock: Clock,
        state: UplinkState,
        beats: Callable[[], int],
        wake: asyncio.Event,
        finishing: asyncio.Event,
        progress: Callable[[], None],
        draw: Callable[[], float] = random,
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
        self._draw = draw
        self._sending = Sending(
            session, speaker, spool, window, clock, state, wake, finishing, tell_disk=self._tell_disk
        )
        self._online = False
        self._ledger = ""
        self._told_bad = False
        self._told_disk = False
        self._round_wanted = asyncio.Event()
        self._asked: _Asked | None = None
        self._answered = asyncio.Event()

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
                tasks.create_task(self._sending.run(tasks), name="uplink send"),
            ]
            await self._finishing.wait()
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.drain_s):
                    await self._sending.drained.wait()
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
        self._sending.server_is(online)
        if came or changed:
            self._sending.close_backlog()
            self._round_wanted.set()
        if not online:
            self._state.session = "waiting for the server"

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

        def apply(spool: Spool) -> tuple[int, Start]:
            spool.apply_receipt(receipt.ledger, ranges, wall_s)
            return sum(spool.take_back(epoch, gone) for epoch, gone in lost.items()), start_of(spool)

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
        # Not where a later status was sent meanwhile: that one still waits for its answer.
        if answers and self._asked is asked:
            # Once only: a second answer would take back what was sent again and settled meanwhile.
            self._asked = None
            self._answered.set()
        if taken_back:
            self._state.taken_back += taken_back
            log.warning("the database no longer holds %d batches that it had: they are sent again", taken_back)
            self._sending.start_over(start_at)
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
        await either(self._round_wanted, _GREETING_S)
        while True:
            opening = self._round_wanted.is_set() and self._online
            self._round_wanted.clear()
            try:
                await self._publish_status(opening)
            except SpoolUnavailable as error:
                self._tell_disk("no status can be told", error)
                if opening:
                    self._round_wanted.set()
                await asyncio.sleep(DISK_RETRY_S)
                continue
            self._progress()
            if opening:
                await self._open_backlog()
            # A fleet that came back together would go on beating together, and keep the server from its batches each
            # time: the first beat after an opening comes at a time of its own.
            await either(self._round_wanted, self._options.heartbeat_s * (self._draw() if opening else 1.0))
            # What became sendable behind the cursor, as by an anchor for an older boot, is found again so.
            self._sending.look_again()

    async def _publish_status(self, opening: bool) -> None:
        anchor = self._clock.read_anchor()
        sent_at_us = None if anchor is None else self._clock.now_us() + anchor.offset_us
        books, settled, usage, start_at = await self._spool.run(
            lambda spool: (spool.books(), spool.settled(), spool.usage(), start_of(spool))
        )
        # Never 0, which stands for no nonce.
        nonce = randbits(62) + 1
        listed = {book.epoch for book in books.epochs}
        self._answered.clear()
        self._asked = _Asked(nonce, {epoch: ranges for epoch, ranges in settled.items() if epoch in listed})
        if opening:
            self._sending.start_over(start_at)
            self._state.session = "comparing books"
        status = Status(
            state="online",
            instance=self._speaker.instance,
            beat=self._beats(),
            nonce=nonce,
            version=VERSION,
            sent_at_us=sent_at_us,
            epochs=books.epochs,
            whole=books.whole,
            spool=SpoolBook(
                bytes=usage.bytes, bound_bytes=usage.bound_bytes, batches=usage.batches, readings=usage.readings
            ),
        )
        topic = self._topics.status(self._speaker.gateway)
        payload = status.payload()
        if not fits(self._session, topic, payload):
            payload = status.model_copy(update={"epochs": tuple(_overstated(book) for book in books.epochs)}).payload()
        if not fits(self._session, topic, payload):
            # Published, it would end the session with an error of the broker's that says less.
            raise SessionLost(f"the broker takes no packet of {len(payload)} bytes, which the gateway's status needs")
        await self._session.publish(topic, payload, retain=True)

    async def _open_backlog(self) -> None:
        # Without an answer old batches go anyway: what is settled already is recognised by the ledger.
        await either(self._answered, self._options.audit_wait_s)
        await either(self._finishing, self._draw() * self._options.spread_s)
        # Not where it went and came back meanwhile, perhaps with another database: the books are compared anew first.
        if self._online and not self._round_wanted.is_set():
            self._sending.open_backlog()
            self._state.session = "sending"


def _overstated(book: EpochBook) -> EpochBook:
    """In one range, as a book may be (WIRE.md §5)."""
    return book.model_copy(update={"held": book.held.coarse(1)})
