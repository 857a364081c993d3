"""Three pools, each with a bound and timeouts of its own: a heavy chart cannot stall ingestion, nor a job either.

They reach from the database's roles down: each may log in as another one (`iot_ingest`, `iot_reader`, `iot_admin`).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ingest_server.errors import StorageUnavailable
from ingest_server.storage.connection import Connection, connect

_WAIT_S = 10.0
_IDLE_S = 60.0
# A connection that lay idle for longer may be gone without a word: a new one costs little.


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """purpose: as pg_stat_activity shows it. max_connections: at once; whoever comes after waits, up to 10 s."""

    purpose: str
    dsn: str
    max_connections: int
    statement_timeout_s: float
    lock_timeout_s: float


class Pool:
    """Connections of one purpose. Its own few lines: psycopg_pool retries in the background and hides why it fails."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._free = asyncio.Semaphore(options.max_connections)
        self._idle: list[tuple[Connection, float]] = []

    async def open(self, *, patient: bool = False) -> Connection:
        """A connection to be kept; given back by `close`. Raises StorageUnavailable.

        patient: waits for as long as others need all of them.
        """
        o = self._options
        try:
            async with asyncio.timeout(None if patient else _WAIT_S):
                await self._free.acquire()
        except TimeoutError as error:
            raise StorageUnavailable(f"all {o.max_connections} connections for {o.purpose} are in use") from error
        try:
            return await self._idle_one() or await connect(o.dsn, o.purpose, o.statement_timeout_s, o.lock_timeout_s)
        except BaseException:
            self._free.release()
            raise

    async def close(self, connection: Connection) -> None:
        """Ends a connection that `open` gave."""
        self._free.release()
        await connection.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for a while. After an error it is not used again."""
        connection = await self.open()
        try:
            yield connection
        except BaseException:
            await self.close(connection)
            raise
        self._free.release()
        self._idle.append((connection, time.monotonic()))

    async def end(self) -> None:
        """Ends what is idle."""
        while self._idle:
            await self._idle.pop()[0].close()

    async def _idle_one(self) -> Connection | None:
        now = time.monotonic()
        while self._idle:
            connection, since = self._idle.pop()
            if now - since < _IDLE_S and not connection.closed:
                return connection
            await connection.close()
        return None


@dataclass(frozen=True, slots=True)
class Pools:
    """write: the line. read: whoever asks. background: jobs."""

    write: Pool
    read: Pool
    background: Pool

    async def end(self) -> None:
        for pool in (self.write, self.read, self.background):
            await pool.end()
