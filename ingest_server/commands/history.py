"""`heal7-iot history`: what was measured, as backend services ask for it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from device_drivers.reading import Causes
from ingest_server.commands.database_option import AsJson, Dsn, on_database, refuse, show_json, show_table
from ingest_server.commands.moments import clock_of, of_our_time, parsed, shown
from ingest_server.storage.connection import Connection
from ingest_server.storage.queries import history

app = typer.Typer(no_args_is_help=True, help="What was measured: latest values, a device's and a zone's history.")

DeviceName = Annotated[str, typer.Argument(metavar="SITE/DEVICE", show_default=False)]
From = Annotated[
    str | None, typer.Option("--from", help="ISO 8601, such as 2026-11-21T09:00; without offset by the site's clock.")
]
To = Annotated[str | None, typer.Option("--to", help="As --from; itself not included.", show_default="now")]
ReadingType = Annotated[str | None, typer.Option("--type", help="One quantity only, such as temperature.")]
Most = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="About so many readings, the oldest first.")]

_COLUMNS_UNSEEN = frozenset({"series_id", "device_id"})
_COLUMNS_CALLED = {"reliability_score": "reliability", "reading_type": "type", "reading_count": "readings"}
# Of a table for a person, which is to fit a terminal; programs get all of them, by their names in SQL.


@app.command()
def latest(
    name: Annotated[str, typer.Argument(metavar="SITE[/DEVICE]", show_default=False)], dsn: Dsn, as_json: AsJson = False
) -> None:
    """Show the last reading of each series of a device, or of all devices of a site.

    Example: heal7-iot history latest seoul-1/lobby-air --dsn 'dbname=heal7'
    """
    site, _, device = name.partition("/")

    async def work(connection: Connection) -> tuple[list[history.Latest], ZoneInfo]:
        if not device:
            await history.require_site(connection, site)
            return await history.latest_of_site(connection, site), await clock_of(connection, site)
        device_id = await history.device_named(connection, site, device)
        return await history.latest_of_device(connection, device_id), await clock_of(connection, site)

    found, zone = on_database(dsn, work)
    _show(f"latest of {name}", found, zone, as_json)


@app.command()
def raw(
    name: DeviceName,
    dsn: Dsn,
    begin: From = None,
    end: To = None,
    reading_type: ReadingType = None,
    most: Most = 1_000,
    as_json: AsJson = False,
) -> None:
    """Show a device's readings, its predecessors' with them; without --from those of the last 24 hours.

    With --json `next_from` is the --from with which what is left begins; null: nothing is left.

    Example: heal7-iot history raw seoul-1/lobby-air --from 2026-11-21T09:00 --to 2026-11-21T10:00 --dsn 'dbname=heal7'
    """
    site, device = _parts(name, "DEVICE")
    interval = _Interval(begin, end, timedelta(days=1))

    async def work(connection: Connection) -> tuple[history.Page, ZoneInfo]:
        device_id = await history.device_named(connection, site, device)
        zone = await clock_of(connection, site)
        times = interval.within(zone)
        return await history.raw_of_device(connection, device_id, *times, reading_type=reading_type, most=most), zone

    _show_page(f"readings of {name}", *on_database(dsn, work), as_json)


@app.command()
def hours(
    name: DeviceName,
    dsn: Dsn,
    begin: From = None,
    end: To = None,
    reading_type: ReadingType = None,
    as_json: AsJson = False,
) -> None:
    """Show a device's averages by hour, its predecessors' with them; without --from those of the last 7 days.

    Example: heal7-iot history hours seoul-1/lobby-air --from 2026-11-01 --type co2 --dsn 'dbname=heal7'
    """
    site, device = _parts(name, "DEVICE")
    interval = _Interval(begin, end, timedelta(days=7))

    async def work(connection: Connection) -> tuple[list[history.Hour], ZoneInfo]:
        device_id = await history.device_named(connection, site, device)
        zone = await clock_of(connection, site)
        return await history.hours_of_device(
            connection, device_id, *interval.within(zone), reading_type=reading_type
        ), zone

    found, zone = on_database(dsn, work)
    _show(f"hours of {name}", found, zone, as_json)


@app.command()
def days(
    name: DeviceName,
    dsn: Dsn,
    begin: Annotated[str | None, typer.Option("--from", help="A day, such as 2026-11-01.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="A day, itself included.", show_default="today")] = None,
    reading_type: ReadingType = None,
    as_json: AsJson = False,
) -> None:
    """Show a device's days, by the calendar of its site; without --from the last 30.

    Example: heal7-iot history days seoul-1/lobby-air --from 2026-11-01 --dsn 'dbname=heal7'
    """
    site, device = _parts(name, "DEVICE")
    first, last = _day("--from", begin), _day("--to", end)
    if first is not None and last is not None and first > last:
        refuse(f"--to: {last} is before --from {first}")

    async def work(connection: Connection) -> tuple[list[history.Day], ZoneInfo]:
        device_id = await history.device_named(connection, site, device)
        zone = await clock_of(connection, site)
        until = last or datetime.now(zone).date()
        since = first or until - timedelta(days=29)
        return await history.days_of_device(connection, device_id, since, until, reading_type=reading_type), zone

    found, zone = on_database(dsn, work)
    _show(f"days of {name}", found, zone, as_json)


@app.command()
def zone(
    name: Annotated[str, typer.Argument(metavar="SITE/ZONE", show_default=False)],
    dsn: Dsn,
    day: Annotated[
        str | None, typer.Option("--date", help="By the site's calendar.", show_default="today, or --from … --to")
    ] = None,
    begin: From = None,
    end: To = None,
    each: Annotated[bool, typer.Option("--raw", help="Each reading, instead of averages by hour.")] = False,
    reading_type: ReadingType = None,
    most: Most = 1_000,
    as_json: AsJson = False,
) -> None:
    """Show what was measured in a zone, by whatever hung there at the time.

    Example: heal7-iot history zone seoul-1/lobby --date 2026-11-21 --dsn 'dbname=heal7'
    """
    site, of_site = _parts(name, "ZONE")
    wanted = _day("--date", day)
    if wanted is not None and (begin, end) != (None, None):
        refuse("--date: is a day; leave --from and --to out, or the day")
    interval = None if (begin, end) == (None, None) else _Interval(begin, end, timedelta(days=1))

    async def work(connection: Connection) -> tuple[list[history.ZoneHour] | history.Page, ZoneInfo]:
        location_id = await history.zone_named(connection, site, of_site)
        clock = await clock_of(connection, site)
        times = _midnights(wanted, clock) if interval is None else interval.within(clock)
        if each:
            found = await history.raw_of_zone(connection, location_id, *times, reading_type=reading_type, most=most)
            return found, clock
        return await history.hours_of_zone(connection, location_id, *times, reading_type=reading_type), clock

    found, clock = on_database(dsn, work)
    if isinstance(found, history.Page):
        _show_page(f"readings in {name}", found, clock, as_json)
    else:
        _show(f"hours in {name}", found, clock, as_json)


class _Interval:
    """[from, to) as the command line has it; what it does not say is now, and so long before."""

    def __init__(self, begin: str | None, end: str | None, length: timedelta) -> None:
        self._begin = parsed("--from", begin)
        self._end = parsed("--to", end)
        self._length = length

    def within(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """By the clock of this zone, where an offset was not given; exit 2 where nothing lies between."""
        end = datetime.now(UTC) if self._end is None else _placed(self._end, zone)
        begin = end - self._length if self._begin is None else _placed(self._begin, zone)
        if begin >= end:
            refuse(f"--from {shown(begin, zone)} is not before --to {shown(end, zone)}")
        return begin, end


def _placed(at: datetime, zone: ZoneInfo) -> datetime:
    # In UTC: differences of two times in one zone would be those of its clocks.
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)


def _midnights(day: date | None, zone: ZoneInfo) -> tuple[datetime, datetime]:
    wanted = datetime.now(zone).date() if day is None else day
    begin, end = (datetime(d.year, d.month, d.day) for d in (wanted, wanted + timedelta(days=1)))  # noqa: DTZ001
    return _placed(begin, zone), _placed(end, zone)


def _day(option: str, text: str | None) -> date | None:
    try:
        return None if text is None else of_our_time(option, date.fromisoformat(text))
    except ValueError:
        refuse(f"{option}: {text!r} is no day: write e.g. 2026-11-21")


def _parts(name: str, what: str) -> tuple[str, str]:
    site, slash, rest = name.partition("/")
    if not (site and slash and rest):
        refuse(f"{name!r} is wrong: write SITE/{what}, such as seoul-1/{'lobby-air' if what == 'DEVICE' else 'lobby'}")
    return site, rest


def _show_page(title: str, page: history.Page, zone: ZoneInfo, as_json: bool) -> None:
    if as_json:
        show_json({"readings": _plain(page.readings, zone), "next_from": _local(page.next_from, zone)})
        return
    _show(title, page.readings, zone, as_json)
    if page.next_from is not None:
        typer.echo(f"there may be more: --from {_local(page.next_from, zone)}", err=True)


def _show(title: str, found: Sequence[Any], zone: ZoneInfo, as_json: bool) -> None:
    """Rows with their times by the site's clock."""
    rows = _plain(found, zone, exact=as_json)
    if as_json:
        show_json(rows)
    elif rows:
        unseen = set(_COLUMNS_UNSEEN)
        if not any(row.get("causes") for row in rows):
            unseen.add("causes")
        if all(row["channel"] == row["reading_type"] for row in rows):
            # Nearly always: only a device with two probes of one quantity calls them otherwise.
            unseen.add("channel")
        columns = [column for column in rows[0] if column not in unseen]
        called = [_COLUMNS_CALLED.get(column, column) for column in columns]
        show_table(title, called, [[_shown(row[column]) for column in columns] for row in rows])
    else:
        typer.echo(f"no {title} at that time")


def _plain(found: Sequence[Any], zone: ZoneInfo, *, exact: bool = True) -> list[dict[str, Any]]:
    """exact: times to the microsecond, else to the millisecond."""
    return [
        {
            column: Causes.names(value) if column == "causes" else _local(value, zone, exact=exact)
            for column, value in row._asdict().items()
        }
        for row in found
    ]


def _local(value: object, zone: ZoneInfo, *, exact: bool = True) -> object:
    if not isinstance(value, datetime):
        return value
    return value.astimezone(zone).isoformat(timespec="auto" if exact or not value.microsecond else "milliseconds")


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value)
    return float(f"{value:.6g}") if isinstance(value, float) else value
