"""Readings of a whole group as columns, and as the bytes of a binary COPY. No Python loop per reading."""

from dataclasses import dataclass

import numpy as np

from ingest_server.decoder import Bools, Float64s, Int32s, Int64s

POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's timestamps count from, in Unix µs

# The binary COPY format, as PostgreSQL's manual has it (COPY, "Binary Format"): a signature, flags, an extension
# length; for each row the number of fields, and for each field its length and its big-endian bytes; a trailer.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("recorded_at_length", ">i4"),
        ("recorded_at", ">i8"),
        ("value_length", ">i4"),
        ("value", ">f8"),
        ("series_id_length", ">i4"),
        ("series_id", ">i4"),
        ("causes_length", ">i4"),
        ("causes", ">i4"),
        ("reliability_length", ">i4"),
        ("reliability", ">i2"),
    ]
)

COPY = (
    "COPY iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability) FROM STDIN (FORMAT binary)"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """n readings: times_us int64 Unix µs, series_ids int32, values float64, reliability and causes int32."""

    times_us: Int64s
    series_ids: Int32s
    values: Float64s
    reliability: Int32s
    causes: Int32s

    def __len__(self) -> int:
        return len(self.times_us)

    def where(self, mask: Bools | Int64s | slice) -> "Rows":
        """Only the rows that the mask names, or those at these positions, in their order."""
        return Rows(
            self.times_us[mask], self.series_ids[mask], self.values[mask], self.reliability[mask], self.causes[mask]
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
        )

    def by_series(self) -> "Rows":
        """The same, each series' together and in the order of time.

        So they go into the table: who reads a series' day then reads few pages, and the index fills its own.
        """
        return self.where(np.lexsort((self.times_us, self.series_ids)))

    def copy_bytes(self) -> bytes:
        """What `COPY` takes."""
        rows = np.empty(len(self), dtype=_ROW)
        rows["fields"] = 5
        rows["recorded_at_length"] = rows["value_length"] = 8
        rows["series_id_length"] = rows["causes_length"] = 4
        rows["reliability_length"] = 2
        rows["recorded_at"] = self.times_us - POSTGRES_EPOCH_US
        rows["value"] = self.values
        rows["series_id"] = self.series_ids
        rows["causes"] = self.causes
        rows["reliability"] = self.reliability
        return b"".join((HEADER, rows.tobytes(), TRAILER))

    def latest(self) -> "Rows":
        """The newest row of each series, in order of series; of rows that are `by_series`."""
        last = np.ones(len(self), dtype=np.bool_)
        last[:-1] = self.series_ids[1:] != self.series_ids[:-1]
        return self.where(last)
