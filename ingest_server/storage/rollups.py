"""Rollups follow the log: what changed is computed again, once, from the readings that are there then.

A writer enters what it changes in the transaction of its rows. A refresh reads entries first and readings in a later
statement: whatever an entry tells of is visible by then, and what is committed after has an entry of its own. Only then
are these entries deleted, in the same transaction: whoever reads sees all of it or nothing.
"""

import asyncio
from dataclasses import dataclass

from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.timescaledb import refresh_aggregates

ROLLUPS_LOCK = 0x48454102
"""Of the transaction: refreshes, the horizon and erasure take turns."""

MOST_ENTRIES = 2_000
"""Of the log, in one transaction."""

_ASK_EVERY_S = 0.2


def _level(level: str, below: str, width: str) -> bytes:
    names = {b"{level}": level, b"{below}": below, b"{width}": width}
    statement = sql("refresh_level")
    for placeholder, name in names.items():
        statement = statement.replace(placeholder, name.encode())
    return statement


_DAYS = (sql("refresh_site_days"),)
_NATIVE_STEPS = (
    sql("refresh_minutes"),
    _level("rollup_1h", "rollup_1m", "1 hour"),
    _level("rollup_1d", "rollup_1h", "1 day"),
    *_DAYS,
)

# The plan is known: few ranges, each found in an index. Statistics of a month that has just begun say otherwise.
_PLAN = "SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """entries: of the log that were worked off. more: whether there may be others."""

    entries: int
    more: bool


async def refresh(connection: Connection, most: int = MOST_ENTRIES) -> Refreshed:
    """Works off the oldest entries of the log. Raises StorageError; what it had begun is then undone."""
    if await recorded(connection) is not Flavour.TIMESCALEDB:
        return await _refresh(connection, most, _NATIVE_STEPS, None)
    # Its procedure has transactions of its own: the lock is the session's meanwhile. The entries stay until the days
    # are computed: what dies in between is done again.
    await _lock_session(connection)
    try:
        with translated():
            entries = await _take(connection, most)
        await refresh_aggregates(connection, entries)
        return await _refresh(connection, most, _DAYS, entries)
    finally:
        if not connection.closed:
            with translated():
                await connection.execute("SELECT pg_advisory_unlock(%s)", (ROLLUPS_LOCK,))


async def _lock_session(connection: Connection) -> None:
    """`lock_rollups`, until the session gives it back. Asks again and again: a wait would need a timeout of its own."""
    with translated():
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (ROLLUPS_LOCK,))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(_ASK_EVERY_S)


async def _refresh(connection: Connection, most: int, steps: tuple[bytes, ...], entries: list[int] | None) -> Refreshed:
    """entries: those that the steps below have been taken for; None: the oldest ones."""
    async with transaction(connection):
        await lock_rollups(connection)
        if entries is None:
            entries = await _take(connection, most)
        if not entries:
            return Refreshed(0, more=False)
        await connection.execute(_PLAN)
        await connection.execute(sql("rollups_dirty_table"))
        await connection.execute(sql("rollups_mark"), {"entries": entries})
        for step in steps:
            await connection.execute(step)
        await connection.execute("DELETE FROM iot_service.rollup_log WHERE entry_id = ANY(%s)", (entries,))
    return Refreshed(len(entries), more=len(entries) == most)


async def refresh_all(connection: Connection) -> int:
    """Works off the log until it is empty; how many entries that were."""
    done = 0
    while True:
        refreshed = await refresh(connection)
        done += refreshed.entries
        if not refreshed.more:
            return done


async def backlog(connection: Connection) -> int:
    """How many entries of the log no refresh has worked off."""
    with translated():
        cursor = await connection.execute("SELECT count(*) FROM iot_service.rollup_log")
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def lock_rollups(connection: Connection) -> None:
    """Holds off refreshes until the caller's transaction ends. Waits for one that runs, however long it takes."""
    # Not the timeout of a step that others queue behind: nobody who reads or writes waits for this lock.
    await connection.execute("SET LOCAL lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (ROLLUPS_LOCK,))


async def _take(connection: Connection, most: int) -> list[int]:
    cursor = await connection.execute(sql("rollups_take"), {"most": most})
    row = await cursor.fetchone()
    assert row is not None
    return list(row[0])
