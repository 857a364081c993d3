"""`heal7-iot gateways` and `heal7-iot devices`: who is there."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.storage import fleet
from ingest_server.storage.connection import Connection

gateways = typer.Typer(no_args_is_help=True, help="Gateways that this database has heard of.")
devices = typer.Typer(no_args_is_help=True, help="Devices, registered when they are first heard.")


def _list(dsn: str, as_json: bool, title: str, read: Callable[[Connection], Awaitable[list[fleet.Row]]]) -> None:
    found = on_database(dsn, read)
    if as_json:
        show_json(found)
    elif found:
        show_table(title, list(found[0]), [list(row.values()) for row in found])
    else:
        typer.echo(f"no {title} yet")


@gateways.command("list")
def list_gateways(dsn: Dsn, as_json: AsJson = False) -> None:
    """List gateways: state, last heartbeat, spool, devices.

    Example: heal7-iot gateways list --dsn 'dbname=heal7'
    """
    _list(dsn, as_json, "gateways", fleet.list_gateways)


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


@devices.command("list")
def list_devices(dsn: Dsn, as_json: AsJson = False) -> None:
    """List devices: home gateway, status, model, firmware, battery.

    Example: heal7-iot devices list --dsn 'dbname=heal7' --json
    """
    _list(dsn, as_json, "devices", fleet.list_devices)
