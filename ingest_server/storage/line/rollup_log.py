"""What a group's rows change of the rollups, as entries of the append-only log. No Python loop per reading."""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from ingest_server.decoder import Int64s
from ingest_server.storage.arrays import int4s
from ingest_server.storage.line.rows import HEADER, POSTGRES_EPOCH_US, TRAILER, Rows

COPY_LOG = "COPY iot_service.rollup_log (from_at, to_at, series_ids) FROM STDIN (FORMAT binary)"

_MINUTE_US = 60_000_000
_SPANS_MIN = (1, 60, 1440, 525_600)
# An entry names the series of a minute; where readings lie so far apart that these would be too many, of an hour, and
# so on. A refresh that looks at more than changed finds the same.
_MOST_ENTRIES = 1_000

# A row of a binary COPY with its three fields, as far as the bytes of the third.
_ROW = struct.Struct(">h i q i q i")


def log_bytes(rows: Rows, batches: Sequence[Rows]) -> bytes:
    """What `COPY_LOG` takes. rows: those of all batches, in whatever order."""
    parts = [HEADER]
    if _are_few(rows, _SPANS_MIN[0]):
        parts += _entries(rows, _SPANS_MIN[0])
    else:
        # Each by itself: one with readings of a hundred days would widen what all others of its group have changed.
        by_span: dict[int, list[Rows]] = {}
        for batch in batches:
            by_span.setdefault(_span_min(batch), []).append(batch)
        for span_min, some in by_span.items():
            parts += _entries(Rows.joined(some), span_min)
    parts.append(TRAILER)
    return b"".join(parts)


def _span_min(rows: Rows) -> int:
    return next((span for span in _SPANS_MIN if _are_few(rows, span)), _SPANS_MIN[-1])


def _are_few(rows: Rows, span_min: int) -> bool:
    span_us = span_min * _MINUTE_US
    first_us, last_us = int(rows.times_us.min()), int(rows.times_us.max())
    # Of a group that has just been taken, as nearly all are, nothing need be sorted to know it.
    return (last_us - first_us) // span_us < _MOST_ENTRIES - 1 or len(
        np.unique(rows.times_us // span_us)
    ) <= _MOST_ENTRIES


def _entries(rows: Rows, span_min: int) -> Iterator[bytes]:
    buckets, ids = _distinct(rows, span_min)
    starts = np.flatnonzero(np.concatenate(([True], buckets[1:] != buckets[:-1])))
    span_us = span_min * _MINUTE_US
    for first, after in zip(starts.tolist(), [*starts[1:].tolist(), len(ids)], strict=True):
        from_us = int(buckets[first]) * span_us - POSTGRES_EPOCH_US
        series_ids = int4s(ids[first:after])
        yield _ROW.pack(3, 8, from_us, 8, from_us + span_us, len(series_ids))
        yield series_ids


def _distinct(rows: Rows, span_min: int) -> tuple[Int64s, Int64s]:
    """The distinct pairs of bucket and series, ordered: two columns (int64)."""
    keys = np.unique((rows.times_us // (span_min * _MINUTE_US) << 31) | rows.series_ids)
    return keys >> 31, keys & 0x7FFF_FFFF
