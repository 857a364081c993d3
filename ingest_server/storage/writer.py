"""One worker's hold on the database: a connection and what was learned through it, dropped together."""

from collections.abc import Callable
from dataclasses import dataclass

from ingest_server.storage.catalogue import Catalogue, CatalogueLimits, Describe
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.partitions import Partitions
from ingest_server.storage.quarantine_bound import QuarantineBound


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Where and how a worker writes."""

    dsn: str
    statement_timeout_s: float
    limits: CatalogueLimits
    describe: Describe
    partitions: Callable[[], Partitions]
    quarantine: QuarantineBound
    new_epochs_per_hour: int


@dataclass(frozen=True, slots=True)
class Writer:
    """A live connection with its caches: nothing learned through one connection is believed on the next."""

    connection: Connection
    catalogue: Catalogue
    partitions: Partitions

    @classmethod
    async def open(cls, options: WriterOptions) -> "Writer":
        """Raises StorageUnavailable."""
        connection = await connect(options.dsn, "write", options.statement_timeout_s)
        catalogue = Catalogue(connection, options.limits, options.describe)
        return cls(connection, catalogue, options.partitions())

    async def close(self) -> None:
        await self.connection.close()
