"""Looking at what is in quarantine, and trying it again after a fix."""

from dataclasses import dataclass, replace

import numpy as np

from device_drivers.reading import Series
from firmware_profiles.selection import ProfileSet
from gateway.link import wire
from gateway.link.errors import UnusableBatch, WireError
from gateway.link.wire import Batch, Gap
from ingest_server.decoder import Bools, Columns, open_body
from ingest_server.errors import BatchRejected
from ingest_server.raw_frames import DecodedFrames, decode_frames
from ingest_server.screening import AcceptedTime, rows_of, screen, span_us
from ingest_server.storage.erasure.quarantine import erase_entry
from ingest_server.storage.line.catalogue import Table
from ingest_server.storage.line.group import Rejection
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.quarantine import entries
from ingest_server.storage.quarantine.entries import Quarantined

_OVERTAKEN = "was replayed by another command meanwhile"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one entry: readings committed now, readings that stay, and why.

    gaps: how many were settled. erased: readings that an erasure forbids, dropped.
    """

    quarantine_id: int
    committed: int
    left: int
    why: str
    gaps: int = 0
    erased: int = 0


def describe(entry: Quarantined, payload: bytes, most: int = 20) -> dict[str, object]:
    """The payload as far as it decodes: envelope, series, and the first of the readings that are held.

    Where it ceases to decode, `fault` names the part, the byte of the payload at which that part begins, and why.
    """
    found: dict[str, object] = {"bytes": len(payload)}
    part, at = "envelope", 0
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
        part, at = "body", len(payload) - len(batch.body.stored)
        content = wire.unpack(batch)
        found["keys"] = [str(key) for key in content]
        part = "columns"
        body = open_body(batch)
        if not isinstance(body, Columns):
            found["gaps"] = [_shown_gap(g) for g in body]
            return found
        part = "series"
        series = wire.decode_series(body.table)
        part = "readings"
        held = range(e.readings) if entry.indices is None else entry.indices
        found["readings"] = [_shown_reading(body, series, n) for n in list(held)[:most]]
    except (WireError, IndexError) as error:
        found["fault"] = {"part": part, "at_byte": at, "why": str(error)}
    return found


def _shown_gap(gap: Gap) -> dict[str, object]:
    return {
        "reason": gap.reason,
        "epoch": f"{gap.epoch:016x}" if gap.epoch else None,
        "seqs": [gap.first, gap.first + len(gap.counts)] if gap.counts else None,
        "readings": sum(gap.counts) if gap.counts else gap.readings,
    }


def _shown_reading(body: Columns, series: list[Series], n: int) -> dict[str, object]:
    s = series[body.series[n]]
    return {
        "index": n,
        "device": s.device,
        "channel": s.channel,
        "value": repr(float(body.values[n])),
        "unit": s.unit,
        "firmware": s.firmware,
        "recorded_at_us": int(body.times_us[n]),
        "frame": body.frames[n].hex(" ") if n in body.frames else None,
    }


def times_us(entry: Quarantined, payload: bytes) -> tuple[int, int] | None:
    """First and last time of the readings that an entry holds, Unix µs; None where that is not known."""
    try:
        body = open_body(wire.decode(payload, entry.gateway))
    except WireError:
        return None
    if not isinstance(body, Columns):
        return None
    return span_us(body.times_us[entries.held(entry, body)])


async def replay(
    writer: Writer,
    entry: Quarantined,
    payload: bytes,
    *,
    accepted: AcceptedTime,
    profiles: ProfileSet,
    now_s: float,
) -> Replayed:
    """Tries an entry again as this version would: what is sound now commits, the rest stays, but for what is erased.

    Raises StorageError.
    """
    if entry.replayed_at is not None:
        return Replayed(entry.quarantine_id, 0, 0, "was replayed before")
    rules, erased = writer.catalogue.rules, 0
    while True:
        await rules.follow(writer.connection)
        if rules.erased:
            # An erasure does so itself; it may be under way, or was cut off.
            erased += await erase_entry(writer.connection, rules.erased, entry.quarantine_id) or 0
            found = await entries.read_entry(writer.connection, entry.quarantine_id)
            if found is None:
                return Replayed(entry.quarantine_id, 0, 0, "", erased=erased)
            entry, payload = found
        try:
            replayed = await _replay(writer, entry, payload, accepted, profiles, now_s)
        except RulesChanged:
            continue
        return replace(replayed, erased=erased)


async def _replay(
    writer: Writer,
    entry: Quarantined,
    payload: bytes,
    accepted: AcceptedTime,
    profiles: ProfileSet,
    now_s: float,
) -> Replayed:
    try:
        batch = wire.decode(payload, entry.gateway)
        body = open_body(batch)
        if isinstance(body, Columns):
            return await _replay_data(writer, entry, batch, body, accepted, profiles, now_s)
        return await _replay_gaps(writer, entry, body)
    except (WireError, BatchRejected) as error:
        return Replayed(entry.quarantine_id, 0, entry.readings, str(error))


async def _replay_gaps(writer: Writer, entry: Quarantined, gaps: list[Gap]) -> Replayed:
    if await entries.release_gaps(writer.connection, entry, gaps):
        return Replayed(entry.quarantine_id, 0, 0, "", len(gaps))
    return Replayed(entry.quarantine_id, 0, 0, _OVERTAKEN)


async def _replay_data(
    writer: Writer,
    entry: Quarantined,
    batch: Batch,
    columns: Columns,
    accepted: AcceptedTime,
    profiles: ProfileSet,
    now_s: float,
) -> Replayed:
    # Before anything is screened: the catalogue follows what comes into force meanwhile.
    rules = writer.catalogue.rules.number
    series = wire.decode_series(columns.table)
    if int(columns.series.max()) >= len(series):
        raise UnusableBatch(f"reading of series {int(columns.series.max())}, the table has {len(series)}")
    held = entries.held(entry, columns)
    frames = decode_frames(columns, series, np.flatnonzero(held).tolist(), batch.envelope.anchor, profiles)
    plain = held.copy()
    parts: list[_Part] = []
    if frames is not None:
        plain[frames.of] = False
        table = await writer.catalogue.table(entry.gateway, frames.series, now_s)
        parts.append(_frames_part(frames, table, accepted))
    if plain.any():
        table = await writer.catalogue.table(entry.gateway, series, now_s)
        parts.append(_plain_part(columns, plain, table, accepted))
    why = "; ".join(f"{r.readings} × {r.reason}: {r.detail}" for part in parts for r in part.rejections)
    left = sorted(n for part in parts for n in part.left)
    rows = Rows.joined([part.rows for part in parts if part.rows is not None])
    if not len(rows):
        return Replayed(entry.quarantine_id, 0, entry.readings, why)
    if not await entries.release(writer.connection, writer.partitions, entry, rows, tuple(left), rules):
        return Replayed(entry.quarantine_id, 0, 0, _OVERTAKEN)
    return Replayed(entry.quarantine_id, entry.readings - len(left), len(left), why)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some readings of an entry: the rows that they become, and which of them (index in the batch) stay, and why."""

    rows: Rows | None
    left: list[int]
    rejections: tuple[Rejection, ...]


def _plain_part(columns: Columns, chosen: Bools, table: Table, accepted: AcceptedTime) -> _Part:
    only = Columns(
        columns.table,
        columns.times_us[chosen],
        columns.series[chosen],
        columns.values[chosen],
        columns.reliability[chosen],
        columns.causes[chosen],
        {},
    )
    rows, rejections = screen(only, table, accepted)
    positions = np.flatnonzero(chosen)
    return _Part(rows, [int(positions[n]) for r in rejections for n in r.indices or ()], rejections)


def _frames_part(frames: DecodedFrames, table: Table, accepted: AcceptedTime) -> _Part:
    """A frame is one reading of the books: it is released whole, or it stays."""
    _, rejections = screen(frames.columns, table, accepted)
    left = sorted({int(frames.of[n]) for r in rejections for n in r.indices or ()})
    whole = ~np.isin(frames.of, left)
    rows = rows_of(frames.columns, table)
    return _Part(rows.where(whole) if whole.any() else None, left, rejections)
