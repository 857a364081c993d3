"""Batches to settle, and a line that settles them: everything of the server but the broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from device_drivers.reading import Reading, Series
from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.broker import BrokerOptions
from gateway.link.manual_ack_session import Incoming
from gateway.link.receipts import Receipt
from gateway.link.status import EpochBook, SpoolBook, Status, parse
from gateway.link.topics import Topics
from gateway.link.wire import Batch, Envelope, Gap, Kind
from ingest_server.counters import Counters
from ingest_server.pipeline import Pipeline
from ingest_server.receipts import Receipts
from ingest_server.source import MqttSource
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.frames.reading import Decode, undecoded
from ingest_server.storage.line.catalogue import CatalogueLimits
from ingest_server.storage.line.ledger import Books, ledger_id, read_books
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.line.writer import Writer, WriterOptions
from ingest_server.storage.pools import Pool, PoolOptions
from tests.peers.postgres import Database

PATIENCE_S = 20.0
"""For waits that end at once unless something is broken."""

GATEWAY = "seoul-1/lobby"
EPOCH = 0x03D9_0000_0000_0001
NOW_US = 1_795_262_400_000_000  # 2026-11-21 12:00 UTC
RETENTION_DAYS = 400
SECOND = 1_000_000
DAY = 86_400 * SECOND
ANCHOR = Anchor(NOW_US - 1_000 * SECOND, 2_000, ClockSource.KERNEL)
TEMPERATURE = Series("hall-1", "temperature", "temperature", "°C", "bthome_v2", "2.1")
HUMIDITY = Series("hall-1", "humidity", "humidity", "%", "bthome_v2", "2.1")
TOPICS = Topics()


def reading(value: float = 21.5, at_us: int = NOW_US, series: Series = TEMPERATURE) -> Reading:
    """A reading whose wall time is `at_us`."""
    return Reading(series, value, at_us - ANCHOR.offset_us)


def data(
    seq: int,
    readings: Sequence[Reading] | None = None,
    *,
    before: int | None = None,
    epoch: int = EPOCH,
    gateway: str = GATEWAY,
    instance: int = 1,
    anchor: Anchor = ANCHOR,
) -> bytes:
    """A batch, by default one of two readings in an epoch of such batches."""
    held = list(readings) if readings is not None else [reading(seq + 0.25), reading(seq + 0.5)]
    envelope = Envelope(
        Kind.DATA, gateway, epoch, seq, len(held), 2 * seq if before is None else before, anchor, instance
    )
    return wire.encode(Batch(envelope, wire.encode_data(held)))


def gap(
    seq: int, gaps: Sequence[Gap], *, before: int = 0, epoch: int = EPOCH, gateway: str = GATEWAY, instance: int = 1
) -> bytes:
    """A gap batch."""
    envelope = Envelope(Kind.GAP, gateway, epoch, seq, 0, before, ANCHOR, instance)
    return wire.encode(Batch(envelope, wire.encode_gaps(gaps)))


def dropped(first: int, counts: Sequence[int], *, epoch: int = EPOCH, reason: str = "bound") -> Gap:
    return Gap(reason, epoch, first, tuple(counts), 0, NOW_US - SECOND, NOW_US)


def status(
    *books: EpochBook,
    instance: int = 1,
    beat: int = 0,
    nonce: int = 7,
    state: str = "online",
    version: str = "0.1.0",
    sent_at_us: int | None = None,
) -> Status:
    """sent_at_us: None: now, as this machine's clock has it."""
    return Status(
        state="online" if state == "online" else "offline",
        instance=instance,
        beat=beat,
        nonce=nonce,
        version=version,
        sent_at_us=time.time_ns() // 1000 if sent_at_us is None else sent_at_us,
        epochs=books,
        spool=SpoolBook(bytes=1, bound_bytes=2, batches=3, readings=4),
    )


LIMITS = CatalogueLimits()


BOUND = QuarantineBound()


def writer_options(
    database: Database,
    limits: CatalogueLimits = LIMITS,
    bound: QuarantineBound = BOUND,
    new_epochs_per_hour: int = 1_000,
    *,
    decode: Decode = undecoded,
    keep_frames: bool = False,
) -> WriterOptions:
    return WriterOptions(
        Pool(PoolOptions("write", database.dsn, 10, 30.0, 30.0)),
        limits,
        lambda _profile: ("Maker", "Model"),
        bound,
        new_epochs_per_hour,
        decode=decode,
        keep_frames=keep_frames,
    )


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Connection]:
    connection = await connect(database.dsn, "test", 30)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def open_writer(database: Database, limits: CatalogueLimits = LIMITS) -> AsyncIterator[Writer]:
    writer = await Writer.open(writer_options(database, limits))
    try:
        yield writer
    finally:
        await writer.close()


class HandFed(MqttSource):
    """A source into which a test puts what a broker would deliver."""

    def __init__(self, receive_maximum: int = 10_000, clock_s: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(
            BrokerOptions(),
            ledger_id="",
            worker="test",
            receive_maximum=receive_maximum,
            share=None,
            clock_s=clock_s,
        )

    def feed(self, topic: str, payload: bytes) -> asyncio.Event:
        """The event is set when the delivery is acknowledged."""
        acknowledged = asyncio.Event()
        self.deliver(topic, payload, acknowledged.set)
        return acknowledged

    def deliver(self, topic: str, payload: bytes, ack: Callable[[], None]) -> None:
        self._on_message(Incoming(topic, payload, ack))


@dataclass
class Line:
    """A pipeline that runs, and what it published."""

    source: HandFed
    counters: Counters
    pipeline: Pipeline
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)

    async def settle(self, *payloads: bytes, gateway: str = GATEWAY) -> None:
        """Has all of them settled as one group."""
        await self.acknowledged(self.feed(*payloads, gateway=gateway))

    def feed(self, *payloads: bytes, gateway: str = GATEWAY) -> list[asyncio.Event]:
        return [self.source.feed(TOPICS.batch(gateway), payload) for payload in payloads]

    async def acknowledged(self, events: Iterable[asyncio.Event]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for event in events:
                await event.wait()


@asynccontextmanager
async def running_line(
    database: Database,
    *,
    limits: CatalogueLimits = LIMITS,
    now_us: int = NOW_US,
    group: int = 10_000,
    bound: QuarantineBound = BOUND,
    new_epochs_per_hour: int = 1_000,
    decode: Decode = undecoded,
    keep_frames: bool = False,
) -> AsyncIterator[Line]:
    """A worker of its own."""
    async with open_writer(database) as writer:
        ledger = await ledger_id(writer.connection)
    source, counters = HandFed(), Counters()
    published: list[tuple[str, Receipt]] = []

    def publish(topic: str, payload: bytes) -> bool:
        published.append((topic, parse(Receipt, payload)))
        return True

    pipeline = Pipeline(
        source,
        writer_options(database, limits, bound, new_epochs_per_hour, decode=decode, keep_frames=keep_frames),
        Receipts(publish, TOPICS, ledger, counters),
        counters,
        group_batches=group,
        gather_s=0,
        retention_days=RETENTION_DAYS,
        wall_us=lambda: now_us,
        clock_s=lambda: 0.0,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(pipeline.run(stop))
    try:
        yield Line(source, counters, pipeline, published)
    finally:
        stop.set()
        await running


async def settle(database: Database, *payloads: bytes, gateway: str = GATEWAY) -> Line:
    """One group through a worker of its own; the line, stopped."""
    async with running_line(database) as line:
        await line.settle(*payloads, gateway=gateway)
    return line


async def books_of(database: Database, gateway: str = GATEWAY) -> Books:
    async with open_writer(database) as writer:
        return next(b for b in await read_books(writer.connection) if b.gateway == gateway)


def values(database: Database) -> list[float]:
    """Every value in the database, once for each row."""
    return [row[0] for row in database.query("SELECT value FROM iot_service.sensor_readings ORDER BY value")]


def settled(database: Database, epoch: int = EPOCH) -> str:
    return str(database.one("SELECT settled::text FROM iot_service.ledger WHERE epoch = %s", epoch))


async def until_waiting_for_a_lock(database: Database, backends: int = 1) -> None:
    """Returns once so many backends of this database wait for a lock that another holds."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_S):
        while database.one(waiting) < backends:  # noqa: ASYNC110 -- PostgreSQL has no event for it
            await asyncio.sleep(0.005)
