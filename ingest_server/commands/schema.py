"""`heal7-iot db`: the schema."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.link.config_file import EXIT_CONFIG, ConfigError, load_toml
from ingest_server.commands import backup
from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, refuse, show_json, show_table
from ingest_server.config import IngestConfig, StorageOptions
from ingest_server.storage.connection import Connection
from ingest_server.storage.flavour import Wanted
from ingest_server.storage.inspection import Backups, Finding, rights
from ingest_server.storage.inspection import check as inspect
from ingest_server.storage.schema.migrations import Migration
from ingest_server.storage.schema.migrations import migrate as apply
from ingest_server.storage.schema.migrations import status as read_status

app = typer.Typer(no_args_is_help=True, help="The schema iot_service in the platform's database.")
backup.join(app)


@app.command()
def migrate(
    dsn: Dsn,
    to: Annotated[
        int | None,
        typer.Option("--to", help="The version to reach, also back from a later one.", show_default="newest"),
    ] = None,
    flavour: Annotated[
        Wanted, typer.Option(help="How readings are kept; decided once. auto: as TimescaleDB where it is there.")
    ] = Wanted.AUTO,
    yes: Annotated[bool, typer.Option("--yes", help="Take steps back without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the schema to what this version needs, or to another version. May be run at any time, by several at once.

    A step that fails leaves nothing of itself. Steps back keep every reading, and give up what came with the step:
    --to 2, for instance, zones, placements and rollups.

    Example: heal7-iot db migrate --dsn 'host=/run/postgresql dbname=heal7'
    """
    if to is not None and not yes:
        _confirm_steps_back(dsn, to)

    async def work(connection: Connection) -> tuple[list[Migration], Finding | None]:
        done = await apply(connection, to=to, wanted=flavour)
        return done, await rights(connection) if to is None else None

    done, found = on_database(dsn, work, current=False)
    back = {m.version for m in done if to is not None and m.version > to}
    if as_json:
        rows = [{"version": m.version, "name": m.name, "back": m.version in back} for m in done]
        show_json({"applied": [r for r in rows if not r["back"]], "taken_back": [r for r in rows if r["back"]]})
        return
    for step in done:
        typer.echo(f"{'took back' if step.version in back else 'applied'} {step.version:04d} {step.name}")
    if not done:
        typer.echo("no step was missing: the schema is current" if to is None else f"the schema is at {to} already")
    if found is not None and not found.ok:
        typer.echo(f"rights: {found.detail}", err=True)


def _confirm_steps_back(dsn: str, to: int) -> None:
    steps = on_database(dsn, read_status, current=False)
    beyond = [
        f"{s.migration.version:04d} {s.migration.name}" for s in steps if s.applied_at and s.migration.version > to
    ]
    if not beyond:
        return
    if not sys.stdin.isatty():
        typer.echo(f"this takes back {', '.join(reversed(beyond))}: say --yes if that is meant", err=True)
        raise typer.Exit(EXIT_CONFIG)
    typer.confirm(
        f"This takes back {', '.join(reversed(beyond))}, and what is stored by them but readings. Go on?", abort=True
    )


@app.command()
def status(dsn: Dsn, as_json: AsJson = False) -> None:
    """List migrations and when they were applied; exit 1 if one is missing.

    Example: heal7-iot db status --dsn 'host=/run/postgresql dbname=heal7'
    """
    steps = on_database(dsn, read_status, current=False)
    if as_json:
        show_json(
            [
                {
                    "version": s.migration.version,
                    "name": s.migration.name,
                    "flavour": s.migration.flavour,
                    "applied_at": s.applied_at,
                }
                for s in steps
            ]
        )
    else:
        rows = [
            (s.migration.version, s.migration.name, s.migration.flavour or "", s.applied_at or "missing") for s in steps
        ]
        show_table("migrations", ["version", "name", "flavour", "applied at"], rows)
    if any(s.applied_at is None for s in steps):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def check(
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", envvar="HEAL7_IOT_DSN", help="Database; else the one of --config.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The server's configuration (TOML): looks as its jobs do, also at backups.",
            show_default=False,
        ),
    ] = None,
    months_ahead: Annotated[
        int | None,
        typer.Option(min=0, help="As storage.months_ahead of the server.", show_default="one less than the server's"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what will hurt: drift, rights, room ahead, failed jobs, rollups behind, disk left, backups that cannot be
    verified, and what killed verifications left. Exit 1 if something does.

    Example: heal7-iot db check --config /etc/heal7-iot/ingest.toml || page-the-operator
    """
    loaded = None if config is None else _loaded(config)
    if dsn is None:
        if loaded is None:
            refuse("--dsn or --config: name the database, or the configuration of its server")
        dsn = loaded.jobs_dsn
    ahead = months_ahead
    if ahead is None:
        # A month that has just begun was the first of those ahead, until the job runs again.
        ahead = (StorageOptions() if loaded is None else loaded.storage).months_ahead - 1
    backups = None
    if loaded is not None and loaded.backups.folder is not None:
        backups = Backups(loaded.backups.folder, loaded.verify_dsn)
    found = on_database(dsn, lambda connection: inspect(connection, months_ahead=ahead, backups=backups))
    if as_json:
        show_json(found)
    else:
        rows = [(f.what, {True: "ok", False: "WRONG", None: "unknown"}[f.ok], f.detail) for f in found]
        show_table("database", ["what", "state", "detail"], rows)
    if any(f.ok is False for f in found):
        raise typer.Exit(EXIT_FAILED)


def _loaded(config: Path) -> IngestConfig:
    try:
        return load_toml(config, IngestConfig)
    except ConfigError as error:
        refuse(str(error))
