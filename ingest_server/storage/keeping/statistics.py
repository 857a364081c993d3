"""The planner's statistics of tables that autovacuum does not look at: it knows partitions, not their parents."""

from ingest_server.storage.connection import Connection, sql, translated


async def analyze(connection: Connection) -> None:
    """Analyzes each parent."""
    with translated():
        cursor = await connection.execute(sql("keeping/partitioned_parents"))
        for (parent,) in await cursor.fetchall():
            await connection.execute(f"ANALYZE {parent}".encode())
