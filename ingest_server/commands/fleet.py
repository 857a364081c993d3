"""`heal7-iot gateways`: who is there."""

from typing import Annotated

import typer

from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_rows
from ingest_server.storage.queries import fleet

gateways = typer.Typer(no_args_is_help=True, help="Gateways that this database has heard of.")


@gateways.command("list")
def list_gateways(dsn: Dsn, as_json: AsJson = False) -> None:
    """List gateways: state, last heartbeat, spool, devices.

    Example: heal7-iot gateways list --dsn 'dbname=heal7'
    """
    show_rows("gateways", on_database(dsn, fleet.list_gateways), as_json)


@gateways.command()
def resolve(name: Annotated[str, typer.Argument(help="<site>/<gateway>", show_default=False)], dsn: Dsn) -> None:
    """Lift the hold after two boxes spoke under one name, once one of them has another name.

    What was held stays in quarantine until it is replayed.

    Example: heal7-iot gateways resolve seoul-1/lobby --dsn 'dbname=heal7'
    """
    forgotten = on_database(dsn, lambda connection: fleet.resolve(connection, name))
    if forgotten is None:
        typer.echo(f"no gateway is called {name}; see `heal7-iot gateways list`", err=True)
        raise typer.Exit(EXIT_FAILED)
    typer.echo(f"{name}: the hold is lifted; `heal7-iot quarantine replay --reason identity_conflict` brings back data")
