"""What happens between two awaits: a broker that answers when the test says so, before a real spool."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar

import pytest

import gateway.sending
from gateway.clock import Clock
from gateway.config import UplinkOptions
from gateway.conversation import Conversation
from gateway.link.ranges import RangeSet
from gateway.link.receipts import EpochReceipt, Receipt
from gateway.link.session import Session
from gateway.link.status import ServerStatus, Status, parse
from gateway.link.topics import Topics
from gateway.link.wire import decode
from gateway.sending import Sending, _Pick, start_of
from gateway.speaker import Speaker
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread
from gateway.spool.values import Boot, Identity
from gateway.uplink_state import UplinkState
from gateway.window import Window, WindowLimits
from tests.gateway.running import NAME
from tests.gateway.spool.support import ANCHOR, LEDGER, ROOMY, WALL_S, sealed

T = TypeVar("T")
PATIENCE_S = 10.0
EPOCH = 7
SPEAKER = Speaker(NAME, 99, Topics())
LIMITS = WindowLimits(
    live_batches=64,
    live_bytes=1_000_000,
    backlog_batches=64,
    backlog_bytes=1_000_000,
    resend_first_s=5.0,
    resend_longest_s=5.0,
)


class HeldSession(Session):
    """Stands for the broker, which cannot be made to keep one acknowledgement back and give the next.

    acknowledge: waits as long as the broker does, for the n-th publish (0 …) of a topic's last level.
    """

    def __init__(self, acknowledge: Callable[[str, int], Awaitable[None]]) -> None:
        self._acknowledge = acknowledge
        self._incoming: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.published: list[tuple[str, bytes]] = []

    @property
    def maximum_packet_size(self) -> int | None:
        return None

    @property
    def receive_maximum(self) -> int:
        return 100

    async def subscribe(self, topic: str) -> None:
        pass

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        level = topic.rpartition("/")[2]
        number = len(self.of(level))
        async with self._changed:
            self.published.append((topic, payload))
            self._changed.notify_all()
        await self._acknowledge(level, number)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            yield await self._incoming.get()

    def say(self, topic: str, payload: bytes) -> None:
        self._incoming.put_nowait((topic, payload))

    def of(self, level: str) -> list[bytes]:
        return [payload for topic, payload in self.published if topic.endswith(f"/{level}")]

    async def until(self, level: str, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.of(level)) >= number)


class WatchedSpool(SpoolThread):
    """after: awaited when a work is done, before its caller knows; told the work, and how long it might wait."""

    after: Callable[[object, float], Awaitable[None]] | None = None

    async def run(self, op: Callable[[Spool], T], *, within_s: float = 0.0) -> T:
        result = await super().run(op, within_s=within_s)
        if self.after is not None:
            await self.after(op, within_s)
        return result


@dataclass
class Time:
    s: float = 100.0

    def clock(self) -> Clock:
        return Clock("system", monotonic_ns=lambda: int(self.s * 1e9), wall_ns=lambda: int((WALL_S + self.s) * 1e9))


async def at_once(_level: str, _number: int) -> None:
    pass


@asynccontextmanager
async def spool_of(tmp_path: Path, batches: int) -> AsyncIterator[WatchedSpool]:
    async with WatchedSpool.open(tmp_path / "spool.sqlite3", ROOMY, Boot("b", 0), None, lambda: EPOCH) as spool:
        await spool.run(lambda s: s.set_anchor(ANCHOR))
        for seq in range(batches):
            await spool.run(lambda s, seq=seq: sealed(s, 3, seed=seq))  # type: ignore[misc]
        yield spool


def server(state: Literal["online", "offline"]) -> bytes:
    return ServerStatus(state=state, wire=(1,), ledger=LEDGER, worker="w").payload()


def answer(status: bytes, settled: RangeSet) -> bytes:
    nonce = parse(Status, status).nonce
    return Receipt(ledger=LEDGER, epochs=(EpochReceipt(epoch=EPOCH, settled=settled),), nonce=nonce).payload()


@dataclass
class Talk:
    """A conversation that runs. say_…: what it hears from below."""

    conversation: Conversation
    session: HeldSession
    state: UplinkState
    wake: asyncio.Event

    def say_server(self, state: Literal["online", "offline"]) -> None:
        self.session.say(SPEAKER.topics.server_status, server(state))

    def say_settled(self, status: int, settled: RangeSet) -> None:
        """Answers the status of that number."""
        self.session.say(SPEAKER.topics.receipt(NAME), answer(self.session.of("status")[status], settled))


@asynccontextmanager
async def talking(
    spool: WatchedSpool, *, heartbeat_s: float = 30.0, audit_wait_s: float = 0.0, draw: float = 1.0
) -> AsyncIterator[Talk]:
    """draw: what chance says, 0 … 1, each time."""
    session, state, wake, beats = HeldSession(at_once), UplinkState(), asyncio.Event(), count()
    conversation = Conversation(
        session,
        SPEAKER,
        UplinkOptions(heartbeat_s=heartbeat_s, spread_s=0.0, audit_wait_s=audit_wait_s),
        spool,
        Window(LIMITS),
        Time().clock(),
        state,
        lambda: next(beats),
        wake,
        asyncio.Event(),
        lambda: None,
        draw=lambda: draw,
    )
    running = asyncio.create_task(conversation.run())
    try:
        yield Talk(conversation, session, state, wake)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- no event tells
        await asyncio.sleep(0.01)


async def test_a_receipt_that_overtakes_a_resend_ends_nothing(tmp_path: Path) -> None:
    """It ended the daemon with a KeyError: the later batch was still with the broker, and so was not looked up."""
    never = asyncio.Event()

    async def all_but_the_second(level: str, number: int) -> None:
        if number == 1:
            await never.wait()

    async with spool_of(tmp_path, 0) as spool:
        time, session, wake, window = (
            Time(),
            HeldSession(all_but_the_second),
            asyncio.Event(),
            Window(LIMITS, lambda: 0.0),
        )
        sending = Sending(
            session,
            SPEAKER,
            spool,
            window,
            time.clock(),
            UplinkState(),
            wake,
            asyncio.Event(),
            lambda what, error: None,
        )
        sending.server_is(True)
        sending.start_over(await spool.run(start_of))
        async with asyncio.TaskGroup() as tasks:
            loop = tasks.create_task(sending.run(tasks))
            for seq in range(2):
                await spool.run(lambda s, seq=seq: sealed(s, 3, seed=seq))  # type: ignore[misc]
                wake.set()
                await session.until("batch", seq + 1)

            async def receipt(work: object, _: float) -> None:
                if isinstance(work, partial):  # the older batch is read, to be sent again
                    window.settled({EPOCH: RangeSet([(1, 2)])}, time.s)

            spool.after = receipt
            time.s += 10 * LIMITS.resend_longest_s
            wake.set()
            await session.until("batch", 3)
            spool.after = None
            assert window.under_way() == {Identity(EPOCH, 0)}
            # It still lives: what is sealed now goes.
            await spool.run(lambda s: sealed(s, 3, seed=2))
            wake.set()
            await session.until("batch", 4)
            assert not loop.done()
            loop.cancel()
            never.set()


async def test_a_heartbeat_that_crosses_an_answer_keeps_its_own_audit(tmp_path: Path) -> None:
    """The answer to the status before it took the question away: what a database had lost was not sent again."""
    gate, held = asyncio.Event(), asyncio.Event()

    async def hold_receipts(_: object, within_s: float) -> None:
        if within_s and not gate.is_set():
            held.set()
            await gate.wait()

    async with asyncio.timeout(PATIENCE_S), spool_of(tmp_path, 1) as spool:
        await spool.run(lambda s: s.apply_receipt(LEDGER, {EPOCH: RangeSet.below(1)}, WALL_S))
        async with talking(spool) as talk:
            talk.say_server("online")
            await talk.session.until("status", 1)
            spool.after = hold_receipts
            talk.say_settled(0, RangeSet.below(1))
            await held.wait()
            talk.conversation.ask()
            await talk.session.until("status", 2)
            gate.set()
            # The second answer comes from a backup that knows nothing of it.
            talk.say_settled(1, RangeSet())
            await talk.session.until("batch", 1)
            assert talk.state.taken_back == 1


async def test_gateways_that_came_back_together_do_not_beat_together(tmp_path: Path) -> None:
    """A thousand heartbeats in one second, every half minute, kept the server from live batches for seconds."""
    async with asyncio.timeout(PATIENCE_S), spool_of(tmp_path, 0) as spool, talking(spool, draw=0.001) as talk:
        talk.say_server("online")
        # The opening, and the beat that chance has put 30 ms after it.
        await talk.session.until("status", 2)
        # From then on they are half a minute apart, whatever chance says.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await talk.session.until("status", 3)
        assert len(talk.session.of("status")) == 2


async def test_what_was_sealed_while_the_server_was_away_is_not_sent_all_at_once(tmp_path: Path) -> None:
    """It counted as live: a fleet whose server came back overflowed the broker's queue in the same moment."""
    async with asyncio.timeout(PATIENCE_S), spool_of(tmp_path, 0) as spool, talking(spool, audit_wait_s=60.0) as talk:
        session, state = talk.session, talk.state
        talk.say_server("online")
        await session.until("status", 1)
        talk.say_settled(0, RangeSet())
        talk.say_server("offline")
        await until(lambda: not state.server_online and state.receipts > 0)
        for seq in range(20):
            await spool.run(lambda s, seq=seq: sealed(s, 3, seed=seq))  # type: ignore[misc]
        talk.wake.set()
        talk.say_server("online")
        await session.until("status", 2)
        # What is sealed from now on is live, and does not wait for the books.
        await spool.run(lambda s: sealed(s, 3, seed=20))
        talk.wake.set()
        await session.until("batch", 1)
        talk.say_settled(1, RangeSet())
        await session.until("batch", 2)
        talk.say_settled(0, RangeSet.below(1))
        await session.until("batch", 4)
        seqs = [decode(payload, NAME).envelope.seq for payload in session.of("batch")]
        assert seqs == [20, 0, 1, 2]


async def test_a_disk_that_fails_while_the_server_goes_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the daemon: what it meant to begin with once the disk answers was gone with the server."""
    monkeypatch.setattr(gateway.sending, "DISK_RETRY_S", 0.05)
    failed = asyncio.Event()

    async def fail_once(work: object, _: float) -> None:
        if isinstance(work, _Pick) and not failed.is_set():
            failed.set()
            talk.say_server("offline")
            await until(lambda: not talk.state.server_online)
            raise SpoolUnavailable("spool.sqlite3: disk I/O error")

    async with asyncio.timeout(PATIENCE_S), spool_of(tmp_path, 0) as spool, talking(spool) as talk:
        talk.say_server("online")
        await talk.session.until("status", 1)
        await spool.run(lambda s: sealed(s, 3))
        spool.after = fail_once
        talk.wake.set()
        await failed.wait()
        await asyncio.sleep(0.2)
        assert not talk.session.of("batch")
        talk.say_server("online")
        await talk.session.until("status", 2)
        talk.say_settled(1, RangeSet())
        await talk.session.until("batch", 1)


async def test_nothing_is_sent_that_was_read_while_the_server_went(tmp_path: Path) -> None:
    reading = asyncio.Event()

    async def hold(work: object, _: float) -> None:
        if isinstance(work, _Pick) and not reading.is_set():
            reading.set()
            talk.say_server("offline")
            await until(lambda: not talk.state.server_online)

    async with asyncio.timeout(PATIENCE_S), spool_of(tmp_path, 0) as spool, talking(spool) as talk:
        talk.say_server("online")
        await until(lambda: talk.state.session == "sending")
        # Whatever looks through the spool still, finds nothing.
        await asyncio.sleep(0.1)
        await spool.run(lambda s: sealed(s, 3))
        spool.after = hold
        talk.wake.set()
        await reading.wait()
        await asyncio.sleep(0.2)
        talk.say_server("online")
        await talk.session.until("status", 2)
        talk.say_settled(1, RangeSet())
        await talk.session.until("batch", 1)
        levels = [topic.rpartition("/")[2] for topic, _ in talk.session.published]
        assert levels.index("batch") > [n for n, level in enumerate(levels) if level == "status"][1]
