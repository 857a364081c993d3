"""`heal7-iot sites` and `heal7-iot zones`: places, and by which calendar their days are counted."""

from typing import Annotated

import typer

from ingest_server.commands.database_option import AsJson, Dsn, on_database, refuse, show_rows
from ingest_server.storage.connection import Connection
from ingest_server.storage.queries import fleet
from ingest_server.storage.registry import places

sites = typer.Typer(no_args_is_help=True, help="Sites, and their time zones.")
zones = typer.Typer(no_args_is_help=True, help="Zones, made by `heal7-iot devices place`.")

_STATEMENT_TIMEOUT_S = 3_600.0
# A site's days of years are counted anew in one transaction.


@sites.command("list")
def list_sites(dsn: Dsn, as_json: AsJson = False) -> None:
    """List sites: time zone, number of zones and devices.

    Example: heal7-iot sites list --dsn 'dbname=heal7'
    """
    show_rows("sites", on_database(dsn, fleet.list_sites), as_json)


@sites.command("set")
def set_site(
    site: Annotated[str, typer.Argument(help="As in <site>/<gateway>.", show_default=False)],
    dsn: Dsn,
    time_zone: Annotated[str, typer.Option("--time-zone", help="By the IANA's name.", show_default=False)],
) -> None:
    """Say by which calendar a site's days are counted. Those that are stored are counted anew.

    Example: heal7-iot sites set seoul-1 --time-zone Asia/Seoul
    """

    if not site or not site.isprintable() or "/" in site:
        refuse(f"{site!r} is no site: it is the first part of what gateways are called, as in <site>/<gateway>")

    async def work(connection: Connection) -> tuple[bool, int]:
        # A site may be made ready before its first gateway speaks; a misspelt name looks the same.
        known = any(row["site"] == site for row in await fleet.list_sites(connection))
        return known, await places.set_time_zone(connection, site, time_zone)

    known, days = on_database(dsn, work, statement_timeout_s=_STATEMENT_TIMEOUT_S)
    stored = f"{days:,} days of series are stored by it" if known else "a site that nothing was heard of so far"
    typer.echo(f"{site}: days are those of {time_zone}; {stored}")


@zones.command("list")
def list_zones(dsn: Dsn, as_json: AsJson = False) -> None:
    """List zones: site, the id that the platform's tables use, devices that are there now.

    Example: heal7-iot zones list --dsn 'dbname=heal7'
    """
    show_rows("zones", on_database(dsn, fleet.list_zones), as_json)
