"""What becomes of each batch: rows to write, gaps to enter, readings or whole batches to quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.link.errors import UnusableBatch
from gateway.link.wire import Batch, Gap
from ingest_server.decoder import Columns, open_body
from ingest_server.screening import AcceptedTime, screen, span_us
from ingest_server.source import Delivery
from ingest_server.storage.catalogue import Table
from ingest_server.storage.group import ERASED, Entry, Rejection
from ingest_server.storage.liveness import held_instances
from ingest_server.storage.writer import Writer

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
    rules = writer.catalogue.erased.number
    entries = []
    for (number, o), body, is_apart in zip(fresh, bodies, apart, strict=True):
        if is_apart:
            detail = "another box speaks under this name"
            span = span_us(body.times_us) if isinstance(body, Columns) else None
            entries.append(_whole(number, o, "identity_conflict", detail, span))
        elif isinstance(body, UnusableBatch):
            entries.append(_whole(number, o, "unusable", str(body)))
        elif isinstance(body, Columns):
            entries.append(_data(number, o, body, tables[o.delivery.gateway, body.table], accepted, rules))
        else:
            entries.append(Entry(number, o.batch.envelope, o.delivery.payload, gaps=tuple(body)))
    return entries


def refused(entry: Entry, detail: str) -> Entry:
    """The same batch, to be quarantined whole since the database refuses it."""
    span = span_us(entry.rows.times_us) if entry.rows is not None else None
    reason = ERASED if entry.has_erased else REFUSED
    rejection = Rejection(reason, detail[:_DETAIL], entry.envelope.readings, None, span)
    return replace(entry, rows=None, gaps=(), rejections=(rejection,))


def is_refused(entry: Entry) -> bool:
    """Whether `refused` made it."""
    return entry.rows is None and any(r.reason in (REFUSED, ERASED) and r.indices is None for r in entry.rejections)


def _body(batch: Batch) -> Columns | list[Gap] | UnusableBatch:
    try:
        return open_body(batch)
    except UnusableBatch as error:
        return error


def _whole(number: int, o: Opened, reason: str, detail: str, span: tuple[int, int] | None = None) -> Entry:
    rejection = Rejection(reason, detail[:_DETAIL], o.batch.envelope.readings, None, span)
    return Entry(number, o.batch.envelope, o.delivery.payload, rejections=(rejection,))


def _data(
    number: int, o: Opened, columns: Columns, table: Table | UnusableBatch, accepted: AcceptedTime, rules: int
) -> Entry:
    if isinstance(table, UnusableBatch):
        return _whole(number, o, "unusable", str(table))
    if int(columns.series.max()) >= len(table.ids):
        detail = f"reading of series {int(columns.series.max())}, the table has {len(table.ids)}"
        return _whole(number, o, "unusable", detail)
    rows, rejections = screen(columns, table, accepted)
    return Entry(number, o.batch.envelope, o.delivery.payload, rows, rejections=rejections, rules=rules)
