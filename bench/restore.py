"""`make bench-restore`: how long a backup, a restore and a verification take, for so many readings.

1,000 series over a year in an embedded PostgreSQL, fsync on. The last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import psycopg
from rich.console import Console

from bench.line import fresh_database
from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.backup.dumping import dump
from ingest_server.storage.backup.loading import Restored, check_files, open_backup, restore
from ingest_server.storage.backup.progress import Unwatched
from ingest_server.storage.backup.verifying import Verified, verify_backup
from ingest_server.storage.connection import connect
from ingest_server.storage.line.partitions import NativePartitions
from ingest_server.storage.line.rows import Rows

_SERIES = 1_000
_YEAR_US = 365 * 86_400_000_000
_ROWS = 100_000
console = Console(stderr=True)
_T = TypeVar("_T")


def fill(dsn: str, readings: int) -> None:
    """Each series walks by steps of 1/100 through the year; rows come in the order of time, as a line writes them."""
    rng = np.random.default_rng(7)
    first_us = time.time_ns() // 1000 - _YEAR_US
    values = 20 + rng.random(_SERIES) * 5
    asyncio.run(_make_months(dsn, first_us))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO iot_service.gateways (name) VALUES ('bench/gw')")
        connection.execute(
            "INSERT INTO iot_service.iot_devices (site, device, home_gateway_id)"
            " SELECT 'bench', 'd-' || n, 1 FROM generate_series(1, 1000) n"
        )
        connection.execute(
            "INSERT INTO iot_service.series (device_id, channel, quantity, unit)"
            " SELECT n, 't', 'temperature', '°C' FROM generate_series(1, 1000) n"
        )
        connection.execute(
            "INSERT INTO iot_service.ledger (gateway_id, epoch, settled, next_seq, sealed, committed)"
            " VALUES (1, 1, '{[0,1)}', 1, %(n)s, %(n)s)",
            {"n": readings},
        )
        for begin in range(0, readings, _ROWS):
            n = np.arange(begin, min(begin + _ROWS, readings))
            steps = rng.integers(-1, 2, len(n)) * 0.01
            series = n % _SERIES
            walked = (values[series] + steps).round(2)
            values[series] = walked
            rows = Rows(
                first_us + (n * (_YEAR_US / readings)).astype(np.int64),
                (series + 1).astype(np.int32),
                walked,
                np.full(len(n), 100, np.int32),
                np.zeros(len(n), np.int32),
            )
            for statement, content in rows.copies():
                with connection.cursor().copy(statement.encode()) as copy:
                    copy.write(content)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


async def _make_months(dsn: str, first_us: int) -> None:
    connection = await connect(dsn, "bench", 60)
    await NativePartitions().ensure(connection, np.arange(first_us, first_us + _YEAR_US + 1, 86_400_000_000))
    await connection.close()


async def restored(path: Path, dsn: str) -> Restored:
    backup = open_backup(path)
    assert await check_files(backup, Unwatched()) == []
    connection = await connect(dsn, "bench", 0)
    try:
        return await restore(connection, backup, Unwatched())
    finally:
        await connection.close()


async def verified(path: Path, dsn: str) -> Verified:
    return await verify_backup(path, dsn, Unwatched())


def timed(what: str, readings: int, work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.monotonic()
    done = work()
    took_s = time.monotonic() - began
    console.print(f"{what:<8} {took_s:>7.1f} s  {readings / took_s:>10,.0f} readings/s")
    return done, took_s


def table_bytes(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits"
            " WHERE inhparent = 'iot_service.sensor_readings'::regclass"
        ).fetchone()
    assert row is not None
    return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=10_000_000, help="how many there are (default 10,000,000)")
    readings = parser.parse_args().readings
    directory = Path(tempfile.mkdtemp(prefix="h7b-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg", {"max_wal_size": "4GB", "shared_buffers": "512MB"})
    try:
        postgres.start()
        dsn = asyncio.run(fresh_database(postgres, "source"))
        timed("filling", readings, lambda: fill(dsn, readings))
        made, backup_s = timed("backup", readings, lambda: dump(dsn, directory / "backups", Unwatched()))
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE target")
        done, restore_s = timed("restore", readings, lambda: asyncio.run(restored(made.path, postgres.dsn("target"))))
        proof, verify_s = timed("verify", readings, lambda: asyncio.run(verified(made.path, dsn)))
        if not (proof.sound and made.manifest.readings == done.readings == readings):
            sys.exit(f"bench: what came back is not what there was: {proof}")
        figures = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "postgresql": made.manifest.postgresql,
            "readings": readings,
            "backup_s": round(backup_s, 1),
            "restore_s": round(restore_s, 1),
            "verify_s": round(verify_s, 1),
            "backup_readings_per_s": round(readings / backup_s),
            "restore_readings_per_s": round(readings / restore_s),
            "verify_readings_per_s": round(readings / verify_s),
            "bytes_per_reading": round(made.manifest.size / readings, 2),
            "table_bytes_per_reading": round(table_bytes(dsn) / readings, 1),
        }
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
