"""What the server does by the clock, whether or not anything arrives."""

import logging
from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest_server.errors import StorageError
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.ledger import prune_ledger
from ingest_server.storage.liveness import mark_silent, prune_instances
from ingest_server.storage.quarantine import prune_replayed
from ingest_server.storage.writer import WriterOptions

log = logging.getLogger(__name__)

# It tells of every run at INFO; what our jobs have to say they say themselves.
logging.getLogger("apscheduler").setLevel(logging.WARNING)

_SILENCE_EVERY_S = 30
_AHEAD_EVERY_H = 6
_PRUNE_EVERY_H = 1

_NAMED = 10
_INSTANCES_DAYS = 1.0
# A process that was silent for longer and speaks again is a new one to us: two that share a name show all the same.


class Jobs:
    """Each job opens a connection of its own and closes it: none holds one all day, none blocks the line."""

    def __init__(
        self, writer: WriterOptions, wall_us: Callable[[], int], *, retention_days: float, keep_replayed_days: float
    ) -> None:
        self._options = writer
        self._wall_us = wall_us
        self._retention_days = retention_days
        self._keep_replayed_days = keep_replayed_days
        self._scheduler = AsyncIOScheduler(timezone="UTC")

    def start(self) -> None:
        """Begins; the partitions at once, for the first COPY of a month should not have to make them."""
        self._add(self._make_partitions, "partitions ahead", hours=_AHEAD_EVERY_H)
        self._add(self._mark_silent, "silent gateways", seconds=_SILENCE_EVERY_S)
        self._add(self._prune, "pruning", hours=_PRUNE_EVERY_H)
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def _add(self, job: Callable[[Connection], Awaitable[None]], name: str, **interval: int) -> None:
        async def run() -> None:
            try:
                connection = await connect(self._options.dsn, "jobs", self._options.statement_timeout_s)
                try:
                    await job(connection)
                finally:
                    await connection.close()
            except StorageError as error:
                log.warning("job %s: %s; it is tried again in its turn", name, error)

        # misfire_grace_time: a busy loop must delay a run, not skip it (the default gives up after one second).
        self._scheduler.add_job(
            run, "interval", id=name, max_instances=1, coalesce=True, misfire_grace_time=None, jitter=5, **interval
        )
        self._scheduler.add_job(run, id=f"{name} at start")

    async def _make_partitions(self, connection: Connection) -> None:
        await self._options.partitions().make_ahead(connection, self._wall_us())

    async def _mark_silent(self, connection: Connection) -> None:
        names = sorted(await mark_silent(connection))
        if names:
            # One line: a broker that was away for long silences a whole fleet at once.
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            log.error("fell silent (no heartbeat, no last will): %s%s", ", ".join(names[:_NAMED]), more)

    async def _prune(self, connection: Connection) -> None:
        entries = await prune_replayed(connection, self._keep_replayed_days)
        epochs = await prune_ledger(connection, self._retention_days)
        instances = await prune_instances(connection, _INSTANCES_DAYS)
        if entries or epochs or instances:
            log.info("pruned %d replayed entries, %d epochs, %d instances", entries, epochs, instances)
