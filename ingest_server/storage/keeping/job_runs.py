"""What became of each run of a job, and the lock that keeps a job from running twice at once."""

import zlib
from dataclasses import dataclass

from ingest_server.storage.connection import Connection, sql, transaction, translated

LEADER_LOCK = 0x48454104
"""Of a session: the one server whose clock starts jobs."""

_JOB_LOCKS = 0x48454105
# First of two numbers, for the locks of jobs; the second is made of the job's name.
_DETAIL = 500


@dataclass(frozen=True, slots=True)
class JobRun:
    """ok: None while it is under way. seconds: how long it took, or has taken so far."""

    job: str
    server: str
    started_at: str
    seconds: float
    ok: bool | None
    detail: str | None


async def lead(connection: Connection) -> bool:
    """Whether this session is, from now until it ends, the one whose clock starts jobs."""
    with translated():
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
        row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def begin(connection: Connection, job: str, server: str) -> int | None:
    """The number of a new run; None where the job runs already. Held by the session until `finish`, or its end."""
    with translated():
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_JOB_LOCKS, _number(job)))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return None
    async with transaction(connection):
        # Nobody runs it, so whoever is said to has died.
        await connection.execute(
            "UPDATE iot_service.job_runs SET finished_at = now(), ok = false, detail = 'its server stopped, or died'"
            " WHERE job = %s AND finished_at IS NULL",
            (job,),
        )
        cursor = await connection.execute(
            "INSERT INTO iot_service.job_runs (job, server) VALUES (%s, %s) RETURNING run_id", (job, server)
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def finish(connection: Connection, run_id: int, job: str, *, ok: bool, detail: str) -> None:
    """Says what came of a run, and lets the next one begin."""
    async with transaction(connection):
        await connection.execute(
            "UPDATE iot_service.job_runs SET finished_at = clock_timestamp(), ok = %s, detail = %s WHERE run_id = %s",
            (ok, detail[:_DETAIL], run_id),
        )
    with translated():
        await connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_JOB_LOCKS, _number(job)))


async def latest(connection: Connection) -> dict[str, JobRun]:
    """The newest run of each job."""
    with translated():
        cursor = await connection.execute(sql("keeping/latest_job_runs"))
        return {row[0]: JobRun(*row) for row in await cursor.fetchall()}


async def history(connection: Connection, job: str, limit: int) -> list[JobRun]:
    """The newest runs of a job, the newest first."""
    with translated():
        cursor = await connection.execute(sql("keeping/job_history"), {"job": job, "limit": limit})
        return [JobRun(*row) for row in await cursor.fetchall()]


async def prune(connection: Connection) -> int:
    """Forgets runs that nobody asks about any more, failed ones later; never the newest of a job."""
    async with transaction(connection):
        cursor = await connection.execute(sql("keeping/prune_job_runs"))
        return cursor.rowcount


def _number(job: str) -> int:
    unsigned = zlib.crc32(job.encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned
