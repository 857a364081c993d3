"""Which database this is, and the equation that every gateway's books must satisfy."""

from dataclasses import dataclass, replace

from ingest_server.errors import StorageUnavailable
from ingest_server.storage.connection import Connection, sql, transaction, translated

_GRACE_DAYS = 2
# Beyond retention: readings may be some minutes ahead of the clock, and clocks differ.


@dataclass(frozen=True, slots=True)
class Books:
    """One gateway: sealed = committed + quarantined + dropped + presumed_lost + in_flight, in readings.

    replayed: those of the committed that came out of quarantine.
    """

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
    replayed: int


async def ledger_id(connection: Connection) -> str:
    """The UUID that lives in this database and in its backups."""
    with translated():
        cursor = await connection.execute("SELECT ledger_id::text FROM iot_service.ledger_identity")
        row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """What changes where a database is exchanged, restored or emptied, whichever way that was done.

    tables: where the table of series lies on disk, which DROP and TRUNCATE change. identity, series: the transactions
    that wrote the ledger's identity and one known row of series, which rows that are copied in again do not keep.
    """

    ledger_id: str
    tables: int
    identity: str
    series: str | None

    def without_series(self) -> "LedgerMark":
        return replace(self, series=None)


async def ledger_mark(connection: Connection, series_id: int | None) -> LedgerMark:
    """The mark, with that of the given series if there is one."""
    with translated():
        cursor = await connection.execute(sql("line/ledger_mark"), {"series_id": series_id})
        row = await cursor.fetchone()
    if row is None:
        raise StorageUnavailable("the database has no ledger_id: it is being restored, or was migrated by hand")
    return LedgerMark(*row)


async def read_books(connection: Connection) -> list[Books]:
    """The equation of every gateway, by name."""
    with translated():
        cursor = await connection.execute(
            "SELECT gateway, epochs, sealed, committed, quarantined, dropped, presumed_lost, in_flight, duplicates,"
            " epochs_with_missing, balanced, replayed FROM iot_service.books ORDER BY gateway"
        )
        return [Books(*row) for row in await cursor.fetchall()]


async def prune_ledger(connection: Connection, retention_days: float) -> int:
    """Folds epochs into the archive that nobody has spoken of for longer than raw retention; how many.

    Only what is settled whole, has nothing in quarantine, and is of a gateway that has spoken since. A spool that
    still had such an epoch and came back would send readings that are older than retention: refused, so none is
    written twice.
    """
    async with transaction(connection):
        cursor = await connection.execute(sql("line/prune_ledger"), {"days": retention_days + _GRACE_DAYS})
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
