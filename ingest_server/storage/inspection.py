"""What an operator wants to know before it hurts: drift, rights, room ahead, failed jobs, disk left, verification."""

from dataclasses import dataclass
from pathlib import Path

from ingest_server.errors import StorageError
from ingest_server.storage.backup import room, scratch
from ingest_server.storage.backup.folder import newest
from ingest_server.storage.backup.loading import open_backup
from ingest_server.storage.connection import Connection, connect, sql, translated
from ingest_server.storage.disk import disk_of_server
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.keeping import job_runs, timescaledb
from ingest_server.storage.keeping.rollups import backlog
from ingest_server.storage.schema import drift

_LEAST_DAYS = 30.0
_LEAST_SHARE = 0.10
_NAMED = 10
_VERIFY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """ok: None: it cannot be told."""

    what: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Backups:
    """What the job `backups` is to verify, and as whom."""

    folder: Path
    verify_dsn: str


async def check(connection: Connection, *, months_ahead: int, backups: Backups | None = None) -> list[Finding]:
    """Everything that can be told from here. Changes nothing."""
    flavour = await recorded(connection)
    found = [
        await _drift(connection),
        await rights(connection),
        await _ahead(connection, flavour, months_ahead),
        await _jobs(connection),
        await _log(connection),
        await _disk(connection),
    ]
    if flavour is Flavour.TIMESCALEDB:
        failed = await timescaledb.failed_jobs(connection)
        found.append(Finding("TimescaleDB's own jobs", not failed, "; ".join(failed) or "none failed within a day"))
    if backups is None:
        found.append(await _scratch(connection))
    else:
        found += await _verification(backups)
    return found


async def _drift(connection: Connection) -> Finding:
    changed = await drift.differences(connection)
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return Finding("drift", not changed, "; ".join(changed[:_NAMED]) + more or "as migrated")


async def rights(connection: Connection) -> Finding:
    """What the three roles, and whoever asks, could not do that they are for; None: roles are not there at all."""
    with translated():
        cursor = await connection.execute(sql("missing_rights"))
        rows = await cursor.fetchall()
        cursor = await connection.execute(sql("missing_roles"))
        absent = [str(row[0]) for row in await cursor.fetchall()]
        owner = await connection.execute(sql("is_owner"))
        row = await owner.fetchone()
    assert row is not None
    missing = [f"{role} lacks {right} on {relation}: {grant}" for role, right, relation, grant in rows]
    if not row[0]:
        missing.append(f"{row[1]} does not own the schema: archiving wants database.background.dsn of one that does")
    if missing:
        return Finding("rights", False, "; ".join(missing))
    if absent:
        make = "; ".join(f"CREATE ROLE {role}" for role in absent)
        return Finding("rights", None, f"{row[1]} owns the schema; roles to share it are not there: {make}; migrate")
    return Finding("rights", True, f"{row[1]} owns the schema, the roles have theirs")


async def _verification(backups: Backups) -> list[Finding]:
    try:
        connection = await connect(backups.verify_dsn, "command", _VERIFY_TIMEOUT_S)
    except StorageError as error:
        return [Finding("verification", False, f"backups.verify_dsn: {error}")]
    try:
        return [await _may_verify(connection, backups.folder), await _scratch(connection)]
    finally:
        await connection.close()


async def _may_verify(connection: Connection, folder: Path) -> Finding:
    try:
        await scratch.require_right(connection)
        backup = open_backup(newest(folder))
        await room.require_for_database(connection, backup.manifest)
    except StorageError as error:
        return Finding("verification", False, str(error))
    return Finding("verification", True, f"{connection.info.user} may make a database of {backup.path.name}")


async def _scratch(connection: Connection) -> Finding:
    found = await scratch.found(connection)
    left = [str(database) for database in found if not database.in_use]
    said = f"{', '.join(left)}: the next verification drops those that it made" if left else "nothing"
    return Finding("left by verifications", not left, said)


async def _ahead(connection: Connection, flavour: Flavour | None, months_ahead: int) -> Finding:
    if flavour is not Flavour.NATIVE:
        return Finding("room ahead", True, "chunks make themselves")
    with translated():
        cursor = await connection.execute(sql("months_ahead"))
        row = await cursor.fetchone()
    ahead = 0 if row is None else int(row[0])
    if not ahead and not await job_runs.latest(connection):
        return Finding("room ahead", None, "no server has made any yet")
    return Finding("room ahead", ahead >= months_ahead, f"{ahead} months of {months_ahead}")


async def _jobs(connection: Connection) -> Finding:
    runs = await job_runs.latest(connection)
    failed = [f"{run.job}: {run.detail}" for run in runs.values() if run.ok is False]
    if not runs:
        return Finding("jobs", None, "none has ever run here: no server has led yet")
    return Finding("jobs", not failed, "; ".join(failed) or f"{len(runs)} ran, none failed at its latest run")


async def _log(connection: Connection) -> Finding:
    waiting = await backlog(connection)
    # More than a day's worth at one entry a second: nobody refreshes.
    return Finding("rollups", waiting < 100_000, f"{waiting} entries of the log wait")


async def _disk(connection: Connection) -> Finding:
    with translated():
        cursor = await connection.execute(sql("growth"))
        row = await cursor.fetchone()
    assert row is not None
    size, per_day = row
    said = f"{size / 1e9:.2f} GB, {per_day / 1e9:.3f} GB more a day"
    disk = await disk_of_server(connection)
    if disk is None:
        return Finding("disk", None, f"{said}; what is left cannot be seen from here (another machine, or no right to)")
    days = disk.free / per_day if per_day > 0 else float("inf")
    ok = disk.free > _LEAST_SHARE * disk.total and days > _LEAST_DAYS
    lasts = f", enough for {days:,.0f} days" if per_day > 0 else ""
    return Finding("disk", ok, f"{said}; {disk.free / 1e9:.1f} GB of {disk.total / 1e9:.1f} GB are free{lasts}")
