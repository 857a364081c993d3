"""A wrong decoder corrected over a million readings: readers see one or the other, late batches of it follow."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from ingest_server.storage.connection import transaction
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.frames.reading import undecoded
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.corrected import Affine, Decoder
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rows import Rows
from tests.ingest_server.line import (
    EPOCH,
    NOW_US,
    SECOND,
    TEMPERATURE,
    connected,
    data,
    open_writer,
    reading,
    running_line,
    settle,
)
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.peers.postgres import Database

READINGS = 1_000_000
FIRST_US = NOW_US - READINGS * SECOND
EIGHTHS = Affine(1.0, 0.0, 0.125, 0.0)
"""Firmware 2.1 counts in eighths, and its profile said wholes: exact in binary."""
SUMS = """
SELECT sum(r.value), sum(COALESCE(r.raw_value, r.value)), count(*),
       (SELECT sum(total) FROM iot_service.rollup_1h WHERE series_id = %(series_id)s),
       (SELECT sum(total) FROM iot_service.rollup_site_day WHERE series_id = %(series_id)s)
  FROM iot_service.sensor_readings r WHERE r.series_id = %(series_id)s
"""


@pytest.mark.slow
async def test_a_million_readings(any_database: Database) -> None:
    await settle(any_database, data(0, [reading(80.0, FIRST_US)]))
    (series_id,) = any_database.query("SELECT series_id FROM iot_service.series")[0]
    n = np.arange(1, READINGS)
    zeros = np.zeros(len(n), np.int32)
    async with open_writer(any_database) as writer:
        times_us = FIRST_US + n * SECOND
        await writer.partitions.ensure(writer.connection, times_us)
        for part in np.array_split(n - 1, 20):
            rows = Rows(
                times_us[part],
                zeros[part] + series_id,
                (80.0 + n[part] % 16).astype(np.float64),
                zeros[part] + 100,
                zeros[part],
            ).by_series()
            async with transaction(writer.connection):
                await copy_rows(writer.connection, [rows], 0)
        await refresh_all(writer.connection)
        await writer.connection.execute("ANALYZE iot_service.sensor_readings")
        device = await entries.device_id(writer.connection, "seoul-1", "hall-1")
    assert stored(any_database, [series_id]) == brute_force(any_database, [series_id], "UTC")
    ended = asyncio.Event()
    took: dict[str, float] = {}
    looks = {"before": 0, "after": 0}

    async def change() -> None:
        try:
            async with connected(any_database) as connection:
                rule = Decoder(0, TEMPERATURE.profile, "bthome_v3", FIRST_US, NOW_US, {("temperature", "°C"): EIGHTHS})
                began = time.monotonic()
                until = datetime.fromtimestamp(NOW_US / 1e6, UTC)
                number = await entries.redecode(connection, device, rule, until, Signed("kim", "ticket 4711"))
                took["in force after"] = time.monotonic() - began
                assert await carry_out(connection, number, undecoded) == READINGS
                took["carried out after"] = time.monotonic() - began
        finally:
            ended.set()

    async def read() -> None:
        """In every snapshot the sums of raw readings, hours and days are all of the old decoder, or all of the new."""
        async with connected(any_database) as connection:
            last = False
            while not last:
                last = ended.is_set()
                cursor = await connection.execute(SUMS.encode(), {"series_id": series_id})
                row = await cursor.fetchone()
                assert row is not None
                value, arrived, count, hours, days = row
                assert value == hours == days
                assert value in (arrived, arrived / 8)
                assert count == READINGS
                looks["before" if value == arrived else "after"] += 1

    async def write() -> float:
        """What others' batches wait for meanwhile, at worst."""
        worst = 0.0
        other = replace(TEMPERATURE, device="lobby-1")
        async with running_line(any_database) as line:
            seq = 0
            while not ended.is_set():
                began = time.monotonic()
                await line.settle(data(seq, [reading(1.0, NOW_US, other)], before=seq, epoch=EPOCH + 9))
                worst = max(worst, time.monotonic() - began)
                seq += 1
        return worst

    _, _, worst = await asyncio.gather(change(), read(), write())
    assert looks["before"]
    assert looks["after"]
    # Late batches: of the old decoder, in its time and after it, and of the new one.
    newer = replace(TEMPERATURE, profile="bthome_v3")
    async with running_line(any_database) as line:
        late = [reading(88.0, NOW_US - SECOND // 2), reading(88.0, NOW_US)]
        await line.settle(data(0, late, epoch=EPOCH + 1))
        await line.settle(data(0, [reading(12.0, NOW_US - SECOND // 4, newer)], epoch=EPOCH + 2))
    assert any_database.query(
        "SELECT value, raw_value FROM iot_service.sensor_readings WHERE series_id = %s AND recorded_at > %s"
        " ORDER BY recorded_at",
        series_id,
        datetime.fromtimestamp((NOW_US - SECOND) / 1e6, UTC),
    ) == [(11.0, 88.0), (12.0, None), (88.0, None)]
    async with connected(any_database) as connection:
        await refresh_all(connection)
    assert stored(any_database, [series_id]) == brute_force(any_database, [series_id], "UTC")
    told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items())
    print(f"a million readings: {told}; others' batches waited {worst:.2f} s at most; {looks} looks")
