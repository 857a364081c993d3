"""`make bench-months`: months are made, archived and dropped while 20,000 readings/s are written and long queries read.

What it takes from the writer is how long a reading waited for its commit at the longest; from readers, whether any of
their queries failed. The last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console

from bench.line import fresh_database
from bench.neighbour import writing
from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.connection import connect
from ingest_server.storage.keeping import months
from ingest_server.storage.line.partitions import Month, NativePartitions

_LONGEST_PAUSE_S = 1.0
_OLD = 6
_ROWS_EACH = 200_000
console = Console(stderr=True)


def fill_old(dsn: str, now: Month) -> int:
    """Some months that are past their time, with readings; how many."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for back in range(2, 2 + _OLD):
            begins = months.before(now, back).start
            connection.execute("SELECT iot_service.make_month(%s)", (begins,))
            connection.execute(
                "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
                " SELECT %s + n * interval '10 s', n, n %% 1000 + 1, 0, 100 FROM generate_series(1, %s) AS n",
                (begins, _ROWS_EACH),
            )
    return _OLD * _ROWS_EACH


class LongQueries:
    """Threads that read all of the table, each query in a transaction that lasts some seconds."""

    def __init__(self, dsn: str, count: int) -> None:
        self.done, self.longest_s = 0, 0.0
        self.faults: list[str] = []
        self._dsn = dsn
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with psycopg.connect(self._dsn) as connection:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    with connection.transaction():
                        connection.execute("SELECT series_id, avg(value) FROM iot_service.sensor_readings GROUP BY 1")
                        connection.execute("SELECT pg_sleep(2)")
                        connection.execute("SELECT count(*) FROM iot_service.rollup_1m")
                except psycopg.Error as error:
                    self.faults.append(str(error))
                self.done += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


async def come_and_go(dsn: str, now: Month) -> list[float]:
    """Makes, archives and drops month after month; how long each archiving took, in seconds."""
    took = []
    connection = await connect(dsn, "background", 600, 2)
    try:
        for back in range(1 + _OLD, 1, -1):
            ahead_s = now.start.timestamp() + (400 + 31 * back) * 86_400
            await NativePartitions().ensure(connection, np.array([int(ahead_s) * 1_000_000]))
            began = time.monotonic()
            moved = await months.archive(connection, months.before(now, back - 1))
            took.append(time.monotonic() - began)
            dropped = await months.drop(connection, months.before(now, back - 1))
            console.print(f"archived {len(moved)}, dropped {len(dropped)}: {took[-1]:.1f} s", soft_wrap=True)
    finally:
        await connection.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000, help="readings a second (default 20,000)")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7m-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg", {"max_wal_size": "4GB", "shared_buffers": "1GB"})
    try:
        postgres.start()
        dsn = asyncio.run(fresh_database(postgres, "heal7"))
        now = Month.of(time.time_ns() // 1000)
        old = fill_old(dsn, now)
        with writing(dsn, arguments.rate) as outcome:
            queries = LongQueries(dsn, 2)
            time.sleep(3)
            took = asyncio.run(come_and_go(dsn, now))
            time.sleep(3)
            queries.stop()
        written = outcome[0]
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT (SELECT sum(committed)::bigint FROM iot_service.ledger), count(*)"
                "  FROM iot_service.sensor_readings"
            ).fetchone()
        if row != (written["readings"], written["readings"]):
            sys.exit(f"bench: the books do not balance: {row} where {written['readings']} were written, beside {old}")
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    pause_s = written["longest_wait_s"]
    console.print(
        f"{len(took)} months, {written['readings_per_s']:,.0f} readings/s; a reading waited {pause_s:.2f} s at the"
        f" longest; {queries.done} long queries, {len(queries.faults)} failed",
        soft_wrap=True,
    )
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "months": len(took),
                "readings_per_s": round(written["readings_per_s"]),
                "longest_wait_s": round(pause_s, 3),
                "archiving_s": [round(t, 2) for t in took],
                "long_queries": queries.done,
                "longest_query_s": round(queries.longest_s, 2),
                "failed_queries": queries.faults,
            }
        )
    )
    if pause_s > _LONGEST_PAUSE_S or queries.faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
