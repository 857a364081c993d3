"""What is remembered of readings that pass by as COPY's bytes: their first and last time, and a sample of hours."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_server.storage.backup.manifest import Bucket
from ingest_server.storage.line.rows import HEADER, POSTGRES_EPOCH_US

_HOUR_US = 3_600_000_000
_EACH_BLOCK = 2
_BUCKETS = 256
_FIELDS = {
    "recorded_at": ">i8",
    "created_at": ">i8",
    "value": ">f8",
    "series_id": ">i4",
    "causes": ">i4",
    "reliability": ">i2",
    "revision": ">i2",
    "raw_value": ">f8",
}
_NULLABLE = "raw_value"
_FIRST_WINDOW = 256


class ReadingsSeen:
    """Takes the blocks of one COPY of readings after the other. No Python loop per reading."""

    def __init__(self, columns: Sequence[str], seed: str) -> None:
        row: list[tuple[str, str]] = [("fields", ">i2")]
        for column in columns:
            row += [(f"{column}_length", ">i4"), (column, _FIELDS[column])]
        # Every column but one is NOT NULL and of a fixed width: there are rows of two widths, and long runs of each.
        self._rows = [np.dtype([field for field in row if field[0] != _NULLABLE])]
        if _NULLABLE in columns:
            self._rows.append(np.dtype(row))
        self._columns = len(columns)
        self._random = random.Random(seed)
        self._seen = 0
        self._hours: list[tuple[int, int]] = []

    def take(self, block: bytes, *, first: bool) -> tuple[int, int] | None:
        """The least and the greatest time (Unix µs) of a block; None where it has no row.

        The first block of a COPY begins with its header, the last ends with its trailer.
        """
        runs = list(self._runs(block, len(HEADER) if first else 0))
        if not runs:
            return None
        times = np.concatenate([run["recorded_at"] for run in runs])
        series_ids = np.concatenate([run["series_id"] for run in runs])
        for n in self._random.sample(range(len(times)), min(_EACH_BLOCK, len(times))):
            at_us = int(times[n]) + POSTGRES_EPOCH_US
            self._remember((int(series_ids[n]), at_us - at_us % _HOUR_US))
        return int(times.min()) + POSTGRES_EPOCH_US, int(times.max()) + POSTGRES_EPOCH_US

    def _runs(self, block: bytes, offset: int) -> Iterator[NDArray[Any]]:
        """The rows of a block: as many of one width as stand together, each time."""
        window = _FIRST_WINDOW
        while True:
            for row in self._rows:
                most = min((len(block) - offset) // row.itemsize, window)
                found = np.frombuffer(block, row, most, offset)
                fits = found["fields"] == self._columns
                if len(self._rows) > 1:
                    is_null = row is self._rows[0]
                    fits &= (found[f"{_NULLABLE}_length"] == -1) == is_null
                run = most if fits.all() else int(np.argmin(fits))
                if run:
                    yield found[:run]
                    offset += run * row.itemsize
                    # Alternating rows must not have the whole block looked at for each of them.
                    window = window * 2 if run == window else _FIRST_WINDOW
                    break
            else:
                return

    def _remember(self, bucket: tuple[int, int]) -> None:
        # Each that passes by is kept with the same chance, however many there will be.
        self._seen += 1
        if len(self._hours) < _BUCKETS:
            self._hours.append(bucket)
        elif (place := self._random.randrange(self._seen)) < _BUCKETS:
            self._hours[place] = bucket

    @property
    def buckets(self) -> list[tuple[int, int]]:
        """(series_id, beginning of the hour in Unix µs), each once."""
        return sorted(set(self._hours))


def sample_of(buckets: list[tuple[int, int]]) -> dict[str, list[int]]:
    """The parameters of the statement `backup_sample`."""
    return {"series_ids": [b[0] for b in buckets], "hours_us": [b[1] for b in buckets]}


def bucket_of(row: tuple[Any, ...]) -> Bucket:
    """A row of the statement `backup_sample`."""
    return Bucket(**dict(zip(Bucket.model_fields, row, strict=True)))
