"""`heal7-iot jobs`: what the server does by the clock."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.link.config_file import EXIT_CONFIG, ConfigError, load_toml
from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.config import IngestConfig, pools_of
from ingest_server.errors import StorageError
from ingest_server.jobs.context import Context
from ingest_server.jobs.running import Outcome
from ingest_server.jobs.running import run as run_job
from ingest_server.jobs.work import JOBS, Job
from ingest_server.storage.flavour import choose
from ingest_server.storage.keeping.job_runs import JobRun, history, latest
from ingest_server.storage.schema.migrations import require_current

app = typer.Typer(no_args_is_help=True, help="What the server does by the clock: partitions, rollups, retention, …")

_NAMES = {job.name: job for job in JOBS}


@app.command("list")
def list_jobs(
    dsn: Dsn,
    runs_of: Annotated[str | None, typer.Option("--runs-of", help="The last 20 runs of this job.")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs with their latest run; exit 1 if one of these failed.

    Example: heal7-iot jobs list --dsn 'dbname=heal7'
    """
    if runs_of is not None:
        _known(runs_of)
        runs = on_database(dsn, lambda connection: history(connection, runs_of, 20))
        _show(f"runs of {runs_of}", [(_state(run), run) for run in runs], as_json)
        return
    found = on_database(dsn, latest)
    rows = [(_state(found.get(job.name)), found.get(job.name) or _never(job)) for job in JOBS]
    _show("jobs", rows, as_json)
    if any(run.ok is False for run in found.values()):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="As `jobs list` has it.", show_default=False)],
    config: Annotated[Path, typer.Option("--config", help="The server's configuration (TOML).", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Run a job now, whoever leads; exit 1 if it fails or runs already.

    Example: heal7-iot jobs run rollups --config /etc/heal7-iot/ingest.toml
    """
    job = _known(name)
    try:
        loaded = load_toml(config, IngestConfig)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIG) from error
    try:
        outcome = asyncio.run(_run(job, loaded))
    except StorageError as error:
        typer.echo(f"database: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    if as_json:
        show_json({"job": name, "ok": outcome.ok, "detail": outcome.detail})
    else:
        typer.echo(f"{name}: {outcome.detail}", err=outcome.ok is not True)
    if outcome.ok is not True:
        raise typer.Exit(EXIT_FAILED)


async def _run(job: Job, config: IngestConfig) -> Outcome:
    pools = pools_of(config.database)
    try:
        async with pools.background.connection() as connection:
            await require_current(connection)
            flavour = await choose(connection, config.database.flavour)
        return await run_job(job, Context.of(config, pools, flavour))
    finally:
        await pools.end()


def _known(name: str) -> Job:
    if name not in _NAMES:
        typer.echo(f"no job is called {name}: {', '.join(_NAMES)}", err=True)
        raise typer.Exit(EXIT_CONFIG)
    return _NAMES[name]


def _never(job: Job) -> JobRun:
    return JobRun(job.name, "", "", 0.0, None, job.what)


def _state(run: JobRun | None) -> str:
    if run is None:
        return "never ran"
    return {True: "ok", False: "FAILED", None: "running"}[run.ok]


def _show(title: str, rows: list[tuple[str, JobRun]], as_json: bool) -> None:
    if as_json:
        show_json(
            [
                {
                    "job": run.job,
                    "state": state,
                    "started_at": run.started_at or None,
                    "seconds": round(run.seconds, 3),
                    "server": run.server or None,
                    "detail": run.detail,
                }
                for state, run in rows
            ]
        )
        return
    columns = ["job", "state", "last started", "seconds", "server", "detail"]
    show_table(
        title,
        columns,
        [(r.job, state, r.started_at[:19], round(r.seconds, 2), r.server, r.detail) for state, r in rows],
    )
