"""What the schema looked like when its migrations were through, so that what was changed by hand can be named."""

from ingest_server.storage.connection import Connection, sql, transaction, translated


async def record(connection: Connection) -> None:
    """Notes every table, column, constraint, index, view and function as it is now."""
    async with transaction(connection):
        await connection.execute("DELETE FROM iot_service.schema_objects")
        await connection.execute(
            b"INSERT INTO iot_service.schema_objects (kind, name, definition) " + sql("schema/objects")
        )


async def differences(connection: Connection) -> list[str]:
    """What is missing, was added or changed since, each as `changed column t.c`."""
    with translated():
        cursor = await connection.execute(
            b"WITH now AS (" + sql("schema/objects") + b") " + sql("schema/objects_drift")
        )
        return [" ".join(row) for row in await cursor.fetchall()]
