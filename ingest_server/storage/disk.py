"""The disk of the database server, where it can be seen from here."""

import shutil
from dataclasses import dataclass

from ingest_server.storage.connection import Connection, sql, translated


@dataclass(frozen=True, slots=True)
class Disk:
    """In bytes."""

    total: int
    free: int


async def disk_of_server(connection: Connection) -> Disk | None:
    """That on which the server keeps its data; None: it is another machine's, or nobody may tell this role."""
    with translated():
        cursor = await connection.execute(sql("data_directory"))
        row = await cursor.fetchone()
    assert row is not None
    is_here, directory = row
    if not is_here or directory is None:
        return None
    try:
        # Of the folder itself: the one above it may lie on another disk.
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return Disk(usage.total, usage.free)
