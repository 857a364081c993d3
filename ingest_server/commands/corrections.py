"""`heal7-iot corrections`: every rule for what readings mean, of whichever kind."""

from typing import Annotated

import typer

from ingest_server.commands.calibrations import By, Why, Yes, signed_by, withdraw
from ingest_server.commands.database_option import AsJson, Dsn, on_database, show_json
from ingest_server.commands.device_argument import split
from ingest_server.commands.following import (
    STATEMENT_TIMEOUT_S,
    UNFINISHED,
    Profiles,
    follow,
    load_profiles,
    show_corrections,
)
from ingest_server.storage.connection import Connection
from ingest_server.storage.correction import entries

app = typer.Typer(no_args_is_help=True, help="Calibrations and decoders: what readings mean instead of what arrived.")


@app.command("list")
def list_corrections(
    dsn: Dsn,
    device: Annotated[
        str | None, typer.Option("--device", metavar="SITE/DEVICE", help="Only of this one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List calibrations, decoders and withdrawals, the newest first, with who, why, and readings written anew.

    Example: heal7-iot corrections list --dsn 'dbname=heal7' --json
    """
    chosen = None if device is None else split(device)
    found = on_database(dsn, lambda connection: entries.listed(connection, chosen))
    if as_json:
        show_json(found)
    else:
        show_corrections(found)


@app.command("withdraw")
def withdraw_correction(
    number: Annotated[int, typer.Argument(help="As `corrections list` shows it.", show_default=False)],
    dsn: Dsn,
    why: Why,
    by: By = None,
    own_profiles: Profiles = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw a rule: readings are what the others make of them, or as they arrived. It stays in the list.

    Example: heal7-iot corrections withdraw 7 --why 'firmware 1.4 was right after all'
    """
    withdraw(dsn, number, None, signed_by(by, why), load_profiles(own_profiles), yes=yes, as_json=as_json)


@app.command()
def resume(dsn: Dsn, own_profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Finish corrections that were interrupted, now rather than by the server's job.

    Example: heal7-iot corrections resume --dsn 'dbname=heal7'
    """

    profiles = load_profiles(own_profiles)

    async def work(connection: Connection) -> tuple[int, int]:
        left = await entries.unfinished(connection)
        return len(left), await follow(connection, left, profiles, show_progress=not as_json)

    finished, readings = on_database(dsn, work, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted=UNFINISHED)
    if as_json:
        show_json({"corrections": finished, "readings": readings})
    elif finished:
        typer.echo(f"finished: {finished:,}, with {readings:,} readings")
    else:
        typer.echo("nothing was left to do")
