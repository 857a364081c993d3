"""Where rows of a given time go: the part of storage in which the flavours differ."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from ingest_server.decoder import Int64s
from ingest_server.storage.connection import Connection, transaction, translated


class Partitions(Protocol):
    """Makes room for rows before the COPY that needs it."""

    async def ensure(self, connection: Connection, times_us: Int64s) -> None:
        """Room for each of these times (int64, Unix µs; at least one). Must be called outside a transaction."""

    async def make_ahead(self, connection: Connection, now_us: int) -> None:
        """Room for what will come soon, so that no COPY has to wait for it."""

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

    @property
    def table(self) -> str:
        return f"sensor_readings_{self.year:04d}_{self.month:02d}"


class NativePartitions:
    """PostgreSQL's own declarative partitions, one a month.

    A partition is made in a transaction of its own, by a function of the database, since the role that writes readings
    does not own their table. What is known to exist is remembered for one connection only: a restored database may
    have fewer.
    """

    MONTHS_AHEAD = 3

    def __init__(self) -> None:
        self._known: set[Month] = set()

    async def ensure(self, connection: Connection, times_us: Int64s) -> None:
        for month in _months(times_us) - self._known:
            await self._make(connection, month)
            self._known.add(month)

    async def make_ahead(self, connection: Connection, now_us: int) -> None:
        month = Month.of(now_us)
        for _ in range(self.MONTHS_AHEAD + 1):
            await self._make(connection, month)
            month = month.next()

    def forget(self) -> None:
        self._known.clear()

    async def _make(self, connection: Connection, month: Month) -> None:
        with translated():
            if await _is_attached(connection, month):
                return
        async with transaction(connection):
            await connection.execute("SELECT iot_service.make_month(%s)", (month.start,))


def _months(times_us: Int64s) -> set[Month]:
    first, last = Month.of(int(times_us.min())), Month.of(int(times_us.max()))
    if first == last:
        return {first}
    # Only months that occur: one late reading must not make a partition for each month since.
    found = np.unique(times_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64))
    return {Month(1970 + n // 12, n % 12 + 1) for n in found.tolist()}


async def _is_attached(connection: Connection, month: Month) -> bool:
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
        " AND inhparent = 'iot_service.sensor_readings'::regclass)",
        (f"iot_service.{month.table}",),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
