"""The ingest server put together: one TaskGroup, named tasks."""

import asyncio
import logging
import secrets
import time

from firmware_profiles.selection import ProfileSet
from gateway.daemon import notify
from gateway.link.backoff import FullJitter
from ingest_server.config import BooksOptions, IngestConfig
from ingest_server.counters import Counters
from ingest_server.errors import StorageUnavailable
from ingest_server.health import report
from ingest_server.jobs import Jobs
from ingest_server.liveness import Liveness
from ingest_server.pipeline import Pipeline
from ingest_server.receipts import Receipts
from ingest_server.source import MqttSource
from ingest_server.storage.catalogue import CatalogueLimits, Describe
from ingest_server.storage.connection import connect
from ingest_server.storage.ledger import ledger_id
from ingest_server.storage.migrations import require_current
from ingest_server.storage.partitions import NativePartitions
from ingest_server.storage.profiles import publish
from ingest_server.storage.quarantine_bound import QuarantineBound
from ingest_server.storage.writer import WriterOptions

log = logging.getLogger(__name__)


def wall_us() -> int:
    """The server's clock, Unix µs."""
    return time.time_ns() // 1000


def describe_from(profiles: ProfileSet) -> Describe:
    """From a profile's name to manufacturer and model, as far as this server knows the profile."""
    known = {p.name: (p.manufacturer, p.models[0]) for p in profiles}
    return lambda name: known.get(name, (None, None))


def catalogue_limits(books: BooksOptions) -> CatalogueLimits:
    """What a gateway may bring."""
    return CatalogueLimits(books.new_devices_per_hour, books.new_series_per_hour, books.handover_silence_s)


def writer_options(config: IngestConfig) -> WriterOptions:
    """How this configuration writes."""
    books = config.books
    return WriterOptions(
        config.database.dsn.get_secret_value(),
        config.database.statement_timeout_s,
        catalogue_limits(books),
        describe_from(ProfileSet.load()),
        NativePartitions,
        QuarantineBound(config.quarantine.max_entries, config.quarantine.max_bytes),
        books.new_epochs_per_hour,
    )


async def serve(config: IngestConfig, stop: asyncio.Event) -> None:
    """Runs until told to stop. Raises SchemaError where the database needs a migration first."""
    writer = writer_options(config)
    # Ready before the database is: waiting for it is this daemon's work, too, and systemd would otherwise end a start
    # that takes longer than TimeoutStartSec, again and again.
    notify("READY=1")
    ledger = await _await_database(writer, stop)
    if ledger is None:
        return
    counters = Counters()
    topics = config.mqtt.topics
    source = MqttSource(
        config.mqtt,
        ledger_id=ledger,
        worker=secrets.token_hex(4),
        receive_maximum=config.ingest.receive_maximum,
        share=config.ingest.share,
        clock_s=time.monotonic,
    )
    receipts = Receipts(source.publish, topics, ledger, counters)
    pipeline = Pipeline(
        source,
        writer,
        receipts,
        counters,
        group_batches=config.ingest.receive_maximum,
        retention_days=config.books.raw_retention_days,
        wall_us=wall_us,
        clock_s=time.monotonic,
    )
    liveness = Liveness(
        source,
        writer,
        receipts,
        counters,
        lost_after_s=config.books.lost_after_s,
        device_silence_s=config.books.device_silence_s,
        clock_s=time.monotonic,
    )
    jobs = Jobs(
        writer,
        wall_us,
        retention_days=config.books.raw_retention_days,
        keep_replayed_days=config.quarantine.keep_replayed_days,
    )
    jobs.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            session = tasks.create_task(source.run(), name="source")
            hearing = tasks.create_task(liveness.run(), name="liveness")
            health = tasks.create_task(report(config.ingest.health_file, source, counters), name="health")
            notify("STATUS=taking batches")
            # The line is drained from its source to its sink: the group under way is finished and answered,
            # then the session says goodbye.
            await pipeline.run(stop)
            for task in (hearing, health, session):
                task.cancel()
    finally:
        jobs.stop()


async def _await_database(writer: WriterOptions, stop: asyncio.Event) -> str | None:
    """The ledger's id, once the database can be reached and has our profiles; None if told to stop before."""
    backoff = FullJitter(0.5, 10.0)
    while not stop.is_set():
        try:
            connection = await connect(writer.dsn, "start", writer.statement_timeout_s)
            try:
                await require_current(connection)
                ledger = await ledger_id(connection)
                await publish(connection, ProfileSet.load())
                return ledger
            finally:
                await connection.close()
        except StorageUnavailable as error:
            log.warning("database: %s; trying again", error)
            notify("STATUS=waiting for the database")
            notify("WATCHDOG=1")
            await asyncio.sleep(backoff.next_s())
    return None
