"""Two books that know nothing of each other: the gateway's spool file, and the database."""

import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gateway.spool.counting import whole_file
from gateway.spool.state import load
from ingest_server.storage.connection import Connection, translated
from ingest_server.storage.line.ledger import read_books


@dataclass(frozen=True, slots=True)
class SpoolBook:
    """What the gateway says that it sealed, and what became of it; readings, but for `batches`."""

    batches: int
    sealed: int
    settled: int
    dropped: int
    never_sealed: int

    @property
    def in_flight(self) -> int:
        """Sealed, and neither settled nor dropped."""
        return self.sealed - self.settled - self.dropped


@dataclass(frozen=True, slots=True)
class DatabaseBook:
    """The ledger's sums, and the rows themselves.

    duplicates: batches that came again and were left out. rows_twice: readings that two transactions wrote.
    """

    gateways: int
    committed: int
    quarantined: int
    dropped: int
    presumed_lost: int
    duplicates: int
    rows: int
    rows_twice: int

    @property
    def settled(self) -> int:
        """Readings whose fate the database knows."""
        return self.committed + self.quarantined + self.dropped + self.presumed_lost


def read_spool(path: Path) -> SpoolBook:
    """The book of a gateway that has ended. Nothing is written: the file stays the witness that it is."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        state, _ = load(connection)
        counted = whole_file(connection, state)
    finally:
        connection.close()
    return SpoolBook(
        counted.sealed_batches,
        counted.sealed_readings,
        counted.settled_readings,
        sum(counted.dropped.values()),
        sum(counted.unsealed.values()),
    )


async def read_database(connection: Connection) -> DatabaseBook:
    """The ledger and the table of readings. Raises StorageError."""
    gateways = await read_books(connection)
    with translated():
        cursor = await connection.execute(files("heal7_iot.demo").joinpath("count_rows.sql").read_bytes())
        row = await cursor.fetchone()
    assert row is not None
    return DatabaseBook(
        len(gateways),
        sum(b.committed for b in gateways),
        sum(b.quarantined for b in gateways),
        sum(b.dropped for b in gateways),
        sum(b.presumed_lost for b in gateways),
        sum(b.duplicates for b in gateways),
        *row,
    )
