"""One worker's hold on the database: a connection and what was learned through it, dropped together."""

from dataclasses import dataclass

from ingest_server.errors import StorageUnavailable
from ingest_server.storage.connection import Connection
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.frames.reading import Decode, undecoded
from ingest_server.storage.line.catalogue import Catalogue, CatalogueLimits, Describe
from ingest_server.storage.line.partitions import HypertableChunks, NativePartitions, Partitions
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.pools import Pool


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Where and how a worker writes. decode: how raw frames are read. keep_frames: those that readings bring."""

    pool: Pool
    limits: CatalogueLimits
    describe: Describe
    quarantine: QuarantineBound
    new_epochs_per_hour: int
    direct_compress: bool = False
    decode: Decode = undecoded
    keep_frames: bool = False


@dataclass(frozen=True, slots=True)
class Writer:
    """A live connection with its caches: nothing learned through one connection is believed on the next.

    pool: where it came from; None: from whoever made this, and it is theirs to close. keep_frames: as in WriterOptions.
    """

    connection: Connection
    catalogue: Catalogue
    partitions: Partitions
    pool: Pool | None = None
    keep_frames: bool = False

    @classmethod
    async def open(cls, options: WriterOptions) -> "Writer":
        """Raises StorageUnavailable."""
        connection = await options.pool.open()
        try:
            partitions = await partitions_of(connection, direct_compress=options.direct_compress)
        except BaseException:
            await options.pool.close(connection)
            raise
        catalogue = Catalogue(connection, options.limits, options.describe, options.decode)
        return cls(connection, catalogue, partitions, options.pool, options.keep_frames)

    async def close(self) -> None:
        if self.pool is not None:
            await self.pool.close(self.connection)


async def partitions_of(connection: Connection, *, direct_compress: bool = False) -> Partitions:
    """How this database makes room for readings. Raises StorageUnavailable where it says nothing of that."""
    flavour = await recorded(connection)
    if flavour is None:
        # A server that runs meets this while its database is made anew, and must live to see it restored.
        raise StorageUnavailable(
            "no schema of heal7-iot is here: it is being restored, or needs `heal7-iot db migrate`"
        )
    return NativePartitions() if flavour is Flavour.NATIVE else HypertableChunks(direct_compress=direct_compress)
