"""Rollups follow the log: what changed is computed again, once, from the readings that are there then.

A writer enters what it changes in the transaction of its rows. A refresh reads entries first and readings in a later
statement: whatever an entry tells of is visible by then, and what is committed after has an entry of its own. Only then
are these entries deleted, in the same transaction: whoever reads sees all of it or nothing.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from ingest_server.storage.connection import Connection, session_lock, sql, transaction, translated
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.keeping.timescaledb import refresh_aggregates

ROLLUPS_LOCK = 0x48454102
"""Of the transaction: refreshes, the horizon and erasure take turns."""

MOST_ENTRIES = 2_000
"""Of the log, in one transaction."""

_MOST_SERIES_HOURS = 50_000
# Series times hours that one transaction looks at. What a restore, an erasure or a backfill enters is wide: all of it
# at once would meet the statement's timeout, at every retry anew.


def _level(level: str, below: str, width: str) -> bytes:
    names = {b"{level}": level, b"{below}": below, b"{width}": width}
    statement = sql("keeping/refresh_level")
    for placeholder, name in names.items():
        statement = statement.replace(placeholder, name.encode())
    return statement


_DAYS = (sql("keeping/refresh_site_days"),)
_NATIVE_STEPS = (
    sql("keeping/refresh_minutes"),
    _level("rollup_1h", "rollup_1m", "1 hour"),
    _level("rollup_1d", "rollup_1h", "1 day"),
    *_DAYS,
)

# The plan is known: few ranges, each found in an index. Statistics of a month that has just begun say otherwise.
_PLAN = "SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """entries: of the log that were worked off. more: whether it held others."""

    entries: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Taken:
    entries: list[int]
    more: bool


async def refresh(connection: Connection, most: int = MOST_ENTRIES) -> Refreshed:
    """Works off the oldest entries of the log. Raises StorageError; what it had begun is then undone."""
    if await recorded(connection) is not Flavour.TIMESCALEDB:
        return await _refresh(connection, most, _NATIVE_STEPS, None)
    # Its procedure has transactions of its own: the lock is the session's meanwhile. The entries stay until the days
    # are computed: what dies in between is done again.
    async with session_lock(connection, ROLLUPS_LOCK):
        with translated():
            taken = await _take(connection, most)
        await refresh_aggregates(connection, taken.entries)
        return await _refresh(connection, most, _DAYS, taken)


async def _refresh(connection: Connection, most: int, steps: tuple[bytes, ...], taken: _Taken | None) -> Refreshed:
    """taken: entries that the steps before these were taken for; None: the oldest ones."""
    async with transaction(connection):
        await lock_rollups(connection)
        if taken is None:
            taken = await _take(connection, most)
        if not taken.entries:
            return Refreshed(0, more=False)
        await connection.execute(_PLAN)
        await connection.execute(sql("keeping/rollups_dirty_table"))
        await connection.execute(sql("keeping/rollups_mark"), {"entries": taken.entries})
        for step in steps:
            await connection.execute(step)
        await connection.execute("DELETE FROM iot_service.rollup_log WHERE entry_id = ANY(%s)", (taken.entries,))
    return Refreshed(len(taken.entries), taken.more)


async def refreshes(connection: Connection) -> AsyncIterator[int]:
    """Works off the log until a refresh has taken all there was; how many entries each of them took."""
    more = True
    while more:
        refreshed = await refresh(connection)
        more = refreshed.more
        yield refreshed.entries


async def refresh_all(connection: Connection) -> int:
    """`refreshes`; how many entries in all."""
    return sum([entries async for entries in refreshes(connection)])


async def follow_now(connection: Connection, spans: Mapping[int, tuple[int, int]]) -> None:
    """Computes rollups of readings that the caller's transaction has changed, within it; it has locked the rollups.

    spans: by series, first and last time of what changed, Unix µs. On TimescaleDB, whose aggregates can be refreshed in
    no transaction, this enters the log; each of them follows whole, by the day.
    """
    timescaledb = await recorded(connection) is Flavour.TIMESCALEDB
    if not timescaledb:
        await connection.execute(_PLAN)
        await connection.execute(sql("keeping/rollups_dirty_table"))
    ids = list(spans)
    await connection.execute(
        sql("keeping/rollups_enter" if timescaledb else "keeping/rollups_mark_spans"),
        {"series_ids": ids, "first_us": [spans[n][0] for n in ids], "last_us": [spans[n][1] for n in ids]},
    )
    for step in () if timescaledb else _NATIVE_STEPS:
        await connection.execute(step)


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


async def _take(connection: Connection, most: int) -> _Taken:
    cursor = await connection.execute(
        sql("keeping/rollups_take"), {"most": most, "most_series_hours": _MOST_SERIES_HOURS}
    )
    row = await cursor.fetchone()
    assert row is not None
    return _Taken(list(row[0]), bool(row[1]))
