"""What is remembered of readings that pass by as COPY's bytes: their first and last time, and a sample of hours."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

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
}


class ReadingsSeen:
    """Takes the blocks of one COPY of readings after the other. No Python loop per reading."""

    def __init__(self, columns: Sequence[str], seed: str) -> None:
        row: list[tuple[str, str]] = [("fields", ">i2")]
        for column in columns:
            row += [(f"{column}_length", ">i4"), (column, _FIELDS[column])]
        # Every column is NOT NULL and of a fixed width, so that every row is, too.
        self._row = np.dtype(row)
        self._random = random.Random(seed)
        self._seen = 0
        self._hours: list[tuple[int, int]] = []

    def rows_in(self, block: bytes, *, first: bool) -> int:
        """How many rows a block has; the first of a COPY begins with its header, the last ends with its trailer."""
        return (len(block) - (len(HEADER) if first else 0)) // self._row.itemsize

    def take(self, block: bytes, rows: int, *, first: bool) -> tuple[int, int]:
        """The least and the greatest time (Unix µs) of a block, which has at least one row."""
        found = np.frombuffer(block, self._row, rows, len(HEADER) if first else 0)
        times = found["recorded_at"]
        for n in self._random.sample(range(rows), min(_EACH_BLOCK, rows)):
            at_us = int(times[n]) + POSTGRES_EPOCH_US
            self._remember((int(found["series_id"][n]), at_us - at_us % _HOUR_US))
        return int(times.min()) + POSTGRES_EPOCH_US, int(times.max()) + POSTGRES_EPOCH_US

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
