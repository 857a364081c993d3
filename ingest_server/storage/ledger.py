"""Which database this is, and the equation that every gateway's books must satisfy."""

from dataclasses import dataclass

from ingest_server.errors import StorageUnavailable
from ingest_server.storage.connection import Connection, translated


@dataclass(frozen=True, slots=True)
class Books:
    """One gateway: sealed = committed + quarantined + dropped + presumed_lost + in_flight, in readings."""

    gateway: str
    epochs: int
    sealed: int
    committed: int
    quarantined: int
    dropped: int
    presumed_lost: int
    in_flight: int
    duplicates: int
    epochs_with_missing: int
    balanced: bool


async def ledger_id(connection: Connection) -> str:
    """The UUID that lives in this database and in its backups."""
    with translated():
        cursor = await connection.execute("SELECT ledger_id::text FROM iot_service.ledger_identity")
        row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def ledger_mark(connection: Connection) -> tuple[str, int]:
    """`ledger_id`, and a number that changes where the tables were emptied or made anew, as by a restore."""
    with translated():
        cursor = await connection.execute(
            "SELECT ledger_id::text, pg_relation_filenode('iot_service.series') FROM iot_service.ledger_identity"
        )
        row = await cursor.fetchone()
    if row is None:
        raise StorageUnavailable("the database has no ledger_id: it is being restored, or was migrated by hand")
    return str(row[0]), int(row[1])


async def read_books(connection: Connection) -> list[Books]:
    """The equation of every gateway, by name."""
    with translated():
        cursor = await connection.execute(
            "SELECT gateway, epochs, sealed, committed, quarantined, dropped, presumed_lost, in_flight, duplicates,"
            " epochs_with_missing, balanced FROM iot_service.books ORDER BY gateway"
        )
        return [Books(*row) for row in await cursor.fetchall()]
