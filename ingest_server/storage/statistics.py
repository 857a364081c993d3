"""The planner's statistics of tables that autovacuum does not look at: it knows partitions, not their parents."""

from ingest_server.storage.connection import Connection, sql, translated


async def analyze(connection: Connection) -> list[str]:
    """Analyzes each parent; their names."""
    with translated():
        cursor = await connection.execute(sql("partitioned_parents"))
        parents = [row[0] for row in await cursor.fetchall()]
        for parent in parents:
            await connection.execute(f"ANALYZE {parent}".encode())
    return parents
