"""The clock that starts jobs, on the one server that leads."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ingest_server.errors import StorageError
from ingest_server.jobs.context import Context
from ingest_server.jobs.running import run
from ingest_server.jobs.work import JOBS, Job
from ingest_server.storage.connection import Connection, translated
from ingest_server.storage.keeping.job_runs import JobRun, latest, lead

log = logging.getLogger(__name__)

# It tells of every run at INFO; what our jobs have to say they say themselves.
logging.getLogger("apscheduler").setLevel(logging.WARNING)

_LOOK_EVERY_S = 5.0
_RETRY_FIRST_S = 15
_DAY_S = 86_400


class Schedule:
    """Leads where no other server does: several may run, one starts jobs. A job that failed is retried, ever later."""

    def __init__(self, context: Context, jobs: tuple[Job, ...] = JOBS, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._context = context
        self._jobs = jobs
        self._look_every_s = look_every_s
        self._leading: Connection | None = None
        self._failures: dict[str, int] = {}
        self._running: set[asyncio.Task[object]] = set()
        self._scheduler: AsyncIOScheduler | None = None

    async def run(self) -> None:
        """Until cancelled. The database's loss ends the leading, not this."""
        try:
            while True:
                try:
                    await self._look()
                except StorageError as error:
                    log.warning("jobs: %s; looking again", error)
                    await self._step_down()
                await asyncio.sleep(self._look_every_s)
        finally:
            await self._step_down()

    async def _look(self) -> None:
        """Takes the lead where it is free; notices where it is lost."""
        if self._leading is not None:
            with translated():
                await self._leading.execute("SELECT")
            return
        connection = await self._context.pools.background.open()
        try:
            leads = await lead(connection)
        except BaseException:
            await self._context.pools.background.close(connection)
            raise
        if not leads:
            await self._context.pools.background.close(connection)
            return
        self._leading = connection
        self._start({run.job: run for run in (await latest(connection)).values() if run.ok})

    async def _step_down(self) -> None:
        if self._scheduler is not None:
            # It cancels what runs: another server may lead already.
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._leading is not None:
            connection, self._leading = self._leading, None
            await self._context.pools.background.close(connection)

    def _start(self, last_good: dict[str, JobRun]) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        for job in self._jobs:
            every_s = job.every_s(self._context)
            # misfire_grace_time: a busy loop must delay a run, not skip it (the default gives up after one second).
            self._scheduler.add_job(
                self._run,
                "interval",
                args=[job],
                id=job.name,
                seconds=every_s,
                jitter=min(5, every_s // 2),
                next_run_time=_first(every_s, last_good.get(job.name)),
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
        self._scheduler.start()

    async def _run(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            outcome = await run(job, self._context)
        except StorageError as error:
            log.warning("job %s: %s; it is tried again in its turn", job.name, error)
            return
        except asyncio.CancelledError:
            # To the scheduler it would be an error, told by a traceback.
            return
        finally:
            self._running.discard(task)
        if outcome.ok is not False:
            self._failures.pop(job.name, None)
            return
        failures = self._failures[job.name] = self._failures.get(job.name, 0) + 1
        again_s = min(job.every_s(self._context), _RETRY_FIRST_S * 2 ** min(failures - 1, 12))
        log.error("job %s failed: %s; again in %d s", job.name, outcome.detail, again_s)
        if self._scheduler is not None and again_s < job.every_s(self._context):
            self._scheduler.add_job(
                self._run,
                "date",
                args=[job],
                id=f"{job.name} again",
                run_date=datetime.now(UTC) + timedelta(seconds=again_s),
                misfire_grace_time=None,
                replace_existing=True,
            )


def _first(every_s: int, last_good: JobRun | None) -> datetime:
    """When a job runs first: at once, for what was done before this server led is of another time; but in its turn
    where that is a day or more, or each restart would restore a backup to verify it."""
    now = datetime.now(UTC)
    if last_good is None or every_s < _DAY_S:
        return now
    return max(now, datetime.fromisoformat(last_good.started_at) + timedelta(seconds=every_s))
