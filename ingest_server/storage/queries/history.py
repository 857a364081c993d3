"""What backend services ask for: latest values, a device's and a zone's history, raw, by hour and by day.

A device's history has its predecessors' in it, each of the time that it served; a zone's is of what hung in it at the
time. Every query names its time by parameters, so that only the partitions of that time are touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ingest_server.storage.connection import Connection, sql, translated
from ingest_server.storage.registry.places import NoSuchThing

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
_NAMES = 10_000
# Names that are compared with one that is unknown: a typing mistake is not worth more.


class Latest(NamedTuple):
    """The last reading of a series. zone: where the device is now."""

    device_id: int
    device: str
    zone: str | None
    reading_type: str
    channel: str
    value: float
    unit: str
    reliability_score: float
    recorded_at: datetime
    causes: int


class Raw(NamedTuple):
    """One reading. device: that measured, perhaps a predecessor. position: in the zone that was asked for."""

    recorded_at: datetime
    device_id: int
    device: str
    position: str | None
    reading_type: str
    channel: str
    value: float
    unit: str
    reliability_score: float
    causes: int
    series_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """readings: in the order of time. next_from: where the next page begins; None: there is none."""

    readings: list[Raw]
    next_from: datetime | None


class Hour(NamedTuple):
    """Of a device."""

    hour: datetime
    reading_type: str
    channel: str
    avg_value: float
    min_value: float
    max_value: float
    reading_count: int
    unit: str


class Day(NamedTuple):
    """Of a device, by the calendar of its site."""

    reading_date: date
    reading_type: str
    channel: str
    avg_value: float
    min_value: float
    max_value: float
    reading_count: int
    unit: str


class ZoneHour(NamedTuple):
    """Of a device in a zone, as long as it was there."""

    hour: datetime
    device_id: int
    device: str
    position: str | None
    reading_type: str
    channel: str
    avg_value: float
    min_value: float
    max_value: float
    reading_count: int
    unit: str


async def latest_of_device(connection: Connection, device_id: int) -> list[Latest]:
    """By quantity and channel."""
    return [
        Latest._make(row)
        for row in await _rows(connection, "queries/history_latest_of_device", {"device_id": device_id})
    ]


async def latest_of_site(connection: Connection, site: str) -> list[Latest]:
    """By device, quantity and channel."""
    return [Latest._make(row) for row in await _rows(connection, "queries/history_latest_of_site", {"site": site})]


async def raw_of_device(
    connection: Connection,
    device_id: int,
    from_at: datetime,
    to_at: datetime,
    *,
    reading_type: str | None = None,
    most: int = 10_000,
) -> Page:
    """Readings in [from_at, to_at), the oldest first; of all quantities without `reading_type`.

    most: of a page, and those that share the time of the last one. For the next page, `next_from` is its from_at.
    """
    values = {"device_id": device_id, "from_at": from_at, "to_at": to_at, "reading_type": reading_type, "most": most}
    return _page(await _rows(connection, "queries/history_raw_of_device", values), most)


async def hours_of_device(
    connection: Connection, device_id: int, from_at: datetime, to_at: datetime, *, reading_type: str | None = None
) -> list[Hour]:
    """Hours that begin in [from_at, to_at)."""
    values = {"device_id": device_id, "from_at": _next_hour(from_at), "to_at": _next_hour(to_at)}
    rows = await _rows(connection, "queries/history_hours_of_device", {**values, "reading_type": reading_type})
    return [Hour._make(row) for row in rows]


async def days_of_device(
    connection: Connection, device_id: int, from_date: date, to_date: date, *, reading_type: str | None = None
) -> list[Day]:
    """Days from the first to the last, both included."""
    values = {"device_id": device_id, "from_date": from_date, "to_date": to_date, "reading_type": reading_type}
    return [Day._make(row) for row in await _rows(connection, "queries/history_days_of_device", values)]


async def raw_of_zone(
    connection: Connection,
    location_id: int,
    from_at: datetime,
    to_at: datetime,
    *,
    reading_type: str | None = None,
    most: int = 10_000,
) -> Page:
    """Readings in [from_at, to_at) of what hung in the zone at the time; pages as of `raw_of_device`."""
    values = {
        "location_id": location_id,
        "from_at": from_at,
        "to_at": to_at,
        "reading_type": reading_type,
        "most": most,
    }
    return _page(await _rows(connection, "queries/history_raw_of_zone", values), most)


async def hours_of_zone(
    connection: Connection, location_id: int, from_at: datetime, to_at: datetime, *, reading_type: str | None = None
) -> list[ZoneHour]:
    """Hours that lie in [from_at, to_at), wholly or in part, of what hung in the zone at the time."""
    values = {"location_id": location_id, "from_at": from_at, "to_at": to_at, "reading_type": reading_type}
    return [ZoneHour._make(row) for row in await _rows(connection, "queries/history_hours_of_zone", values)]


async def device_named(connection: Connection, site: str, device: str) -> int:
    """Its device_id. Raises NoSuchThing, with names that are like it."""
    row = await _row(
        connection, "SELECT device_id FROM iot_service.iot_devices WHERE site = %s AND device = %s", (site, device)
    )
    if row is not None:
        return int(row[0])
    await require_site(connection, site)
    names = "SELECT device FROM iot_service.iot_devices WHERE site = %s ORDER BY device LIMIT %s"
    like = await _like(connection, names, device, site)
    raise NoSuchThing(f"no device {device} at site {site}{like}; see `heal7-iot devices list`")


async def zone_named(connection: Connection, site: str, zone: str) -> int:
    """Its location_id. Raises NoSuchThing, with names that are like it."""
    row = await _row(
        connection, "SELECT location_id FROM iot_service.zones WHERE site = %s AND zone = %s", (site, zone)
    )
    if row is not None:
        return int(row[0])
    await require_site(connection, site)
    names = "SELECT zone FROM iot_service.zones WHERE site = %s ORDER BY zone LIMIT %s"
    like = await _like(connection, names, zone, site)
    raise NoSuchThing(f"no zone {zone} at site {site}{like}: a zone is there once a device was placed in it")


async def require_site(connection: Connection, site: str) -> None:
    """Raises NoSuchThing where no device is known of it, with names that are like it."""
    found = await _row(connection, "SELECT FROM iot_service.iot_devices WHERE site = %s LIMIT 1", (site,))
    if found is None:
        names = "SELECT DISTINCT site FROM iot_service.iot_devices ORDER BY site LIMIT %s"
        raise NoSuchThing(f"no site {site}{await _like(connection, names, site)}; see `heal7-iot sites list`")


async def time_zone(connection: Connection, site: str) -> str | None:
    """By which the site's days are counted; None: nobody said, and it is UTC."""
    row = await _row(connection, "SELECT time_zone FROM iot_service.sites WHERE site = %s", (site,))
    return None if row is None else str(row[0])


async def raw_horizon(connection: Connection) -> datetime | None:
    """What is older has been archived; None: nothing has."""
    row = await _row(connection, "SELECT NULLIF(begins, '-infinity') FROM iot_service.raw_horizon", ())
    return None if row is None or row[0] is None else row[0].astimezone(UTC)


async def any_reading(
    connection: Connection, site: str, from_at: datetime, to_at: datetime
) -> tuple[str, datetime] | None:
    """Device and time of one of the site's readings in [from_at, to_at); None: it has none."""
    rows = await _rows(connection, "queries/any_reading_of_site", {"site": site, "from_at": from_at, "to_at": to_at})
    return (rows[0][0], rows[0][1]) if rows else None


def _page(rows: list[TupleRow], most: int) -> Page:
    readings = [Raw._make(row) for row in rows]
    return Page(readings, readings[-1].recorded_at + _MICROSECOND if len(readings) >= most else None)


def _next_hour(at: datetime) -> datetime:
    utc = at.astimezone(UTC)
    whole = utc.replace(minute=0, second=0, microsecond=0)
    return whole if whole == utc else whole + _HOUR


async def _rows(connection: Connection, name: str, values: Mapping[str, Any]) -> list[TupleRow]:
    with translated():
        # Thousands of rows: as text, both ends would spend longer on their numbers than the query takes.
        async with connection.cursor(binary=True) as cursor:
            await cursor.execute(sql(name), values)
            return await cursor.fetchall()


async def _row(connection: Connection, statement: str, values: tuple[object, ...]) -> TupleRow | None:
    with translated():
        cursor = await connection.execute(statement.encode(), values)
        return await cursor.fetchone()


async def _like(connection: Connection, statement: str, name: str, *values: str) -> str:
    with translated():
        cursor = await connection.execute(statement.encode(), (*values, _NAMES))
        names = [row[0] for row in await cursor.fetchall()]
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    return f" (is it {' or '.join(close)}?)" if close else ""
