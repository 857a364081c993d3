"""What operators ask of gateways, devices and places, and what they may do to gateways."""

from ingest_server.storage.connection import Connection, sql, transaction, translated

Row = dict[str, object]


async def list_gateways(connection: Connection) -> list[Row]:
    """Every gateway, by name."""
    return await _rows(connection, "queries/list_gateways")


async def list_devices(connection: Connection) -> list[Row]:
    """Every device, by site and name."""
    return await _rows(connection, "queries/list_devices")


async def list_sites(connection: Connection) -> list[Row]:
    """Every site that something is known of, by name; its time zone."""
    return await _rows(connection, "queries/list_sites")


async def list_zones(connection: Connection) -> list[Row]:
    """Every zone, by site and name, and which devices are there now."""
    return await _rows(connection, "queries/list_zones")


async def resolve(connection: Connection, gateway: str) -> int | None:
    """Lifts the hold on a gateway's instances and forgets those that are gone; how many. None: no such gateway."""
    async with transaction(connection):
        cursor = await connection.execute("SELECT gateway_id FROM iot_service.gateways WHERE name = %s", (gateway,))
        row = await cursor.fetchone()
        if row is None:
            return None
        cursor = await connection.execute(sql("queries/resolve_instances"), {"gateway_id": row[0]})
        return cursor.rowcount


async def _rows(connection: Connection, name: str) -> list[Row]:
    with translated():
        cursor = await connection.execute(sql(name))
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
