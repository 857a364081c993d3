"""`heal7-iot devices`: which there are, where they hang, and which took another's place."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest_server.commands.database_option import AsJson, Dsn, on_database, refuse, show_rows
from ingest_server.commands.device_argument import split
from ingest_server.commands.moments import clock_of, parsed, past, shown
from ingest_server.storage.connection import Connection
from ingest_server.storage.queries import fleet
from ingest_server.storage.registry import places

app = typer.Typer(no_args_is_help=True, help="Devices, registered when they are first heard.")

_Device = Annotated[str, typer.Argument(metavar="SITE/DEVICE", help="As `list` shows them.", show_default=False)]


@app.command("list")
def list_devices(dsn: Dsn, as_json: AsJson = False) -> None:
    """List devices: zone, home gateway, status, model, firmware, battery, whom it replaces.

    Example: heal7-iot devices list --dsn 'dbname=heal7' --json
    """
    show_rows("devices", on_database(dsn, fleet.list_devices), as_json)


@app.command()
def place(
    device: _Device,
    dsn: Dsn,
    zone: Annotated[str | None, typer.Argument(help="A zone of its site; made where it is new.")] = None,
    position: Annotated[str | None, typer.Option("--position", help="Where in the zone: wall, door, …")] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Since when, by the site's clock; none: now.")
    ] = None,
    away: Annotated[bool, typer.Option("--away", help="It was taken away: it is in no zone.")] = False,
) -> None:
    """Say in which zone a device is since when. What it measured before stays with the zone where it was then.

    Example: heal7-iot devices place seoul-1/hall-air hall --position 'north wall' --from 2026-11-02T09:30
    """
    site, name = split(device)
    if away and (zone is not None or position is not None):
        refuse("--away says that it is in no zone: leave ZONE and --position out")
    if not away and not (zone or "").strip():
        refuse(f"where is {device}? Name a zone, or say --away")
    at = parsed("--from", since)

    async def work(connection: Connection) -> tuple[str, bool]:
        # First: what fails after the placement would look as if nothing had been placed.
        clock = await clock_of(connection, site)
        moment = await past(connection, "--from", site, at) or datetime.now(UTC)
        known = any((row["site"], row["zone"]) == (site, zone) for row in await fleet.list_zones(connection))
        await places.place(connection, site, name, zone, position, moment)
        return shown(moment, clock), known

    moment, known = on_database(dsn, work)
    where = "in no zone" if zone is None else f"in {zone}" + ("" if known else f", a new zone of {site},")
    typer.echo(f"{device} is {where} since {moment}")


@app.command()
def replace(
    device: _Device,
    new: Annotated[str, typer.Argument(help="The device that took its place, of the same site.", show_default=False)],
    dsn: Dsn,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When, by the site's clock; none: now.")
    ] = None,
) -> None:
    """Say that a device was replaced: the new one goes on with its history, and hangs where it hung.

    Example: heal7-iot devices replace seoul-1/hall-air hall-air-2 --at 2026-11-02T09:30
    """
    site, old = split(device)
    new = new.removeprefix(f"{site}/")
    moment_of = parsed("--at", at)

    async def work(connection: Connection) -> str:
        clock = await clock_of(connection, site)
        moment = await past(connection, "--at", site, moment_of) or datetime.now(UTC)
        await places.replace(connection, site, old, new, moment)
        return shown(moment, clock)

    moment = on_database(dsn, work)
    typer.echo(f"{site}/{new} goes on with the history of {device} since {moment}")
