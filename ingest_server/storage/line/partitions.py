"""Where rows of a given time go: the part of storage in which the flavours differ."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from psycopg.errors import LockNotAvailable

from gateway.link.backoff import FullJitter
from ingest_server.decoder import Int64s
from ingest_server.errors import BatchRejected, StorageUnavailable
from ingest_server.storage.connection import Connection, transaction, translated

_ATTEMPTS = 10


class Partitions(Protocol):
    """Makes room for rows before the COPY that needs it."""

    async def ensure(self, connection: Connection, times_us: Int64s) -> None:
        """Room for each of these times (int64, Unix µs; at least one). Must be called outside a transaction."""

    async def prepare(self, connection: Connection) -> None:
        """What a transaction needs before its COPY. Must be called within it."""

    def forget(self) -> None:
        """The database refused rows: what is known of it may be out of date."""


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, unix_us: int) -> "Month":
        at = datetime.fromtimestamp(unix_us // 1_000_000, UTC)
        return cls(at.year, at.month)

    def next(self) -> "Month":
        return Month(self.year + 1, 1) if self.month == 12 else Month(self.year, self.month + 1)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    def table_of(self, parent: str) -> str:
        """Its partition of a table."""
        return f"{parent}_{self.year:04d}_{self.month:02d}"


class NativePartitions:
    """PostgreSQL's own declarative partitions, one a month.

    A partition is made in a transaction of its own, by a function of the database, since the role that writes readings
    does not own their table. What is known to exist is remembered for one connection only: a restored database may
    have fewer.
    """

    def __init__(self) -> None:
        self._known: set[Month] = set()

    async def ensure(self, connection: Connection, times_us: Int64s) -> None:
        for month in _months(times_us) - self._known:
            await _require_kept(connection, month)
            await self._make(connection, month)
            self._known.add(month)

    async def prepare(self, connection: Connection) -> None:
        pass

    async def make_ahead(self, connection: Connection, now_us: int, months: int) -> None:
        """Room for this month and the next ones, so that no COPY has to wait for it."""
        month = Month.of(now_us)
        for _ in range(months + 1):
            await self._make(connection, month)
            month = month.next()

    def forget(self) -> None:
        self._known.clear()

    async def _make(self, connection: Connection, month: Month) -> None:
        with translated():
            if await _is_attached(connection, month):
                return
        backoff = FullJitter(0.1, 2.0)
        for attempt in range(_ATTEMPTS):
            try:
                async with transaction(connection):
                    # What waits for this lock holds up others: it gives way, and tries again.
                    await connection.execute("SET LOCAL lock_timeout = '2s'")
                    await connection.execute("SELECT iot_service.make_month(%s)", (month.start,))
                return
            except StorageUnavailable as error:
                if not isinstance(error.__cause__, LockNotAvailable) or attempt + 1 == _ATTEMPTS:
                    raise
            await asyncio.sleep(backoff.next_s())


def _months(times_us: Int64s) -> set[Month]:
    first, last = Month.of(int(times_us.min())), Month.of(int(times_us.max()))
    if first == last:
        return {first}
    # Only months that occur: one late reading must not make a partition for each month since.
    found = np.unique(times_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64))
    return {Month(1970 + n // 12, n % 12 + 1) for n in found.tolist()}


async def _require_kept(connection: Connection, month: Month) -> None:
    """Raises BatchRejected where the month lies in the archive, under the name that a new one would need there."""
    with translated():
        cursor = await connection.execute("SELECT FROM iot_service.raw_horizon WHERE begins > %s", (month.start,))
        if await cursor.fetchone() is not None:
            raise BatchRejected(f"the readings of {month.year}-{month.month:02d} have been archived")


async def _is_attached(connection: Connection, month: Month) -> bool:
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
        " AND inhparent = 'iot_service.sensor_readings'::regclass)",
        (f"iot_service.{month.table_of('sensor_readings')}",),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


class HypertableChunks:
    """A hypertable makes room by itself."""

    def __init__(self, *, direct_compress: bool = False) -> None:
        self._direct_compress = direct_compress

    async def ensure(self, connection: Connection, times_us: Int64s) -> None:
        del connection, times_us

    async def prepare(self, connection: Connection) -> None:
        if self._direct_compress:
            await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")

    def forget(self) -> None:
        pass
