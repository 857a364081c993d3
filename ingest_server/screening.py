"""Which readings may be written: the impossible ones are quarantined one by one, the rest commits."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from gateway.link.wire import decode_series
from ingest_server.decoder import Bools, Columns, Int64s
from ingest_server.storage.frames.keeping import FrameBlock
from ingest_server.storage.line.catalogue import REFUSED, Table
from ingest_server.storage.line.corrected import meant
from ingest_server.storage.line.erased import forbidden
from ingest_server.storage.line.group import ERASED, Rejection
from ingest_server.storage.line.rows import Corrections, Rows
from ingest_server.storage.line.values import UNSUMMABLE, summable

FUTURE_US = 300 * 1_000_000
"""A reading may be this far ahead of the server's clock."""

_KNOWN_DETAIL = 200


def date(us: int) -> str:
    """Unix µs as a date in UTC; as the number where no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us):%Y-%m-%d %H:%M:%S.%fZ}"
    except OverflowError:
        return f"{us} µs"


@dataclass(frozen=True, slots=True)
class AcceptedTime:
    """[earliest_us, latest_us], Unix µs: what raw retention keeps, up to a little ahead of now."""

    earliest_us: int
    latest_us: int

    @classmethod
    def at(cls, now_us: int, retention_days: int, horizon_us: int = 0) -> "AcceptedTime":
        """horizon_us: where the months begin that have not been archived; a reading before it would bring one back."""
        return cls(max(now_us - retention_days * 86_400_000_000, horizon_us), now_us + FUTURE_US)


def rows_of(columns: Columns, table: Table) -> Rows:
    """All readings of a batch as rows, whether they may be written or not; by the rules of the table."""
    ids, found = table.ids[columns.series], meant(columns, table.corrected)
    if found is None:
        return Rows(columns.times_us, ids, columns.values, columns.reliability, columns.causes)
    corrections = Corrections(found.raw, found.revisions)
    return Rows(columns.times_us, ids, found.values, columns.reliability, columns.causes, corrections)


def screen(columns: Columns, table: Table, accepted: AcceptedTime) -> tuple[Rows | None, tuple[Rejection, ...]]:
    """Splits a batch, whose readings name series of the table only, into rows to write and readings to quarantine."""
    ids = table.ids[columns.series]
    erased = forbidden(columns, table.erased)
    rows = rows_of(columns, table)
    good = (
        (ids != REFUSED)
        & summable(columns.values)
        & (columns.times_us >= accepted.earliest_us)
        & (columns.times_us <= accepted.latest_us)
        & ~erased
    )
    if good.all():
        return rows, ()
    rejections = tuple(_rejections(columns, table, erased, ids == REFUSED, accepted))
    return (rows.where(good) if good.any() else None), rejections


def kept_frames(columns: Columns, table: Table, accepted: AcceptedTime, *, everything: bool) -> tuple[FrameBlock, ...]:
    """What is kept of the frames that a batch brings: of readings with a profile, that nothing forbids.

    everything: False: only what a decoder that stands will read, whenever its readings are computed again.
    """
    carriers = np.fromiter(columns.frames, np.int64, len(columns.frames))
    series, times_us = columns.series[carriers], columns.times_us[carriers]
    good = (
        (table.ids[series] != REFUSED)
        & (times_us >= accepted.earliest_us)
        & (times_us <= accepted.latest_us)
        & ~forbidden(columns, table.erased)[carriers]
    )
    decoded = {} if table.corrected is None else table.corrected.decoded
    named = decode_series(columns.table)
    blocks: dict[int, list[tuple[int, bytes]]] = {}
    for n, number, at_us in zip(carriers[good].tolist(), series[good].tolist(), times_us[good].tolist(), strict=True):
        if named[number].profile and (everything or number in decoded):
            blocks.setdefault(number, []).append((at_us, columns.frames[n]))
    return tuple(
        FrameBlock(int(table.ids[number]), named[number].profile, named[number].firmware, tuple(frames))
        for number, frames in blocks.items()
    )


def _rejections(
    columns: Columns, table: Table, erased: Bools, refused: Bools, accepted: AcceptedTime
) -> Iterator[Rejection]:
    """One for each reason; a reading that is wrong in several ways counts for the first."""
    # First of all: in quarantine it would be kept.
    yield from rejected(ERASED, "an erasure forbids to keep it", erased, columns.times_us)
    left = ~erased
    # By reason, not by series: each entry keeps the whole payload, and a batch may name thousands of series.
    by_reason: dict[str, list[int]] = {}
    for number, refusal in table.refusals.items():
        by_reason.setdefault(refusal.reason, []).append(number)
    for reason, numbers in by_reason.items():
        bad = refused & left & np.isin(columns.series, numbers)
        left &= ~bad
        yield from rejected(reason, table.refusals[numbers[0]].detail, bad, columns.times_us)
    checks = (
        ("value_not_finite", ~summable(columns.values), UNSUMMABLE),
        ("time_too_old", columns.times_us < accepted.earliest_us, f"before {date(accepted.earliest_us)} (retention)"),
        ("time_in_future", columns.times_us > accepted.latest_us, f"after {date(accepted.latest_us)} (now + 5 min)"),
    )
    for reason, mask, detail in checks:
        bad = mask & left
        left &= ~bad
        yield from rejected(reason, detail, bad, columns.times_us)


def rejected(reason: str, detail: str, bad: Bools, times_us: Int64s) -> Iterator[Rejection]:
    """One of the readings that are bad (n bools), unless there are none. times_us: of all n."""
    indices = tuple(np.flatnonzero(bad).tolist())
    if indices:
        yield Rejection(reason, detail[:_KNOWN_DETAIL], len(indices), indices, span_us(times_us[bad]))


def span_us(times_us: Int64s) -> tuple[int, int]:
    """First and last of times, Unix µs; at least one."""
    return int(times_us.min()), int(times_us.max())
