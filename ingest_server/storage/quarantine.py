"""What could not be written, kept until somebody looks at it."""

from dataclasses import dataclass
from typing import Any

from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.group import copy_rows
from ingest_server.storage.partitions import Partitions
from ingest_server.storage.rows import Rows


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One entry, without its payload. indices: which readings of the payload; None: all."""

    quarantine_id: int
    received_at: str
    gateway: str
    epoch: int
    seq: int
    reason: str
    detail: str
    readings: int
    indices: tuple[int, ...] | None
    replayed_at: str | None


def _entry(row: tuple[Any, ...]) -> Quarantined:
    number, received_at, gateway, epoch, seq, reason, detail, readings, indices, replayed_at = row
    held = None if indices is None else tuple(indices)
    return Quarantined(number, received_at, gateway, epoch, seq, reason, detail, readings, held, replayed_at)


async def list_entries(
    connection: Connection, *, reason: str | None, waiting_only: bool, limit: int
) -> list[Quarantined]:
    """The newest entries."""
    with translated():
        cursor = await connection.execute(
            sql("list_quarantine"), {"reason": reason, "waiting": waiting_only, "limit": limit}
        )
        return [_entry(row) for row in await cursor.fetchall()]


async def read_entry(connection: Connection, quarantine_id: int) -> tuple[Quarantined, bytes] | None:
    """One entry with its payload; None where there is no such entry."""
    with translated():
        cursor = await connection.execute(sql("read_quarantined"), {"quarantine_id": quarantine_id})
        row = await cursor.fetchone()
    return None if row is None else (_entry(row[:-1]), bytes(row[-1]))


async def release(
    connection: Connection, partitions: Partitions, entry: Quarantined, rows: Rows, left: tuple[int, ...]
) -> bool:
    """Commits the readings of an entry that are sound now; those at `left` stay. Their books move with them.

    False where another command was faster: nothing was written.
    """
    await partitions.ensure(connection, rows.times_us)
    async with transaction(connection):
        cursor = await connection.execute(
            sql("release_quarantined"),
            {
                "quarantine_id": entry.quarantine_id,
                "was": entry.readings,
                "left": len(left),
                "indices": list(left),
            },
        )
        if await cursor.fetchone() is None:
            return False
        await copy_rows(connection, rows)
        await connection.execute(sql("move_to_committed"), {"quarantine_id": entry.quarantine_id, "moved": len(rows)})
    return True
