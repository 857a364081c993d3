"""Where devices hang and hung, who took whose place, and by which calendar a site counts its days."""

from datetime import datetime

from ingest_server.errors import StorageError
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.keeping.rollups import lock_rollups

_OF_ONE_MACHINE = frozenset({"localtime", "posixrules", "Factory"})


class NoSuchThing(StorageError):
    """What a command names is not there; the message says what is."""


async def place(
    connection: Connection, site: str, device: str, zone: str | None, position: str | None, since: datetime
) -> None:
    """From `since` on the device is in the zone; None: it is taken away. The zone is made where it is new.

    Raises NoSuchThing.
    """
    async with transaction(connection):
        await lock_rollups(connection)
        (device_id,) = await _devices(connection, site, device)
        await _place(connection, site, device_id, zone, position, since)


async def replace(connection: Connection, site: str, old: str, new: str, at: datetime) -> None:
    """The new device takes the old one's place at that time: its history goes on where the old one's ends.

    Said again with another time, it is corrected: what the first one placed is taken back. Raises NoSuchThing, also
    where that would make a circle or a fork.
    """
    async with transaction(connection):
        await lock_rollups(connection)
        old_id, new_id = await _devices(connection, site, old, new)
        # One at a time: two that each see nothing of the other could make a circle.
        await connection.execute("LOCK TABLE iot_service.device_successions IN SHARE ROW EXCLUSIVE MODE")
        cursor = await connection.execute(sql("registry/succession_conflict"), {"old": old_id, "new": new_id, "at": at})
        row = await cursor.fetchone()
        if row is not None:
            raise NoSuchThing(f"{new} cannot take the place of {old} at {at:%Y-%m-%dT%H:%M:%S%z}: {row[0]}")
        pair = {"old": old_id, "new": new_id, "site": site}
        await connection.execute(sql("registry/take_back_replacement"), pair)
        await connection.execute(sql("registry/where_now"), pair)
        await connection.execute(
            "INSERT INTO iot_service.device_successions (device_id, predecessor_id, replaced_at) VALUES (%s, %s, %s)"
            " ON CONFLICT (device_id) DO UPDATE SET predecessor_id = excluded.predecessor_id,"
            " replaced_at = excluded.replaced_at",
            (new_id, old_id, at),
        )
        cursor = await connection.execute(
            "SELECT zone, position FROM iot_service.device_locations"
            " WHERE device_id = %s AND valid_from <= %s AND %s < valid_to",
            (old_id, at, at),
        )
        row = await cursor.fetchone()
        if row is not None:
            await _place(connection, site, new_id, row[0], row[1], at)
            await _place(connection, site, old_id, None, None, at)


async def set_time_zone(connection: Connection, site: str, time_zone: str) -> int:
    """By which calendar the site's days are counted, those that are stored, too; how many of these there are.

    Raises NoSuchThing for a zone that the database does not know.
    """
    async with transaction(connection):
        cursor = await connection.execute("SELECT FROM pg_timezone_names WHERE name = %s", (time_zone,))
        # The latter are whatever a machine has: another one's PostgreSQL could not restore them.
        if cursor.rowcount == 0 or time_zone in _OF_ONE_MACHINE or time_zone.startswith(("posix/", "right/")):
            raise NoSuchThing(f"{time_zone!r} is no time zone that PostgreSQL knows: write it as in Asia/Seoul")
        await lock_rollups(connection)
        await connection.execute(
            "INSERT INTO iot_service.sites (site, time_zone) VALUES (%s, %s)"
            " ON CONFLICT (site) DO UPDATE SET time_zone = excluded.time_zone",
            (site, time_zone),
        )
        await connection.execute(sql("registry/mark_patterns"), {"site": site})
        await connection.execute(sql("registry/forget_site_days"), {"site": site})
        await connection.execute(sql("keeping/rollups_dirty_table"))
        await connection.execute(sql("registry/mark_site"), {"site": site})
        await connection.execute(sql("keeping/refresh_site_days"))
        cursor = await connection.execute(sql("registry/count_site_days"), {"site": site})
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def on_its_clock(connection: Connection, site: str, at: datetime) -> datetime:
    """A time, as a moment: the site's clock says it where it has no zone of its own."""
    if at.tzinfo is not None:
        return at
    with translated():
        cursor = await connection.execute(
            "SELECT %(at)s::timestamp"
            " AT TIME ZONE COALESCE((SELECT time_zone FROM iot_service.sites WHERE site = %(site)s), 'UTC')",
            {"site": site, "at": at},
        )
        row = await cursor.fetchone()
    assert row is not None
    moment = row[0]
    assert isinstance(moment, datetime)
    return moment


async def _place(
    connection: Connection, site: str, device_id: int, zone: str | None, position: str | None, since: datetime
) -> None:
    location_id = None
    if zone is not None:
        cursor = await connection.execute(sql("registry/upsert_zone"), {"site": site, "zone": zone})
        row = await cursor.fetchone()
        assert row is not None
        location_id = row[0]
    await connection.execute(
        sql("registry/place_device"),
        {"site": site, "device_id": device_id, "location_id": location_id, "position": position, "since": since},
    )


async def _devices(connection: Connection, site: str, *devices: str) -> list[int]:
    """Their numbers, locked in order of these, as whoever registers devices does: after the rollups, whose refresh has
    the marks of days that a new place sets."""
    cursor = await connection.execute(
        "SELECT device, device_id FROM iot_service.iot_devices WHERE site = %s AND device = ANY(%s)"
        " ORDER BY device_id FOR NO KEY UPDATE",
        (site, list(devices)),
    )
    found: dict[str, int] = dict(await cursor.fetchall())
    for device in devices:
        if device not in found:
            raise NoSuchThing(f"no device {device} at site {site}; see `heal7-iot devices list`")
    return [found[device] for device in devices]
