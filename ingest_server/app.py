"""The ingest server put together: one TaskGroup, named tasks."""

import asyncio
import logging
import secrets
import time

from firmware_profiles.selection import ProfileSet
from gateway.daemon import notify
from gateway.link.backoff import FullJitter
from ingest_server.config import BooksOptions, IngestConfig, pools_of
from ingest_server.counters import Counters
from ingest_server.errors import StorageUnavailable
from ingest_server.health import report
from ingest_server.jobs.context import Context
from ingest_server.jobs.schedule import Schedule
from ingest_server.liveness import Liveness
from ingest_server.pipeline import Pipeline
from ingest_server.raw_frames import decode_by
from ingest_server.receipts import Receipts
from ingest_server.source import MqttSource
from ingest_server.storage.flavour import Flavour, choose
from ingest_server.storage.keeping.timescaledb import require_direct_compress
from ingest_server.storage.line.catalogue import CatalogueLimits, Describe
from ingest_server.storage.line.ledger import ledger_id
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.line.writer import WriterOptions
from ingest_server.storage.pools import Pool, Pools
from ingest_server.storage.registry.profiles import publish
from ingest_server.storage.schema.migrations import require_current

log = logging.getLogger(__name__)


def wall_us() -> int:
    """The server's clock, Unix µs."""
    return time.time_ns() // 1000


def describe_from(profiles: ProfileSet) -> Describe:
    """From a profile's name to manufacturer and model, as far as this server knows the profile."""
    known = {p.name: (p.manufacturer, p.models[0]) for p in (*profiles, *profiles.superseded)}
    return lambda name: known.get(name, (None, None))


def catalogue_limits(books: BooksOptions) -> CatalogueLimits:
    """What a gateway may bring."""
    return CatalogueLimits(books.new_devices_per_hour, books.new_series_per_hour, books.handover_silence_s)


def writer_options(config: IngestConfig, pool: Pool) -> WriterOptions:
    """How this configuration writes."""
    books, profiles = config.books, config.profiles.load()
    return WriterOptions(
        pool,
        catalogue_limits(books),
        describe_from(profiles),
        QuarantineBound(config.quarantine.max_entries, config.quarantine.max_bytes),
        books.new_epochs_per_hour,
        config.storage.timescaledb.direct_compress,
        decode_by(profiles),
        config.storage.raw_frames_days > 0,
    )


async def serve(config: IngestConfig, stop: asyncio.Event) -> None:
    """Runs until told to stop. Raises SchemaError where the database needs a migration first."""
    pools = pools_of(config.database)
    try:
        await _serve(config, pools, stop)
    finally:
        await pools.end()


async def _serve(config: IngestConfig, pools: Pools, stop: asyncio.Event) -> None:
    writer = writer_options(config, pools.write)
    # Ready before the database is: waiting for it is this daemon's work, too, and systemd would otherwise end a start
    # that takes longer than TimeoutStartSec, again and again.
    notify("READY=1")
    found = await _await_database(config, pools, stop)
    if found is None:
        return
    ledger, flavour = found
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
        gather_s=config.ingest.gather_ms / 1000,
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
    schedule = Schedule(Context.of(config, pools, flavour))
    async with asyncio.TaskGroup() as tasks:
        session = tasks.create_task(source.run(), name="source")
        hearing = tasks.create_task(liveness.run(), name="liveness")
        health = tasks.create_task(report(config.ingest.health_file, source, counters, pools.read), name="health")
        jobs = tasks.create_task(schedule.run(), name="jobs")
        notify("STATUS=taking batches")
        # The line is drained from its source to its sink: the group under way is finished and answered,
        # then the session says goodbye.
        await pipeline.run(stop)
        for task in (jobs, hearing, health, session):
            task.cancel()


async def _await_database(config: IngestConfig, pools: Pools, stop: asyncio.Event) -> tuple[str, Flavour] | None:
    """Its ledger's id and flavour, once it can be reached and has our profiles; None if told to stop before."""
    backoff = FullJitter(0.5, 10.0)
    while not stop.is_set():
        try:
            async with pools.write.connection() as connection:
                await require_current(connection)
                flavour = await choose(connection, config.database.flavour)
                if config.storage.timescaledb.direct_compress:
                    await require_direct_compress(connection)
                ledger = await ledger_id(connection)
                await publish(connection, config.profiles.load())
                return ledger, flavour
        except StorageUnavailable as error:
            log.warning("database: %s; trying again", error)
            notify("STATUS=waiting for the database")
            notify("WATCHDOG=1")
            await asyncio.sleep(backoff.next_s())
    return None
