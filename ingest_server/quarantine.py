"""Looking at what is in quarantine, and trying it again after a fix."""

from dataclasses import dataclass

import numpy as np

from gateway.link import wire
from gateway.link.errors import UnusableBatch, WireError
from ingest_server.decoder import Columns, open_body
from ingest_server.screening import AcceptedTime, screen
from ingest_server.storage import quarantine
from ingest_server.storage.quarantine import Quarantined
from ingest_server.storage.writer import Writer


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one entry: readings committed now, readings that stay, and why."""

    quarantine_id: int
    committed: int
    left: int
    why: str


def describe(entry: Quarantined, payload: bytes, most: int = 20) -> dict[str, object]:
    """The payload as far as it decodes: envelope, series, and the first of the readings that are held."""
    found: dict[str, object] = {"bytes": len(payload), "hex": payload[:256].hex(" ")}
    try:
        batch = wire.decode(payload, entry.gateway)
        e = batch.envelope
        found["envelope"] = {
            "kind": e.kind,
            "epoch": f"{e.epoch:016x}",
            "seq": e.seq,
            "readings": e.readings,
            "instance": f"{e.instance:016x}",
            "clock": {
                "offset_us": e.anchor.offset_us,
                "uncertainty_us": e.anchor.uncertainty_us,
                "source": int(e.anchor.source),
            },
        }
        body = open_body(batch)
        if not isinstance(body, Columns):
            found["gaps"] = [{"reason": g.reason, "epoch": f"{g.epoch:016x}", "first": g.first} for g in body]
            return found
        series = wire.decode_series(body.table)
        held = range(e.readings) if entry.indices is None else entry.indices
        found["readings"] = [
            {
                "index": n,
                "device": series[body.series[n]].device,
                "channel": series[body.series[n]].channel,
                "value": repr(float(body.values[n])),
                "unit": series[body.series[n]].unit,
                "firmware": series[body.series[n]].firmware,
                "recorded_at_us": int(body.times_us[n]),
                "frame": body.frames[n].hex(" ") if n in body.frames else None,
            }
            for n in list(held)[:most]
        ]
    except (WireError, IndexError) as error:
        found["fault"] = str(error)
    return found


async def replay(
    writer: Writer, entry: Quarantined, payload: bytes, *, accepted: AcceptedTime, now_s: float
) -> Replayed:
    """Tries an entry again as this version would: what is sound now commits, the rest stays. Raises StorageError."""
    stays = Replayed(entry.quarantine_id, 0, entry.readings, "")
    if entry.replayed_at is not None:
        return Replayed(entry.quarantine_id, 0, 0, "was replayed before")
    try:
        batch = wire.decode(payload, entry.gateway)
        columns = open_body(batch)
    except WireError as error:
        return _why(stays, str(error))
    if not isinstance(columns, Columns):
        return _why(stays, "is a gap, which holds no readings")
    table = (await writer.catalogue.tables([(entry.gateway, columns.table)], now_s))[entry.gateway, columns.table]
    if isinstance(table, UnusableBatch):
        return _why(stays, str(table))
    if int(columns.series.max()) >= len(table.ids):
        return _why(stays, "a reading names a series that its table does not have")
    held = np.zeros(len(columns.times_us), dtype=np.bool_)
    held[list(entry.indices) if entry.indices is not None else slice(None)] = True
    only = Columns(
        columns.table,
        columns.times_us[held],
        columns.series[held],
        columns.values[held],
        columns.reliability[held],
        columns.causes[held],
        {},
    )
    rows, rejections = screen(only, table, accepted)
    why = "; ".join(f"{r.readings} × {r.reason}: {r.detail}" for r in rejections)
    if rows is None:
        return _why(stays, why)
    positions = np.flatnonzero(held)
    left = tuple(int(positions[n]) for r in rejections for n in r.indices or ())
    if not await quarantine.release(writer.connection, writer.partitions, entry, rows, tuple(sorted(left))):
        return Replayed(entry.quarantine_id, 0, 0, "was replayed by another command meanwhile")
    return Replayed(entry.quarantine_id, len(rows), len(left), why)


def _why(stays: Replayed, why: str) -> Replayed:
    return Replayed(stays.quarantine_id, 0, stays.left, why)
