"""What may not come back: the intervals of all erasures."""

from collections.abc import Mapping, Sequence

import numpy as np

from device_drivers.reading import Series
from ingest_server.decoder import Bools, Columns
from ingest_server.storage.connection import Connection, sql, translated

Interval = tuple[int, int]
"""[from, to), Unix µs."""

_EVER = 1 << 62


class Erased:
    """The intervals, by device."""

    def __init__(self) -> None:
        self._intervals: dict[tuple[str, str | None], list[Interval]] = {}

    def __bool__(self) -> bool:
        """Whether anything at all is erased."""
        return bool(self._intervals)

    async def read(self, connection: Connection) -> None:
        """Learns those that are in force."""
        with translated():
            cursor = await connection.execute(sql("line/read_erased"))
            rows = await cursor.fetchall()
        self._intervals = {}
        for site, device, from_us, to_us in rows:
            interval = (-_EVER if from_us is None else from_us, _EVER if to_us is None else to_us)
            self._intervals.setdefault((site, device), []).append(interval)

    def of(self, site: str, device: str) -> tuple[Interval, ...]:
        """When nothing of this device may be written."""
        return (*self._intervals.get((site, device), ()), *self._intervals.get((site, None), ()))

    def of_table(self, gateway: str, series: Sequence[Series]) -> dict[int, tuple[Interval, ...]]:
        """The same for the series table of a batch, by index; series that no erasure names are absent."""
        if not self._intervals:
            return {}
        site = gateway.split("/", 1)[0]
        found = {n: self.of(site, s.device) for n, s in enumerate(series)}
        return {n: intervals for n, intervals in found.items() if intervals}


def forbidden(columns: Columns, intervals: Mapping[int, Sequence[Interval]]) -> Bools:
    """Which readings of a batch, n of them, fall into the intervals of their series (index in the batch's table)."""
    times_us = columns.times_us
    found = np.zeros(len(times_us), dtype=np.bool_)
    if not intervals or not len(times_us):
        return found
    first_us, last_us = int(times_us.min()), int(times_us.max())
    # Rules stand for good, and a table may name thousands of series: only those are looked at that meet a reading.
    for number in intervals.keys() & set(np.unique(columns.series).tolist()):
        for from_us, to_us in intervals[number]:
            if from_us <= last_us and to_us > first_us:
                found |= (columns.series == number) & (times_us >= from_us) & (times_us < to_us)
    return found
