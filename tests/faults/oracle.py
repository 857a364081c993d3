"""What must be in the database, worked out from what gateways sealed; and the comparison with what is there.

Sealed is what was seen of a batch on its way to the broker, or in a copy of a spool file: the union of both, since a
spool frees what is settled, and a batch that is dropped may never have been sent. One identity with two bodies is an
error wherever it is met.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.errors import WireError
from gateway.link.wire import Batch, Body, Envelope, Kind
from ingest_server.decoder import Columns, open_body
from tests.faults.signal_frames import CHANNELS, FRAMES, numbers

Codes = npt.NDArray[np.int64]
Identity = tuple[str, int, int]
"""(gateway, epoch, seq)"""

_SEQ = 2**40 - 1
_ANCHOR = Anchor(0, 0, ClockSource.KERNEL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison, in readings. lost: sealed, and neither in the table nor told to be missing. duplicates: rows
    beyond the first of a reading. foreign: rows that nobody sealed. destroyed: sealed in a spool that was damaged
    before the gateway could tell of them, so that no book has ever had them. balanced: by `audit`, and the counters
    of the ledger are the rows that there are."""

    sealed: int
    committed: int
    quarantined: int
    lost: int
    duplicates: int
    foreign: int
    dropped_with_gap: int
    presumed_lost: int
    destroyed: int
    balanced: bool
    complaints: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return self.balanced and not (self.lost or self.duplicates or self.foreign or self.complaints)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Oracle:
    """Collects what was sealed. `heard` may be called from any thread."""

    def __init__(self) -> None:
        self._sealed: dict[Identity, tuple[int, Codes]] = {}
        self._endangered: set[Identity] = set()
        self._complaints: list[str] = []

    def heard(self, topic: str, payload: bytes) -> None:
        """A batch on its way to the broker."""
        gateway = topic.removesuffix("/batch").split("/", 2)[2]
        try:
            batch = wire.decode(payload, gateway)
        except WireError as error:
            self._complaints.append(f"{gateway} sent what is no batch: {error}")
            return
        self._enter(batch)

    def look_into(self, gateway: str, spool: Path, *, endangered: bool) -> None:
        """Every batch that can be read in a copy of a spool file; endangered: the file is about to be damaged.

        A file that was damaged before, and is not salvaged yet, tells what it still can.
        """
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            self._look_into(gateway, spool, endangered=endangered)

    def _look_into(self, gateway: str, spool: Path, *, endangered: bool) -> None:
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT id, epoch, kind, readings, before, encoding, length, crc, body FROM batches"
            )
            for number, epoch, kind, readings, before, encoding, length, crc, body in rows:
                identity = (gateway, epoch, number & _SEQ)
                known = self._sealed.get(identity)
                stored = Body(encoding, body, length, crc)
                if endangered:
                    self._endangered.add(identity)
                if (known is not None and known[0] == crc) or not stored.intact():
                    continue
                envelope = Envelope(Kind(kind), gateway, epoch, number & _SEQ, readings, before, _ANCHOR, 1)
                self._enter(Batch(envelope, stored))

    def _enter(self, batch: Batch) -> None:
        e = batch.envelope
        identity = (e.gateway, e.epoch, e.seq)
        known = self._sealed.get(identity)
        if known is None:
            self._sealed[identity] = batch.body.crc, _codes(batch)
        elif known[0] != batch.body.crc:
            self._complaints.append(f"identity {identity} has two bodies")

    def compare(self, dsn: str, *, audit: str | None) -> Verdict:
        """With the database, once nothing is in flight. audit: what `heal7-iot audit` said, None where all was well."""
        complaints = [*self._complaints, *([audit] if audit is not None else [])]
        with psycopg.connect(dsn) as connection:
            told = _told_missing(connection)
            held = _quarantined(connection)
            table = _table(connection)
            heard = _heard_of(connection)
            books = connection.execute(
                "SELECT g.name, sum(l.sealed), sum(l.committed), sum(l.quarantined), sum(l.dropped), sum(l.lost)"
                " FROM iot_service.ledger l JOIN iot_service.gateways g USING (gateway_id) GROUP BY g.name"
            ).fetchall()
            gaps = connection.execute(
                "SELECT COALESCE(sum(readings) FILTER (WHERE reason <> 'presumed_lost' AND seqs IS NOT NULL), 0),"
                " COALESCE(sum(readings - corrected) FILTER (WHERE reason = 'presumed_lost'), 0)"
                " FROM iot_service.data_gaps"
            ).fetchone()
        assert gaps is not None
        sealed, quarantined, destroyed = 0, 0, 0
        expected = []
        for identity, (_, codes) in self._sealed.items():
            sealed += len(codes)
            if identity in self._endangered and identity[2] >= heard.get(identity[:2], 0):
                destroyed += len(codes)
                continue
            if _holds(told, identity):
                continue
            indices = held.get(identity, np.zeros(0, dtype=np.int64))
            left = np.delete(codes, indices) if indices is not None else codes[:0]
            quarantined += len(codes) - len(left)
            expected.append(left)
        wanted = np.unique(_joined(expected))
        there, counts = np.unique(_joined([table]), return_counts=True)
        lost = len(np.setdiff1d(wanted, there, assume_unique=True))
        foreign = len(np.setdiff1d(there, wanted, assume_unique=True))
        if len(wanted) != sum(map(len, expected)):
            complaints.append("one reading was sealed twice")
        balanced = audit is None
        for name, total, *parts in books:
            if total != sum(parts):
                complaints.append(f"{name}: sealed {total}, but its parts are {[int(p) for p in parts]}")
        committed = sum(int(row[2]) for row in books)
        for what, in_ledger, in_fact in (
            ("committed", committed, int(counts.sum())),
            ("quarantined", sum(int(row[3]) for row in books), quarantined),
            ("dropped", sum(int(row[4]) for row in books), int(gaps[0])),
            ("presumed lost", sum(int(row[5]) for row in books), int(gaps[1])),
        ):
            if in_ledger != in_fact:
                balanced = False
                complaints.append(f"the ledger has {in_ledger} {what}, in fact there are {in_fact}")
        return Verdict(
            sealed=sealed,
            committed=committed,
            quarantined=quarantined,
            lost=lost,
            duplicates=int((counts - 1).sum()),
            foreign=foreign,
            dropped_with_gap=int(gaps[0]),
            presumed_lost=int(gaps[1]),
            destroyed=destroyed,
            balanced=balanced,
            complaints=tuple(complaints),
        )


def _codes(batch: Batch) -> Codes:
    """What each reading is, in order, as one number. Raises ValueError for what no sensor sent."""
    content = open_body(batch)
    if not isinstance(content, Columns):
        return np.zeros(0, dtype=np.int64)
    codes = np.zeros(len(content.values), dtype=np.int64)
    for n, series in enumerate(wire.decode_series(content.table)):
        here = content.series == n
        codes[here] = _series(series.device, series.channel) * FRAMES + numbers(series.channel, content.values[here])
    return codes


def _series(device: str, channel: str) -> int:
    """Devices are called `air-<gateway>-<sensor>`."""
    _, gateway, sensor = device.split("-")
    return (int(gateway) * 100 + int(sensor)) * len(CHANNELS) + CHANNELS.index(channel)


def _joined(parts: Iterable[Codes]) -> Codes:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _table(connection: psycopg.Connection[Any]) -> Codes:
    rows = connection.execute(
        "SELECT d.device, s.channel, array_agg(r.value) FROM iot_service.sensor_readings r"
        " JOIN iot_service.series s USING (series_id) JOIN iot_service.iot_devices d USING (device_id)"
        " GROUP BY d.device, s.channel"
    ).fetchall()
    return _joined(
        _series(device, channel) * FRAMES + numbers(channel, np.array(values, dtype=np.float64))
        for device, channel, values in rows
    )


def _heard_of(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], int]:
    """One more than the highest seq that the server has heard of, by (gateway, epoch)."""
    return {
        (name, epoch): next_seq
        for name, epoch, next_seq in connection.execute(
            "SELECT g.name, l.epoch, l.next_seq"
            " FROM iot_service.ledger l JOIN iot_service.gateways g USING (gateway_id)"
        )
    }


def _told_missing(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """The seqs that a gap names or that are presumed lost, by (gateway, epoch)."""
    told: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for name, epoch, first, end in connection.execute(
        "SELECT g.name, m.epoch, lower(r), upper(r) FROM ("
        " SELECT gateway_id, epoch, seqs FROM iot_service.data_gaps"
        " WHERE seqs IS NOT NULL AND reason <> 'presumed_lost'"
        " UNION ALL SELECT gateway_id, epoch, presumed_lost FROM iot_service.ledger) m"
        " JOIN iot_service.gateways g USING (gateway_id) CROSS JOIN LATERAL unnest(m.seqs) r"
    ):
        told.setdefault((name, epoch), []).append((first, end))
    return told


def _holds(told: dict[tuple[str, int], list[tuple[int, int]]], identity: Identity) -> bool:
    name, epoch, seq = identity
    return any(first <= seq < end for first, end in told.get((name, epoch), ()))


def _quarantined(connection: psycopg.Connection[Any]) -> dict[Identity, Codes | None]:
    """Which readings of a batch are in quarantine; None: all."""
    held: dict[Identity, Codes | None] = {}
    for name, epoch, seq, indices in connection.execute(
        "SELECT g.name, q.epoch, q.seq, q.indices"
        " FROM iot_service.quarantine q JOIN iot_service.gateways g USING (gateway_id)"
    ):
        before = held.get((name, epoch, seq), np.zeros(0, dtype=np.int64))
        if indices is None or before is None:
            held[name, epoch, seq] = None
        else:
            held[name, epoch, seq] = np.concatenate([before, np.array(indices, dtype=np.int64)])
    return held
