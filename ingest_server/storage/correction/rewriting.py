"""Carrying out corrections: stored readings, their rollups and latest values follow the rules, and nobody sees half.

The readings that a rule reaches are taken out and written anew, in one transaction with the rollups that hold them:
whoever reads finds each bucket, raw and summed up, as it was or as it shall be. What was cut off is gone on with: rows
that follow the newest rules are known by their revision. Only beyond MOST_READINGS is there more than one transaction;
they end at midnight UTC, and a day of a site's calendar that such an end parts is summed up anew with each of the two.

What has left the table of readings (archived months, and all rollups before the horizon) stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_server.storage.arrays import float8s, int4s, int8s, received
from ingest_server.storage.connection import Connection, session_lock, sql, transaction, translated
from ingest_server.storage.correction.computing import DeviceSeries, Stored, computed, reached
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.frames import keeping
from ingest_server.storage.frames.reading import NO_FRAMES, Decode, Frames
from ingest_server.storage.keeping.rollups import follow_now, lock_rollups, refreshes
from ingest_server.storage.line.corrected import EVER, Calibration, Corrected, Decoder, DeviceRules, Meant, rule_of
from ingest_server.storage.line.rows import POSTGRES_EPOCH_US, Corrections, Rows

MOST_READINGS = 20_000_000
"""In one transaction: rollups of all devices wait for it, some minutes."""

CHUNK_READINGS = 500_000
"""At once in memory; an hour with more is taken whole."""

_CARRYING_OUT = 0x48454108 << 32
"""With the device's number: the lock of whoever carries out a correction of it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a rule reaches: these series of a device, in [from_at, to_at); to_at: None: without end."""

    device_id: int
    site: str
    device: str
    series: tuple[DeviceSeries, ...]
    from_at: datetime
    to_at: datetime | None

    @property
    def span(self) -> dict[str, object]:
        """As the statements of this package have it."""
        return {
            "series_ids": [s.series_id for s in self.series],
            "from_at": self.from_at,
            "to_at": self.to_at or "infinity",
        }


async def device_series(connection: Connection, device_id: int) -> list[DeviceSeries]:
    """All of a device."""
    with translated():
        cursor = await connection.execute(sql("correction/device_series"), {"device_id": device_id})
        return [
            DeviceSeries(series_id, channel, quantity, unit, tuple(zip(profiles, seen_us, strict=True)))
            for series_id, channel, quantity, unit, profiles, seen_us in await cursor.fetchall()
        ]


async def profiles_behind(connection: Connection, device_id: int) -> dict[int, str]:
    """The profile behind each revision of a device."""
    with translated():
        cursor = await connection.execute(
            "SELECT revision, profile FROM iot_service.correction_revisions WHERE device_id = %s", (device_id,)
        )
        return dict(await cursor.fetchall())


async def carry_out(
    connection: Connection,
    number: int,
    decode: Decode,
    rewritten: Callable[[int, int], None] | None = None,
    refreshed: Callable[[int], None] | None = None,
    *,
    most_readings: int = MOST_READINGS,
    chunk_readings: int = CHUNK_READINGS,
) -> int:
    """Has stored readings follow a correction that is in force; how many were written anew. 0 where it is done already.

    decode: how raw frames are read. rewritten: hears how many readings follow, and how many there are in all.
    refreshed: as in erasing.carry_out.
    """
    reach = await _reach(connection, number)
    if reach is None:
        return 0
    # A command and the job `corrections` would do the same work twice.
    async with session_lock(connection, _CARRYING_OUT | reach.device_id):
        reach = await _reach(connection, number)
        if reach is None:
            return 0
        hours = await _hours(connection, reach) if reach.series else []
        total, done = sum(n for _, n in hours), 0
        for part in _parts(hours, most_readings, whole_days=True):
            async with transaction(connection):
                await _begin(connection)
                chunks = _parts(part, chunk_readings, whole_days=False)
                done += await _rewrite(connection, reach, chunks, number, decode)
            if rewritten is not None:
                rewritten(done, total)
        # Before it counts as done: on TimescaleDB averages follow by the log alone.
        if refreshed is not None and await recorded(connection) is Flavour.TIMESCALEDB:
            async for entries in refreshes(connection):
                refreshed(entries)
        with translated():
            await connection.execute("UPDATE iot_service.corrections SET done_at = now() WHERE number = %s", (number,))
    return done


async def _reach(connection: Connection, number: int) -> Reach | None:
    """None where it is done."""
    with translated():
        cursor = await connection.execute(sql("correction/read_correction"), {"number": number})
        row = await cursor.fetchone()
    if row is None or row[-1]:
        return None
    device_id, site, device, *columns, _ = row
    return await reach_of(connection, (device_id, site, device), rule_of(*columns))


async def reach_of(connection: Connection, device: tuple[int, str, str], rule: Calibration | Decoder) -> Reach:
    """What a rule of a device (device_id, site, device) reaches of what is in the table of readings."""
    rules = await rules_of(connection, *device)
    series, to_us = reached(rule, await device_series(connection, device[0]), rules)
    with translated():
        cursor = await connection.execute(
            "SELECT GREATEST(begins, %s::timestamptz) FROM iot_service.raw_horizon", (_moment(rule.from_us),)
        )
        row = await cursor.fetchone()
    assert row is not None
    return Reach(*device, series, row[0], None if to_us == EVER else _moment(to_us))


async def frames_in(
    connection: Connection, device_id: int, rules: DeviceRules, from_at: datetime, to_at: datetime | str, decode: Decode
) -> Frames:
    """The kept frames of a device in a span, where a rule reads any."""
    if not rules.decoders:
        return NO_FRAMES
    return Frames(await keeping.read(connection, device_id, from_at, to_at), decode)


async def rules_of(connection: Connection, device_id: int, site: str, device: str) -> DeviceRules:
    """The rules in force of a device."""
    corrected = Corrected()
    await corrected.read(connection)
    return corrected.of(site, device) or DeviceRules(device_id, 0)


async def _hours(connection: Connection, reach: Reach) -> list[tuple[datetime, int]]:
    """Hours with readings that do not follow the newest rules yet, and how many."""
    rules = await rules_of(connection, reach.device_id, reach.site, reach.device)
    with translated():
        cursor = await connection.execute(
            sql("correction/count_hours"), {**reach.span, "current": list(rules.revisions.values())}, prepare=False
        )
        return [(hour, n) for hour, n in await cursor.fetchall()]


def _parts(hours: list[tuple[datetime, int]], most: int, *, whole_days: bool) -> list[list[tuple[datetime, int]]]:
    """Consecutive hours with at most so many readings, one hour (or day, in UTC) at least."""
    parts: list[list[tuple[datetime, int]]] = []
    held = 0
    for _, together in groupby(hours, key=lambda hour: hour[0].date() if whole_days else hour[0]):
        unit = list(together)
        readings = sum(n for _, n in unit)
        if not parts or held + readings > most:
            parts.append([])
            held = 0
        parts[-1] += unit
        held += readings
    return parts


async def _begin(connection: Connection) -> None:
    await lock_rollups(connection)
    await connection.execute("SET LOCAL statement_timeout = 0")
    # By default TimescaleDB decompresses no more than 100,000 readings for one statement, and fails.
    await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")


async def _rewrite(
    connection: Connection, reach: Reach, chunks: list[list[tuple[datetime, int]]], number: int, decode: Decode
) -> int:
    """One transaction's work; how many readings."""
    # By the rules of now: where another came since, its own carrying out finds these rows in order.
    rules = await rules_of(connection, reach.device_id, reach.site, reach.device)
    behind = await profiles_behind(connection, reach.device_id)
    newest: dict[int, tuple[int, float]] = {}
    spans: dict[int, tuple[int, int]] = {}
    done = 0
    for chunk in chunks:
        from_at = max(reach.from_at, chunk[0][0])
        to_at = min(at for at in (reach.to_at, chunk[-1][0] + _HOUR) if at is not None)
        rows = await _take(connection, {**reach.span, "from_at": from_at, "to_at": to_at}, rules)
        if not len(rows):
            continue
        frames = await frames_in(connection, reach.device_id, rules, from_at, to_at, decode)
        written = _as_rows(rows, computed(rows, reach.series, behind, rules, frames))
        await _put(connection, written, rows.created_us)
        done += len(rows)
        for part in _by_series(written):
            first_us, last_us = int(part.times_us[0]), int(part.times_us[-1])
            series_id = int(part.series_ids[0])
            before = spans.get(series_id, (first_us, last_us))
            spans[series_id] = min(first_us, before[0]), max(last_us, before[1])
            if series_id not in newest or last_us >= newest[series_id][0]:
                newest[series_id] = last_us, float(part.values[-1])
    if spans:
        await follow_now(connection, spans)
        # Last: writers wait for these rows.
        await _correct_latest(connection, newest)
        await connection.execute(
            "UPDATE iot_service.corrections SET readings = readings + %s WHERE number = %s", (done, number)
        )
    return done


async def _take(connection: Connection, span: dict[str, Any], rules: DeviceRules) -> Stored:
    cursor = await connection.execute(
        sql("correction/take_readings"),
        {**span, "current": list(rules.revisions.values())},
        # A plan for any span would look into every month, and decompress every chunk.
        prepare=False,
        binary=True,
    )
    row = await cursor.fetchone()
    assert row is not None
    times, created, arrived, series_ids, causes, reliability, revisions = (
        received(column, kind)
        for column, kind in zip(row, ("int8", "int8", "float8", "int4", "int4", "int2", "int2"), strict=True)
    )
    return Stored(
        times.astype(np.int64) + POSTGRES_EPOCH_US,
        created.astype(np.int64) + POSTGRES_EPOCH_US,
        arrived.astype(np.float64),
        *(column.astype(np.int32) for column in (series_ids, causes, reliability, revisions)),
    )


def _as_rows(rows: Stored, found: Meant) -> Rows:
    return Rows(
        rows.times_us,
        rows.series_ids,
        found.values,
        rows.reliability,
        rows.causes,
        Corrections(found.raw, found.revisions),
    )


async def _put(connection: Connection, rows: Rows, created_us: NDArray[np.int64]) -> None:
    """As they were written first, each series' together and in the order of time."""
    order = np.lexsort((rows.times_us, rows.series_ids))
    for statement, content in rows.where(order).copies(created_us[order]):
        async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            await copy.write(content)


def _by_series(rows: Rows) -> list[Rows]:
    ordered = rows.by_series()
    starts = np.flatnonzero(np.concatenate(([True], ordered.series_ids[1:] != ordered.series_ids[:-1]))).tolist()
    return [ordered.where(slice(a, b)) for a, b in zip(starts, [*starts[1:], len(ordered)], strict=True)]


async def _correct_latest(connection: Connection, newest: dict[int, tuple[int, float]]) -> None:
    """Where the latest reading is one of those that were written anew. In series order, as writers do."""
    ids = np.array(sorted(newest), np.int32)
    await connection.execute(
        "SELECT FROM iot_service.series_latest WHERE series_id = ANY(%s) ORDER BY series_id FOR UPDATE", (ids.tolist(),)
    )
    await connection.execute(
        sql("correction/correct_latest"),
        {
            "series_ids": int4s(ids),
            "times_us": int8s(np.array([newest[n][0] for n in ids.tolist()], np.int64)),
            "values": float8s(np.array([newest[n][1] for n in ids.tolist()])),
        },
    )


def _moment(unix_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=unix_us)
