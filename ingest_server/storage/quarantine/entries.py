"""What could not be written, kept until somebody looks at it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.link.wire import Gap
from ingest_server.decoder import Bools, Columns
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.line import group
from ingest_server.storage.line.group import Claim, copy_rows
from ingest_server.storage.line.partitions import Partitions
from ingest_server.storage.line.rows import Rows

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One entry, without its payload.

    instance: of the process that sent it, None where that was not kept. readings: that wait. indices: which readings
    of the payload; None: all. released: readings that a replay has committed. bytes: of the payload.
    """

    quarantine_id: int
    received_at: str
    gateway_id: int
    gateway: str
    epoch: int
    seq: int
    instance: int | None
    reason: str
    detail: str
    readings: int
    indices: tuple[int, ...] | None
    released: int
    bytes: int
    replayed_at: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant; None means all."""

    reason: str | None = None
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class ReasonTotal:
    """All entries of one reason: those that wait, with their readings, and those that were replayed."""

    reason: str
    entries: int
    readings: int
    bytes: int
    gateways: int
    oldest: str | None
    replayed_entries: int
    replayed_readings: int


def _entry(row: tuple[Any, ...]) -> Quarantined:
    # psycopg gives arrays as lists.
    columns: list[Any] = [tuple(column) if isinstance(column, list) else column for column in row]
    return Quarantined(*columns)


async def list_entries(connection: Connection, chosen: Filter, *, waiting_only: bool, limit: int) -> list[Quarantined]:
    """The newest entries."""
    with translated():
        cursor = await connection.execute(
            sql("quarantine/list_quarantine"),
            {"reason": chosen.reason, "gateway": chosen.gateway, "waiting": waiting_only, "limit": limit},
        )
        return [_entry(row) for row in await cursor.fetchall()]


async def totals(connection: Connection) -> list[ReasonTotal]:
    """One for each reason that an entry has, by reason."""
    with translated():
        cursor = await connection.execute(sql("quarantine/quarantine_totals"))
        return [ReasonTotal(*row) for row in await cursor.fetchall()]


async def waiting_ids(connection: Connection, chosen: Filter) -> AsyncIterator[int]:
    """The entries that wait now, the oldest first; what comes meanwhile is left out."""
    after, last = 0, None
    while True:
        with translated():
            cursor = await connection.execute(
                sql("quarantine/waiting_quarantine"),
                {"reason": chosen.reason, "gateway": chosen.gateway, "after": after, "last": last, "limit": _PAGE},
            )
            found = await cursor.fetchall()
        for number, newest in found:
            after, last = number, newest
            yield number
        if len(found) < _PAGE:
            return


async def count_waiting(connection: Connection, chosen: Filter) -> int:
    """How many entries wait."""
    with translated():
        cursor = await connection.execute(
            sql("quarantine/count_waiting"), {"reason": chosen.reason, "gateway": chosen.gateway}
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def read_entry(
    connection: Connection, quarantine_id: int, *, lock: bool = False
) -> tuple[Quarantined, bytes] | None:
    """One entry with its payload; None where there is no such entry. lock: until the caller's transaction ends."""
    statement = sql("quarantine/read_quarantined") + (b" FOR UPDATE OF q" if lock else b"")
    with translated():
        cursor = await connection.execute(statement, {"quarantine_id": quarantine_id})
        row = await cursor.fetchone()
    return None if row is None else (_entry(row[:-1]), bytes(row[-1]))


def held(entry: Quarantined, columns: Columns) -> Bools:
    """Which readings of its payload an entry holds."""
    found = np.zeros(len(columns.times_us), dtype=np.bool_)
    found[list(entry.indices) if entry.indices is not None else slice(None)] = True
    return found


async def release(
    connection: Connection, partitions: Partitions, entry: Quarantined, rows: Rows, left: tuple[int, ...], rules: int
) -> bool:
    """Commits an entry's readings as rows, all but those at `left`, which stay. Their books move with them.

    A reading that was raw bytes may have become several rows. rules: see copy_rows. False where another command was
    faster: nothing was written.
    """
    await partitions.ensure(connection, rows.times_us)
    async with transaction(connection):
        if not await _take(connection, entry, left):
            return False
        await partitions.prepare(connection)
        await copy_rows(connection, [rows], rules)
        await connection.execute(
            sql("quarantine/move_to_committed"),
            {"gateway_id": entry.gateway_id, "epoch": entry.epoch, "moved": entry.readings - len(left)},
        )
    return True


async def release_gaps(connection: Connection, entry: Quarantined, gaps: Sequence[Gap]) -> bool:
    """Settles what the gaps of an entry name and nobody settled meanwhile. False where another command was faster."""
    keys = [(entry.gateway_id, epoch) for epoch in sorted({g.epoch for g in gaps if g.epoch})]
    async with transaction(connection):
        if not await _take(connection, entry, ()):
            return False
        await group.lock(connection, keys)
        claims = {key: Claim() for key in keys}
        await group.claim_gaps(connection, claims, [(entry.gateway_id, g) for g in gaps])
        await group.settle(connection, claims)
    return True


async def discard(connection: Connection, entry: Quarantined, span_us: tuple[int, int] | None) -> bool:
    """Gives an entry up: its readings count as dropped from now on, and a gap says so.

    span_us: first and last of their times, where they are known. False where another command was faster.
    """
    async with transaction(connection):
        cursor = await connection.execute(
            sql("quarantine/discard_quarantined"),
            {
                "quarantine_id": entry.quarantine_id,
                "was": entry.readings,
                "from_us": group.date(span_us[0] if span_us else None),
                "to_us": group.date(span_us[1] if span_us else None),
            },
        )
        return await cursor.fetchone() is not None


async def prune_replayed(connection: Connection, after_days: float) -> int:
    """Removes what was replayed longer ago; how many entries."""
    removed = 0
    with translated():
        cursor = await connection.execute(sql("quarantine/gateways_with_replayed"), {"days": after_days})
        gateways = [row[0] for row in await cursor.fetchall()]
    for gateway in gateways:
        async with transaction(connection):
            # As the group transaction that makes room does: both delete the same rows.
            await connection.execute(sql("line/lock_quarantine"), {"gateways": [gateway]})
            cursor = await connection.execute(
                sql("quarantine/prune_replayed"), {"gateway_id": gateway, "days": after_days}
            )
            removed += cursor.rowcount
    return removed


async def _take(connection: Connection, entry: Quarantined, left: tuple[int, ...]) -> bool:
    cursor = await connection.execute(
        sql("quarantine/release_quarantined"),
        {
            "quarantine_id": entry.quarantine_id,
            "was": entry.readings,
            "were": None if entry.indices is None else list(entry.indices),
            "left": len(left),
            "indices": list(left),
        },
    )
    return await cursor.fetchone() is not None
