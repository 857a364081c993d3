"""What becomes of each batch: rows to write, gaps to enter, readings or whole batches to quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.link.errors import UnusableBatch
from gateway.link.wire import Batch, Gap, decode_series
from ingest_server.decoder import Bools, Columns, open_body
from ingest_server.redaction import redacted
from ingest_server.screening import AcceptedTime, kept_frames, rejected, screen, span_us
from ingest_server.source import Delivery
from ingest_server.storage.line.catalogue import Table
from ingest_server.storage.line.erased import forbidden
from ingest_server.storage.line.group import ERASED, Entry, Rejection
from ingest_server.storage.line.liveness import held_instances
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import Rules
from ingest_server.storage.line.writer import Writer

REFUSED = "refused_by_database"

_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery whose envelope has been read."""

    delivery: Delivery
    batch: Batch


async def judge(
    writer: Writer, fresh: Sequence[tuple[int, Opened]], accepted: AcceptedTime, now_s: float
) -> list[Entry]:
    """One entry for each batch (gateway's number, batch). Series are registered by it. Raises StorageUnavailable."""
    held = await held_instances(writer.connection)
    bodies = [_body(o.batch) for _, o in fresh]
    # A box that is held back claims no devices. Its gaps are taken: they name epochs of its own alone, and waiting in
    # quarantine their seqs would be presumed lost meanwhile.
    apart = [
        (number, o.batch.envelope.instance) in held and not isinstance(body, list)
        for (number, o), body in zip(fresh, bodies, strict=True)
    ]
    wanted = [
        (o.delivery.gateway, body.table)
        for (_, o), body, is_apart in zip(fresh, bodies, apart, strict=True)
        if isinstance(body, Columns) and not is_apart
    ]
    tables = await writer.catalogue.tables(wanted, now_s)
    rules = writer.catalogue.rules.number
    entries = []
    for (number, o), body, is_apart in zip(fresh, bodies, apart, strict=True):
        if isinstance(body, list):
            entries.append(Entry(number, o.batch.envelope, o.delivery.payload, gaps=tuple(body), rules=rules))
        elif is_apart:
            entries.append(_apart(number, o, body, writer.catalogue.rules))
        elif isinstance(body, UnusableBatch):
            entries.append(_whole(number, o, "unusable", str(body), rules))
        else:
            table = tables[o.delivery.gateway, body.table]
            entry = _data(number, o, body, table, accepted, rules)
            if body.frames and entry.rows is not None and isinstance(table, Table):
                entry = replace(entry, frames=kept_frames(body, table, accepted, everything=writer.keep_frames))
            entries.append(entry)
    return entries


def refused(entry: Entry, detail: str) -> Entry:
    """The same batch, to be quarantined whole since the database refuses it."""
    span = span_us(entry.rows.times_us) if entry.rows is not None else None
    erased = tuple(r for r in entry.rejections if r.reason == ERASED)
    readings = entry.envelope.readings - sum(r.readings for r in erased)
    rejection = Rejection(REFUSED, detail[:_DETAIL], readings, None, span)
    return replace(entry, rows=None, gaps=(), rejections=(*erased, rejection), frames=())


def is_refused(entry: Entry) -> bool:
    """Whether there is nothing in it that `refused` could quarantine: it was, or all of it is erased."""
    reasons = {r.reason for r in entry.rejections}
    return entry.rows is None and bool(reasons) and reasons <= {REFUSED, ERASED}


def _body(batch: Batch) -> Columns | list[Gap] | UnusableBatch:
    try:
        return open_body(batch)
    except UnusableBatch as error:
        return error


def _whole(number: int, o: Opened, reason: str, detail: str, rules: int, span: tuple[int, int] | None = None) -> Entry:
    rejection = Rejection(reason, detail[:_DETAIL], o.batch.envelope.readings, None, span)
    return Entry(number, o.batch.envelope, o.delivery.payload, rejections=(rejection,), rules=rules)


def _apart(number: int, o: Opened, body: Columns | UnusableBatch, rules: Rules) -> Entry:
    """Of a box that is held back: all that no erasure names waits."""
    reason, detail = "identity_conflict", "another box speaks under this name"
    if isinstance(body, UnusableBatch):
        return _whole(number, o, reason, detail, rules.number)
    try:
        gone = forbidden(body, rules.erased.of_table(o.delivery.gateway, decode_series(body.table)))
    except UnusableBatch:
        return _whole(number, o, reason, detail, rules.number)
    return _held_back(number, o, body, gone, reason, detail, rules.number)


def _held_back(number: int, o: Opened, columns: Columns, gone: Bools, reason: str, detail: str, rules: int) -> Entry:
    """None of it is written; what is erased of it is not kept, either."""
    if not gone.any():
        return _whole(number, o, reason, detail, rules, span_us(columns.times_us))
    rejections = (*rejected(ERASED, "", gone, columns.times_us), *rejected(reason, detail, ~gone, columns.times_us))
    return _entry(number, o, columns, None, rejections, rules)


def _data(
    number: int, o: Opened, columns: Columns, table: Table | UnusableBatch, accepted: AcceptedTime, rules: int
) -> Entry:
    if isinstance(table, UnusableBatch):
        return _whole(number, o, "unusable", str(table), rules)
    if int(columns.series.max()) >= len(table.ids):
        detail = f"reading of series {int(columns.series.max())}, the table has {len(table.ids)}"
        return _held_back(number, o, columns, forbidden(columns, table.erased), "unusable", detail, rules)
    rows, rejections = screen(columns, table, accepted)
    return _entry(number, o, columns, rows, rejections, rules)


def _entry(
    number: int, o: Opened, columns: Columns, rows: Rows | None, rejections: tuple[Rejection, ...], rules: int
) -> Entry:
    """Its payload is without what is erased: quarantine would keep it with whatever else of the batch is rejected."""
    payload = o.delivery.payload
    erased = [r for r in rejections if r.reason == ERASED]
    if erased:
        kept = np.ones(len(columns.times_us), dtype=np.bool_)
        kept[[n for r in erased for n in r.indices or ()]] = False
        place = np.cumsum(kept) - 1
        others = [r for r in rejections if r.reason != ERASED]
        moved = [replace(r, indices=tuple(place[list(r.indices or ())].tolist())) for r in others]
        payload, rejections = redacted(o.batch, columns, kept) if kept.any() else b"", (*erased, *moved)
    return Entry(number, o.batch.envelope, payload, rows, rejections=rejections, rules=rules)
