"""From a batch's bytes to NumPy columns: no Python loop per reading.

`wire.decode` and `open_body` are apart because a batch that the ledger has already is never unpacked.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.link import wire
from gateway.link.anchor import clock_penalty
from gateway.link.errors import UnusableBatch
from gateway.link.wire import Batch, Gap, Kind

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """The readings of one data batch, n of each.

    times_us: int64, Unix µs; series: int32, index into the batch's table; values: float64;
    reliability: int32, 0…100; causes: int32, bits. table: the packed series table, as it came.
    frames: raw bytes of readings that could not be decoded, by index.
    """

    table: bytes
    times_us: Int64s
    series: Int32s
    values: Float64s
    reliability: Int32s
    causes: Int32s
    frames: dict[int, bytes]


def open_body(batch: Batch) -> Columns | list[Gap]:
    """The columns of a data batch, the gaps of a gap batch. Raises UnusableBatch."""
    content = wire.unpack(batch)
    if batch.envelope.kind == Kind.GAP:
        return wire.decode_gaps(content)
    return _columns(batch, content)


def _columns(batch: Batch, content: dict[str, object]) -> Columns:
    n = batch.envelope.readings
    table = content.get("series")
    if not isinstance(table, bytes):
        raise UnusableBatch("`series` is missing or not binary")
    deltas = np.frombuffer(_column(content, "t", 8 * n), dtype="<i8")
    offset = batch.envelope.anchor.offset_us
    if abs(offset) >= 2**62 or _may_overflow(deltas):
        raise UnusableBatch("`t` leaves the range of 64-bit microseconds")
    series = np.frombuffer(_column(content, "s", 2 * n), dtype="<u2").astype(np.int32)
    reliability = np.frombuffer(_column(content, "q", n), dtype="u1").astype(np.int32)
    if int(reliability.max()) > 100:
        raise UnusableBatch("`q` holds a reliability above 100")
    if "c" in content:
        causes = np.frombuffer(_column(content, "c", 4 * n), dtype="<u4").astype(np.int32)
    else:
        causes = np.zeros(n, dtype=np.int32)
    cap, cause = clock_penalty(batch.envelope.anchor)
    return Columns(
        table,
        np.cumsum(deltas) + offset,
        series,
        np.frombuffer(_column(content, "v", 8 * n), dtype="<f8"),
        np.minimum(reliability, cap),
        causes | np.int32(cause),
        _frames(content.get("frames"), n),
    )


def _column(content: dict[str, object], key: str, length: int) -> bytes:
    column = content.get(key)
    if not isinstance(column, bytes) or len(column) != length:
        size = len(column) if isinstance(column, bytes) else "no"
        raise UnusableBatch(f"column `{key}` has {size} bytes, not {length}")
    return column


def _may_overflow(deltas: Int64s) -> bool:
    # In floating point the sum cannot wrap around; its error is far below the bound's distance.
    return bool(np.abs(np.cumsum(deltas.astype(np.float64))).max() >= 2.0**62)


def _frames(found: object, n: int) -> dict[int, bytes]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UnusableBatch("`frames` is not a map")
    for index, frame in found.items():
        if type(index) is not int or not 0 <= index < n or not isinstance(frame, bytes):
            raise UnusableBatch("`frames` is not a map from index to bytes")
    return found
