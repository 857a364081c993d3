"""Months of the native flavour that have had their time: out of the table, into the schema `archive`, and gone.

No writer and no reader waits for it. DETACH … CONCURRENTLY waits for those who still read; should it be cut off there,
the partition stays pending, and whoever comes next finalizes it. What is detached moves by SET SCHEMA, which locks only
what nobody reads any more.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial

import psycopg
from psycopg import errors
from psycopg import sql as composed

from gateway.link.backoff import FullJitter
from ingest_server.errors import SchemaError, StorageUnavailable
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.keeping.rollups import lock_rollups, refresh_all
from ingest_server.storage.line.partitions import Month

# Readings last: while their minutes are there, nothing has been taken away yet.
_PARENTS = ("rollup_1m", "sensor_readings")
_ATTEMPTS = 5
_TABLE = re.compile(r"(?:sensor_readings|rollup_1m)_(\d{4})_(\d{2})")


def before(now: Month, months: int) -> Month:
    """The month so many months earlier."""
    number = now.year * 12 + now.month - 1 - months
    return Month(number // 12, number % 12 + 1)


async def archive(connection: Connection, first_kept: Month) -> list[Month]:
    """Moves every month before `first_kept` to the schema `archive`; those that were. Raises StorageError.

    What was begun stays begun: a later call goes on there. Raises SchemaError, with nothing of the month begun, where
    `archive` has its name already: of the database before a restore, or of somebody else's.
    """
    moved = []
    taken = set(await _tables(connection, "archive"))
    for month in await _months(connection, "iot_service"):
        if month >= first_kept:
            continue
        namesakes = sorted(taken & {month.table_of(parent) for parent in _PARENTS})
        if namesakes:
            raise SchemaError(
                f"{' and '.join(f'archive.{name}' for name in namesakes)} is there already (of the database before a"
                " restore, or not ours): look at it, then drop or rename it; nothing of this month was moved"
            )
        await _advance_horizon(connection, month)
        for parent in _PARENTS:
            await _detach(connection, parent, month)
        await _retried(partial(_move, connection, month))
        moved.append(month)
    return moved


async def _advance_horizon(connection: Connection, month: Month) -> None:
    """From here on nobody computes the month's rollups again: without readings they would vanish."""
    this = {"next": month.next().start}
    while True:
        async with transaction(connection):
            await lock_rollups(connection)
            # What changed there since, by an erasure for instance, the rollups still have to follow.
            cursor = await connection.execute(
                "SELECT FROM iot_service.rollup_log WHERE from_at < %(next)s LIMIT 1", this
            )
            if cursor.rowcount == 0:
                await connection.execute(
                    "UPDATE iot_service.raw_horizon SET begins = %(next)s WHERE begins < %(next)s", this
                )
                return
        await refresh_all(connection)


async def drop(connection: Connection, first_kept: Month) -> list[Month]:
    """Drops every archived month before `first_kept`; those that were."""
    dropped = []
    for month in await _months(connection, "archive"):
        if month < first_kept:
            await _retried(partial(_drop, connection, month))
            dropped.append(month)
    return dropped


async def _tables(connection: Connection, schema: str) -> list[str]:
    with translated():
        cursor = await connection.execute(sql("keeping/month_tables"), {"schema": schema})
        return [row[0] for row in await cursor.fetchall()]


async def _months(connection: Connection, schema: str) -> list[Month]:
    found = [_TABLE.fullmatch(name) for name in await _tables(connection, schema)]
    return sorted({Month(int(m[1]), int(m[2])) for m in found if m is not None})


async def _detach(connection: Connection, parent: str, month: Month) -> None:
    """Takes the month's partition out of its parent, whatever an earlier attempt has left."""
    table = month.table_of(parent)

    async def attempt() -> None:
        cursor = await connection.execute(sql("keeping/detach_state"), {"parent": f"iot_service.{parent}"})
        states: dict[str, bool] = dict(await cursor.fetchall())
        pending = next((name for name, is_pending in states.items() if is_pending), None)
        if pending is not None:
            # Of whichever month: PostgreSQL detaches one at a time.
            await connection.execute(_detaching(parent, pending, "FINALIZE"))
            states.pop(pending)
        if table in states:
            await connection.execute(_detaching(parent, table, "CONCURRENTLY"))

    await _retried(attempt)


def _detaching(parent: str, table: str, how: str) -> composed.Composed:
    return composed.SQL("ALTER TABLE iot_service.{} DETACH PARTITION iot_service.{} " + how).format(
        composed.Identifier(parent), composed.Identifier(table)
    )


async def _move(connection: Connection, month: Month) -> None:
    async with connection.transaction():
        for parent in _PARENTS:
            await connection.execute(
                composed.SQL("ALTER TABLE IF EXISTS iot_service.{} SET SCHEMA archive").format(
                    composed.Identifier(month.table_of(parent))
                )
            )


async def _drop(connection: Connection, month: Month) -> None:
    async with connection.transaction():
        for parent in _PARENTS:
            await connection.execute(
                composed.SQL("DROP TABLE IF EXISTS archive.{}").format(composed.Identifier(month.table_of(parent)))
            )


async def _retried(step: Callable[[], Awaitable[None]]) -> None:
    """A step that waits for a lock would hold up all who come after it: it gives way, and tries again."""
    backoff = FullJitter(0.2, 5.0)
    for attempt in range(_ATTEMPTS):
        try:
            await step()
        except errors.LockNotAvailable as error:
            if attempt + 1 == _ATTEMPTS:
                raise StorageUnavailable("somebody reads what is to be archived: it is tried again later") from error
            await asyncio.sleep(backoff.next_s())
        except psycopg.Error as error:
            with translated():
                raise error
        else:
            return
