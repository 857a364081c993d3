"""`heal7-iot db`: the schema."""

import typer

from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.storage.migrations import migrate as apply
from ingest_server.storage.migrations import status as read_status

app = typer.Typer(no_args_is_help=True, help="The schema iot_service in the platform's database.")


@app.command()
def migrate(dsn: Dsn, as_json: AsJson = False) -> None:
    """Bring the schema to what this version needs. May be run at any time, by several at once.

    Example: heal7-iot db migrate --dsn 'host=/run/postgresql dbname=heal7'
    """
    done = on_database(dsn, apply, current=False)
    if as_json:
        show_json({"applied": [{"version": m.version, "name": m.name} for m in done]})
        return
    for step in done:
        typer.echo(f"applied {step.version:04d} {step.name}")
    if not done:
        typer.echo("nothing to do: the schema is current")


@app.command()
def status(dsn: Dsn, as_json: AsJson = False) -> None:
    """List migrations and when they were applied; exit 1 if one is missing.

    Example: heal7-iot db status --dsn 'host=/run/postgresql dbname=heal7'
    """
    steps = on_database(dsn, read_status, current=False)
    if as_json:
        show_json(
            [{"version": s.migration.version, "name": s.migration.name, "applied_at": s.applied_at} for s in steps]
        )
    else:
        rows = [(s.migration.version, s.migration.name, s.applied_at or "missing") for s in steps]
        show_table("migrations", ["version", "name", "applied at"], rows)
    if any(s.applied_at is None for s in steps):
        raise typer.Exit(EXIT_FAILED)
