"""The jobs themselves, each with how often it runs. To add one: write its function, name it in JOBS."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest_server.errors import BatchRejected, StorageUnavailable
from ingest_server.jobs.context import Context
from ingest_server.raw_frames import decode_by
from ingest_server.storage.backup.folder import newest
from ingest_server.storage.backup.loading import open_backup
from ingest_server.storage.backup.progress import Unwatched
from ingest_server.storage.backup.verifying import verify_backup
from ingest_server.storage.connection import Connection
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.erasure import erasing
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.frames import keeping
from ingest_server.storage.keeping import job_runs, months, patterns, statistics, timescaledb
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.ledger import prune_ledger
from ingest_server.storage.line.liveness import mark_silent, prune_instances
from ingest_server.storage.line.partitions import Month, NativePartitions
from ingest_server.storage.quarantine.entries import prune_replayed

log = logging.getLogger(__name__)

_NAMED = 10
_INSTANCES_DAYS = 1.0
# A process that was silent for longer and speaks again is a new one to us: two that share a name show all the same.
_HOUR_S, _DAY_S = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """work: on a connection of the background pool; says what it did. every_s: seconds from run to run."""

    name: str
    what: str
    every_s: Callable[[Context], int]
    work: Callable[[Context, Connection], Awaitable[str]]


async def _partitions(context: Context, connection: Connection) -> str:
    if context.flavour is Flavour.TIMESCALEDB:
        options = timescaledb.TimescaleOptions(
            chunk_days=context.config.storage.timescaledb.chunk_days,
            columnstore_after_days=context.config.storage.timescaledb.columnstore_after_days,
            keep_days=_days(context.config.storage.keep_months + context.config.storage.archive_months),
        )
        changed = await timescaledb.apply_policies(connection, options)
        return f"changed {', '.join(changed)}" if changed else "policies are as configured"
    await NativePartitions().make_ahead(connection, context.wall_us(), context.config.storage.months_ahead)
    return f"{context.config.storage.months_ahead} months ahead"


async def _rollups(context: Context, connection: Connection) -> str:
    return f"{await refresh_all(connection)} entries of the log"


async def _patterns(context: Context, connection: Connection) -> str:
    now = datetime.fromtimestamp(context.wall_us() / 1e6, UTC)
    return f"{await patterns.derive(connection, context.config.patterns.slots, now)} days"


async def _archive(context: Context, connection: Connection) -> str:
    first_kept = months.before(Month.of(context.wall_us()), context.config.storage.keep_months)
    if context.flavour is Flavour.TIMESCALEDB:
        return "TimescaleDB keeps what is old in its columnstore"
    return _named("archived", await months.archive(connection, first_kept))


async def _retention(context: Context, connection: Connection) -> str:
    kept = context.config.storage.keep_months + context.config.storage.archive_months
    # Also where TimescaleDB keeps what is old: a restored backup or a change of the flavour brought these months there.
    dropped = _named("dropped", await months.drop(connection, months.before(Month.of(context.wall_us()), kept)))
    if context.flavour is Flavour.TIMESCALEDB:
        begins = await timescaledb.advance_horizon(connection, context.wall_us(), _days(kept))
        return f"nothing before {begins} is refreshed any more; chunks go by TimescaleDB's own policy; {dropped}"
    return dropped


async def _erasures(_context: Context, connection: Connection) -> str:
    worked_off: list[int] = []
    removed = [await erasing.carry_out(connection, e, worked_off.append) for e in await erasing.unfinished(connection)]
    return f"{len(removed)} finished, {sum(removed)} readings removed, {sum(worked_off)} entries of rollups worked off"


async def _corrections(context: Context, connection: Connection) -> str:
    worked_off: list[int] = []
    decode = decode_by(context.config.profiles.load())
    finished = written = 0
    refused: list[str] = []
    for number in await entries.unfinished(connection):
        try:
            written += await carry_out(connection, number, decode, None, worked_off.append)
        except BatchRejected as error:
            # One that the database will not take must not hold up those behind it, in this run and in each to come.
            refused.append(f"correction {number}: {error}")
        else:
            finished += 1
    told = f"{finished} finished, {written} readings written anew"
    if refused:
        raise BatchRejected("; ".join([*refused, told]))
    return told


async def _statistics(context: Context, connection: Connection) -> str:
    await statistics.analyze(connection)
    if context.flavour is Flavour.TIMESCALEDB:
        failed = await timescaledb.failed_jobs(connection)
        if failed:
            raise StorageUnavailable(f"TimescaleDB's own jobs failed: {'; '.join(failed)}")
    return "analyzed"


async def _silence(_context: Context, connection: Connection) -> str:
    names = sorted(await mark_silent(connection))
    if names:
        # One line: a broker that was away for long silences a whole fleet at once.
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        log.error("fell silent (no heartbeat, no last will): %s%s", ", ".join(names[:_NAMED]), more)
    return f"{len(names)} fell silent"


async def _pruning(context: Context, connection: Connection) -> str:
    replayed = await prune_replayed(connection, context.config.quarantine.keep_replayed_days)
    epochs = await prune_ledger(connection, context.config.books.raw_retention_days)
    instances = await prune_instances(connection, _INSTANCES_DAYS)
    runs = await job_runs.prune(connection)
    frames = await keeping.prune(connection, context.config.storage.raw_frames_days)
    return f"{replayed} replayed entries, {epochs} epochs, {instances} instances, {runs} runs of jobs, {frames} frames"


async def _backups(context: Context, _connection: Connection) -> str:
    wanted = context.config.backups
    if wanted.folder is None:
        return "no folder is configured: backups.folder"
    path = await asyncio.to_thread(newest, wanted.folder)
    made_us = datetime.fromisoformat(open_backup(path).manifest.made_at).timestamp() * 1e6
    age_h = (context.wall_us() - made_us) / 3.6e9
    if age_h > wanted.newest_within_h:
        raise StorageUnavailable(f"{path} is the newest, {age_h:.0f} h old: does `heal7-iot db backup` still run?")
    verified = await verify_backup(path, context.config.verify_dsn, Unwatched())
    killed = "".join(
        f"; {did}: {', '.join(map(str, databases))}"
        for did, databases in (
            ("dropped what a killed verification had left", verified.dropped),
            ("looks like what a killed verification left", verified.left_behind),
        )
        if databases
    )
    if not verified.sound:
        raise StorageUnavailable(f"{path}: {'; '.join(d for c in verified.comparisons for d in c.differs)}{killed}")
    return f"{path} is whole: restored, and compared{killed}"


def _verify_every_s(context: Context) -> int:
    return context.config.backups.verify_every_days * _DAY_S


JOBS = (
    Job(
        "partitions",
        "room for readings ahead; TimescaleDB's policies",
        lambda _: 6 * _HOUR_S,
        _partitions,
    ),
    Job("rollups", "averages of minute, hour and day", lambda context: context.config.storage.rollup_every_s, _rollups),
    Job("silence", "gateways that fell silent", lambda _: 30, _silence),
    Job("erasures", "erasures that were cut off", lambda _: 600, _erasures),
    Job("corrections", "corrections that were cut off", lambda _: 600, _corrections),
    Job("patterns", "how zones are used, of days that changed", lambda _: 600, _patterns),
    Job("archive", "months past keep_months, to the schema archive", lambda _: _DAY_S, _archive),
    Job("retention", "months past archive_months, dropped", lambda _: _DAY_S, _retention),
    Job("backups", "the newest backup, restored and compared", _verify_every_s, _backups),
    Job("statistics", "planner's statistics; TimescaleDB's own failed jobs", lambda _: 6 * _HOUR_S, _statistics),
    Job("pruning", "replayed quarantine, settled epochs, raw frames, old runs of jobs", lambda _: _HOUR_S, _pruning),
)


def _days(months: int) -> int:
    return months * 365 // 12


def _named(did: str, found: list[Month]) -> str:
    return f"{did} {', '.join(f'{m.year}-{m.month:02d}' for m in found) or 'nothing'}"
