"""One run of a job: never two at once, and its outcome on record."""

import os
import socket
from dataclasses import dataclass

from ingest_server.errors import StorageError
from ingest_server.jobs.context import Context
from ingest_server.jobs.work import Job
from ingest_server.storage.connection import Connection
from ingest_server.storage.keeping import job_runs


@dataclass(frozen=True, slots=True)
class Outcome:
    """ok: None: it runs elsewhere, and was not begun."""

    ok: bool | None
    detail: str


def this_server() -> str:
    """Which process is meant, as operators look for it."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def run(job: Job, context: Context) -> Outcome:
    """Runs it, unless it runs already. Raises StorageError only where not even that can be recorded."""
    pool = context.pools.background
    connection = await pool.open(patient=True)
    try:
        run_id = await job_runs.begin(connection, job.name, this_server())
        if run_id is None:
            return Outcome(None, "it runs already, elsewhere")
        outcome, bug = await _outcome(job, context, connection)
        # What broke the connection is to be told all the same.
        broken = connection.closed
        if not broken:
            await _record(connection, job, run_id, outcome)
    finally:
        # Before another is asked for: this one may be the last that the pool gives.
        await pool.close(connection)
    if broken:
        async with pool.connection() as another:
            await _record(another, job, run_id, outcome)
    if bug is not None:
        raise bug
    return outcome


async def _outcome(job: Job, context: Context, connection: Connection) -> tuple[Outcome, Exception | None]:
    """What is cancelled leaves its run open: whoever runs it next says so."""
    try:
        return Outcome(True, await job.work(context, connection)), None
    except StorageError as error:
        return Outcome(False, str(error)), None
    except Exception as error:  # noqa: BLE001 -- the caller raises it, when it is on record
        return Outcome(False, f"{type(error).__name__}: {error}"), error


async def _record(connection: Connection, job: Job, run_id: int, outcome: Outcome) -> None:
    await job_runs.finish(connection, run_id, job.name, ok=outcome.ok is True, detail=outcome.detail)
