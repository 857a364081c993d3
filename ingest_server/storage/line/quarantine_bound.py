"""How much of each gateway is kept in quarantine, and what gives way at the bound.

A broken gateway must neither fill the platform's database nor push out what others have in quarantine: the bound is
each gateway's own. At it, the oldest entries that were replayed already go first; what then does not fit is not kept,
and the caller counts its readings as dropped, with a gap that says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest_server.storage.connection import Connection, sql


@dataclass(frozen=True, slots=True)
class QuarantineBound:
    """Of one gateway, replayed entries included. bytes: of payloads."""

    entries: int = 10_000
    bytes: int = 268_435_456


@dataclass(frozen=True, slots=True)
class Candidate:
    """What shall be kept: `readings` of a batch's payload, those at `indices`, or all where it is None."""

    gateway_id: int
    epoch: int
    seq: int
    instance: int
    reason: str
    detail: str
    readings: int
    indices: tuple[int, ...] | None
    payload: bytes


@dataclass(slots=True)
class _Room:
    """What one gateway has left."""

    entries: int
    bytes: int

    def takes(self, candidate: Candidate) -> bool:
        if self.entries < 1 or self.bytes < len(candidate.payload):
            return False
        self.entries -= 1
        self.bytes -= len(candidate.payload)
        return True


async def keep(connection: Connection, candidates: Sequence[Candidate], bound: QuarantineBound) -> list[bool]:
    """Enters the candidates that find room; for each whether it did. Within the caller's transaction."""
    if not candidates:
        return []
    rooms = await _make_room(connection, candidates, bound)
    kept = [rooms[c.gateway_id].takes(c) for c in candidates]
    for candidate, entered in zip(candidates, kept, strict=True):
        if entered:
            await connection.execute(
                sql("line/insert_quarantine"),
                {
                    "gateway_id": candidate.gateway_id,
                    "epoch": candidate.epoch,
                    "seq": candidate.seq,
                    "instance": candidate.instance,
                    "reason": candidate.reason,
                    "detail": candidate.detail,
                    "readings": candidate.readings,
                    "indices": None if candidate.indices is None else list(candidate.indices),
                    "payload": candidate.payload,
                },
            )
    return kept


async def _make_room(
    connection: Connection, candidates: Sequence[Candidate], bound: QuarantineBound
) -> dict[int, _Room]:
    gateways = sorted({c.gateway_id for c in candidates})
    # Workers take turns at one gateway: two that count at once would both find the last place free.
    await connection.execute(sql("line/lock_quarantine"), {"gateways": gateways})
    cursor = await connection.execute(sql("line/quarantine_usage"), {"gateways": gateways})
    rooms = {}
    for gateway, entries, size, replayed in await cursor.fetchall():
        room = _Room(bound.entries - entries, bound.bytes - size)
        own = [c for c in candidates if c.gateway_id == gateway]
        want = _Room(len(own) - room.entries, sum(len(c.payload) for c in own) - room.bytes)
        if replayed and (want.entries > 0 or want.bytes > 0):
            cursor = await connection.execute(
                sql("line/free_replayed"), {"gateway_id": gateway, "entries": want.entries, "bytes": want.bytes}
            )
            freed = await cursor.fetchall()
            room = _Room(room.entries + len(freed), room.bytes + sum(n for (n,) in freed))
        rooms[gateway] = room
    return rooms
