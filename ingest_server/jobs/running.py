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
    connection = await context.pools.background.open(patient=True)
    try:
        run_id = await job_runs.begin(connection, job.name, this_server())
        if run_id is None:
            return Outcome(None, "it runs already, elsewhere")
        try:
            outcome = Outcome(True, await job.work(context, connection))
        except StorageError as error:
            outcome = Outcome(False, str(error))
        except Exception as error:
            # A bug of ours: on record, and loud. What is cancelled leaves its run open: whoever runs it next says so.
            await _record(context, connection, job, run_id, Outcome(False, f"{type(error).__name__}: {error}"))
            raise
        await _record(context, connection, job, run_id, outcome)
        return outcome
    finally:
        await context.pools.background.close(connection)


async def _record(context: Context, connection: Connection, job: Job, run_id: int, outcome: Outcome) -> None:
    if not connection.closed:
        await job_runs.finish(connection, run_id, job.name, ok=outcome.ok is True, detail=outcome.detail)
        return
    # What broke the connection is to be told all the same.
    async with context.pools.background.connection() as another:
        await job_runs.finish(another, run_id, job.name, ok=outcome.ok is True, detail=outcome.detail)
