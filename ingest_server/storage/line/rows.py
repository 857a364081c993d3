"""Readings of a whole group as columns, and as the bytes of a binary COPY. No Python loop per reading."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingest_server.decoder import Bools, Float64s, Int32s, Int64s

POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's timestamps count from, in Unix µs

# The binary COPY format, as PostgreSQL's manual has it (COPY, "Binary Format"): a signature, flags, an extension
# length; for each row the number of fields, and for each field its length and its big-endian bytes; a trailer.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_TYPES = {
    "recorded_at": ">i8",
    "created_at": ">i8",
    "value": ">f8",
    "raw_value": ">f8",
    "series_id": ">i4",
    "causes": ">i4",
    "reliability": ">i2",
    "revision": ">i2",
}
"""Columns of sensor_readings, as they travel in a COPY."""

Column = Int64s | Float64s | Int32s


def copy_rows_of(columns: Mapping[str, Column]) -> tuple[str, bytes]:
    """The COPY of n readings, by column of sensor_readings, and what it takes."""
    fields = [("fields", ">i2")]
    for name in columns:
        fields += [(f"{name}_length", ">i4"), (name, _TYPES[name])]
    rows = np.empty(len(next(iter(columns.values()))), dtype=fields)
    rows["fields"] = len(columns)
    for name, values in columns.items():
        rows[f"{name}_length"] = np.dtype(_TYPES[name]).itemsize
        rows[name] = values
    statement = f"COPY iot_service.sensor_readings ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    return statement, b"".join((HEADER, rows.tobytes(), TRAILER))


@dataclass(frozen=True, slots=True)
class Corrections:
    """Of n readings. raw: values that arrived (float64), NaN where they are the values; revisions (int32), 0: none."""

    raw: Float64s
    revisions: Int32s

    def where(self, mask: Bools | Int64s | slice) -> "Corrections":
        return Corrections(self.raw[mask], self.revisions[mask])

    @classmethod
    def joined(cls, parts: Sequence[tuple["Corrections | None", int]]) -> "Corrections | None":
        """Of parts with so many readings each; None where none of them has any."""
        if all(part is None for part, _ in parts):
            return None
        return cls(
            np.concatenate([np.full(n, np.nan) if part is None else part.raw for part, n in parts]),
            np.concatenate([np.zeros(n, np.int32) if part is None else part.revisions for part, n in parts]),
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """n readings: times_us int64 Unix µs, series_ids int32, values float64, reliability and causes int32.

    corrected: where a rule reaches some of them.
    """

    times_us: Int64s
    series_ids: Int32s
    values: Float64s
    reliability: Int32s
    causes: Int32s
    corrected: Corrections | None = None

    def __len__(self) -> int:
        return len(self.times_us)

    def where(self, mask: Bools | Int64s | slice) -> "Rows":
        """Only the rows that the mask names, or those at these positions, in their order."""
        return Rows(
            self.times_us[mask],
            self.series_ids[mask],
            self.values[mask],
            self.reliability[mask],
            self.causes[mask],
            None if self.corrected is None else self.corrected.where(mask),
        )

    @classmethod
    def joined(cls, parts: list["Rows"]) -> "Rows":
        """All rows of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(
                np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0, np.int32), np.empty(0, np.int32)
            )
        return cls(
            np.concatenate([p.times_us for p in parts]),
            np.concatenate([p.series_ids for p in parts]),
            np.concatenate([p.values for p in parts]),
            np.concatenate([p.reliability for p in parts]),
            np.concatenate([p.causes for p in parts]),
            Corrections.joined([(p.corrected, len(p)) for p in parts]),
        )

    def by_series(self) -> "Rows":
        """The same, each series' together and in the order of time.

        So they go into the table: who reads a series' day then reads few pages, and the index fills its own.
        """
        return self.where(np.lexsort((self.times_us, self.series_ids)))

    def copies(self, created_us: Int64s | None = None) -> Iterator[tuple[str, bytes]]:
        """Each COPY that writes them, and what it takes: one, unless rules reach some of them.

        created_us: when they were written first, Unix µs; None: that is now.

        A null has no bytes in a COPY, and rows of one width need no loop: so each kind of row has a COPY of its own.
        """
        created: dict[str, Column] = {} if created_us is None else {"created_at": created_us - POSTGRES_EPOCH_US}
        if self.corrected is None:
            yield copy_rows_of(self._columns() | created)
            return
        changed = np.isfinite(self.corrected.raw)
        followed = self.corrected.revisions > 0
        for chosen, columns in (
            (~followed, ()),
            (followed & ~changed, ("revision",)),
            (changed, ("revision", "raw_value")),
        ):
            if chosen.any():
                part = self.where(chosen)
                assert part.corrected is not None
                own: dict[str, Column] = {"revision": part.corrected.revisions, "raw_value": part.corrected.raw}
                since = {name: column[chosen] for name, column in created.items()}
                yield copy_rows_of(part._columns() | since | {name: own[name] for name in columns})

    def _columns(self) -> dict[str, Column]:
        return {
            "recorded_at": self.times_us - POSTGRES_EPOCH_US,
            "value": self.values,
            "series_id": self.series_ids,
            "causes": self.causes,
            "reliability": self.reliability,
        }

    def latest(self) -> "Rows":
        """The newest row of each series, in order of series; of rows that are `by_series`."""
        last = np.ones(len(self), dtype=np.bool_)
        last[:-1] = self.series_ids[1:] != self.series_ids[:-1]
        return self.where(last)
