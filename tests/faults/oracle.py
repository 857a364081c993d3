"""What must be in the database, worked out from what gateways sealed; and the comparison with what is there.

Sealed is what was seen of a batch on its way to the broker, or in a copy of a spool file: the union of both, since a
spool frees what is settled, and a batch that is dropped may never have been sent. One identity with two bodies is an
error wherever it is met.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.errors import WireError
from gateway.link.wire import Batch, Envelope, Kind
from gateway.spool.rows import SELECT, read_row, split_id
from ingest_server.decoder import Columns, open_body
from tests.faults.signal_frames import CHANNELS, FRAMES, numbers, possible

Codes = npt.NDArray[np.int64]
Identity = tuple[str, int, int]
"""(gateway, epoch, seq)"""

_ANCHOR = Anchor(0, 0, ClockSource.KERNEL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison, in readings. lost: sealed, and neither in the table nor told to be missing; what is presumed lost
    counts as told only where a spool was damaged, and what is quarantined only where it is kept as it was sealed.
    duplicates: rows beyond the first of a reading. foreign: rows that nobody sealed. destroyed: sealed in a spool that
    was damaged before the gateway could tell of them, so that no book has ever had them. balanced: by `audit`, and the
    counters of the ledger are the rows that there are."""

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
        self._lock = Lock()
        self._complaints: list[str] = []

    def heard(self, topic: str, payload: bytes) -> None:
        """A batch on its way to the broker."""
        gateway = topic.removesuffix("/batch").split("/", 2)[2]
        try:
            batch = wire.decode(payload, gateway)
        except WireError as error:
            self.complain(f"{gateway} sent what is no batch: {error}")
            return
        self._enter(batch)

    def complain(self, what: str) -> None:
        """Something was seen that must not happen; told once."""
        if what not in self._complaints:
            self._complaints.append(what)

    def look_into(self, gateway: str, spool: Path, *, endangered: bool) -> None:
        """Every batch that can be read in a copy of a spool file; endangered: the file is about to be damaged.

        A file that was damaged before, and is not salvaged yet, tells what it still can.
        """
        if endangered:
            # Also what the file has dropped already: its gap may not have been told yet.
            with self._lock:
                self._endangered.update(identity for identity in self._sealed if identity[0] == gateway)
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            self._look_into(gateway, spool, endangered=endangered)

    def _look_into(self, gateway: str, spool: Path, *, endangered: bool) -> None:
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
            for columns in connection.execute(SELECT.removesuffix(" WHERE id = ?")):
                row = read_row(columns)
                # Else a flipped bit in its number would be a batch that nobody sealed.
                if row is None or not row.body.intact():
                    continue
                identity = (gateway, row.epoch, split_id(row.id)[1])
                if endangered:
                    self._endangered.add(identity)
                known = self._sealed.get(identity)
                if known is None or known[0] != row.body.crc:
                    envelope = Envelope(Kind(row.kind), *identity, row.readings, row.before, _ANCHOR, 1)
                    self._enter(Batch(envelope, row.body))

    def _enter(self, batch: Batch) -> None:
        e = batch.envelope
        identity = (e.gateway, e.epoch, e.seq)
        with self._lock:
            known = self._sealed.get(identity)
            if known is None:
                self._sealed[identity] = batch.body.crc, _codes(batch)
            elif known[0] != batch.body.crc:
                self.complain(f"identity {identity} has two bodies")

    def _is_sealed(self, identity: Identity, payload: bytes) -> bool:
        """Whether the payload is that batch as it was sealed."""
        try:
            body = wire.decode(payload, identity[0]).body
        except WireError:
            return False
        return body.intact() and identity in self._sealed and self._sealed[identity][0] == body.crc

    def _whose(self, missing: Codes, heard: dict[tuple[str, int], int]) -> list[str]:
        """Which batches the readings were sealed in, for whoever looks for the reason; the first few."""
        found = [
            f"{identity} of {len(codes)} readings is missing; the server has heard of {heard.get(identity[:2], 0)}"
            for identity, (_, codes) in self._sealed.items()
            if len(missing) and np.isin(codes, missing).any()
        ]
        return found[:10]

    def compare(self, dsn: str, *, audit: str | None) -> Verdict:
        """With the database, once nothing is in flight. audit: what `heal7-iot audit` said, None where all was well."""
        complaints = [*self._complaints, *([audit] if audit is not None else [])]
        with psycopg.connect(dsn) as connection:
            told, presumed = _dropped(connection), _presumed_lost(connection)
            held = _quarantined(connection, self._is_sealed)
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
            # A spool that nobody harmed loses nothing that it would have to be presumed lost of.
            if _holds(told, identity) or (identity in self._endangered and _holds(presumed, identity)):
                continue
            indices = held.get(identity, np.zeros(0, dtype=np.int64))
            left = np.delete(codes, indices) if indices is not None else codes[:0]
            quarantined += len(codes) - len(left)
            expected.append(left)
        wanted = np.unique(_joined(expected))
        there, counts = np.unique(_joined([table]), return_counts=True)
        missing = np.setdiff1d(wanted, there, assume_unique=True)
        complaints += self._whose(missing, heard)
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
            lost=len(missing),
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
    """Devices are called `air-<gateway>-<sensor>`. Raises ValueError for any other."""
    _, gateway, sensor = device.split("-")
    return (int(gateway) * 100 + int(sensor)) * len(CHANNELS) + CHANNELS.index(channel)


def _joined(parts: Iterable[Codes]) -> Codes:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _table(connection: psycopg.Connection[Any]) -> Codes:
    """The code of each row; a negative one of its own for what can never have been sealed."""
    rows = connection.execute(
        "SELECT d.device, s.channel, array_agg(r.value) FROM iot_service.sensor_readings r"
        " JOIN iot_service.series s USING (series_id) JOIN iot_service.iot_devices d USING (device_id)"
        " GROUP BY d.device, s.channel"
    ).fetchall()
    known, strange = [], 0
    for device, channel, found in rows:
        values = np.array(found, dtype=np.float64)
        try:
            series = _series(device, channel)
        except ValueError:
            strange += len(values)
            continue
        sound = possible(values)
        strange += int((~sound).sum())
        known.append(series * FRAMES + numbers(channel, values[sound]))
    return _joined([*known, -1 - np.arange(strange)])


def _heard_of(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], int]:
    """One more than the highest seq that the server has heard of, by (gateway, epoch)."""
    return {
        (name, epoch): next_seq
        for name, epoch, next_seq in connection.execute(
            "SELECT g.name, l.epoch, l.next_seq"
            " FROM iot_service.ledger l JOIN iot_service.gateways g USING (gateway_id)"
        )
    }


Told = dict[tuple[str, int], list[tuple[int, int]]]
"""Ranges of seqs, by (gateway, epoch)."""


def _dropped(connection: psycopg.Connection[Any]) -> Told:
    """What a gap names."""
    return _told(
        connection, "SELECT gateway_id, epoch, seqs FROM iot_service.data_gaps WHERE reason <> 'presumed_lost'"
    )


def _presumed_lost(connection: psycopg.Connection[Any]) -> Told:
    return _told(connection, "SELECT gateway_id, epoch, presumed_lost AS seqs FROM iot_service.ledger")


def _told(connection: psycopg.Connection[Any], ranges: str) -> Told:
    told: Told = {}
    statement = (
        f"SELECT g.name, m.epoch, lower(r), upper(r) FROM ({ranges}) m"
        " JOIN iot_service.gateways g USING (gateway_id) CROSS JOIN LATERAL unnest(m.seqs) r"
    )
    for name, epoch, first, end in connection.execute(statement.encode()):
        told.setdefault((name, epoch), []).append((first, end))
    return told


def _holds(told: Told, identity: Identity) -> bool:
    name, epoch, seq = identity
    return any(first <= seq < end for first, end in told.get((name, epoch), ()))


def _quarantined(
    connection: psycopg.Connection[Any], is_sealed: Callable[[Identity, bytes], bool]
) -> dict[Identity, Codes | None]:
    """Which readings of a batch are in quarantine, as they were sealed; None: all."""
    held: dict[Identity, Codes | None] = {}
    for name, epoch, seq, indices, payload in connection.execute(
        "SELECT g.name, q.epoch, q.seq, q.indices, q.payload"
        " FROM iot_service.quarantine q JOIN iot_service.gateways g USING (gateway_id)"
    ):
        if not is_sealed((name, epoch, seq), payload):
            continue
        before = held.get((name, epoch, seq), np.zeros(0, dtype=np.int64))
        if indices is None or before is None:
            held[name, epoch, seq] = None
        else:
            held[name, epoch, seq] = np.concatenate([before, np.array(indices, dtype=np.int64)])
    return held
