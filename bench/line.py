"""`make bench`: raw binary COPY into the table, and the whole line, in one run.

The line is publisher → broker → ingest server → committed, ledger and all, each a process of its own, fsync on. The
last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import psycopg
from rich.console import Console

from heal7_iot.embedded.broker import EmbeddedBroker
from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.connection import connect
from ingest_server.storage.line.partitions import NativePartitions
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.schema.migrations import migrate

SIZES = (1000, 100, 25)
_RAW_ROWS = 10_000
console = Console(stderr=True)


@contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """The port of a broker that keeps nothing."""
    broker = EmbeddedBroker(directory, kind="mosquitto")
    broker.start()
    try:
        yield broker.port
    finally:
        broker.stop()


async def fresh_database(postgres: EmbeddedPostgres, name: str) -> str:
    """A migrated database of its own, with this month's partition."""
    admin = await connect(postgres.dsn(), "bench", 60)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    connection = await connect(postgres.dsn(name), "bench", 60)
    await migrate(connection)
    await NativePartitions().make_ahead(connection, time.time_ns() // 1000, 1)
    yesterday_us = time.time_ns() // 1000 - 86_400_000_000
    await NativePartitions().ensure(connection, np.array([yesterday_us]))
    await connection.close()
    return postgres.dsn(name)


def raw_copy(dsn: str, seconds: float) -> float:
    """Rows a second of binary COPY alone, 10,000 rows a transaction, one connection."""
    now_us = time.time_ns() // 1000 - 3_600_000_000
    rng = np.random.default_rng(7)
    rows = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            n = np.arange(rows, rows + _RAW_ROWS)
            rows_of = Rows(
                now_us + n * 15,
                (n % 1000 + 1).astype(np.int32),
                np.round(20 + rng.random(_RAW_ROWS) * 5, 2),
                np.full(_RAW_ROWS, 100, np.int32),
                np.zeros(_RAW_ROWS, np.int32),
            )
            for statement, data in rows_of.copies():
                with connection.cursor().copy(statement.encode()) as copy:
                    copy.write(data)
            rows += _RAW_ROWS
        return rows / (time.monotonic() - began)


def measure_raw(postgres: EmbeddedPostgres, number: int, seconds: float) -> float:
    """`raw_copy` into a table of its own."""
    raw = raw_copy(asyncio.run(fresh_database(postgres, f"raw_{number}")), seconds / 2)
    console.print(f"raw binary COPY           {raw:>10,.0f} rows/s")
    return raw


@contextmanager
def workers(directory: Path, port: int, dsn: str, count: int) -> Iterator[list[psutil.Popen]]:
    """So many ingest servers, ready."""
    started = []
    for n in range(count):
        health = directory / f"health{n}.json"
        health.unlink(missing_ok=True)
        config = directory / f"ingest{n}.toml"
        share = 'share = "bench"\n' if count > 1 else ""
        config.write_text(
            f'[mqtt]\nport = {port}\n[database]\ndsn = "{dsn}"\n[ingest]\n{share}health_file = "{health}"\n'
        )
        started.append(start_worker(directory, n))
    try:
        for n in range(count):
            _wait_connected(directory / f"health{n}.json")
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def start_worker(directory: Path, n: int) -> psutil.Popen:
    """The n-th ingest server of `workers`, which may have been killed meanwhile."""
    command = [sys.executable, "-m", "heal7_iot", "ingest", "run", "--config", str(directory / f"ingest{n}.toml")]
    with (directory / f"ingest{n}.log").open("ab") as log:
        return psutil.Popen(command, stdout=log, stderr=log)


def _wait_connected(health: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if health.exists() and json.loads(health.read_text())["connected"]:
            return
        time.sleep(0.05)
    sys.exit(f"bench: the ingest server did not connect; see {health.parent}")


def _peak_rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError("this kernel does not tell the peak of resident memory")


def whole_line(directory: Path, port: int, dsn: str, size: int, count: int, seconds: float) -> dict[str, float]:
    """The line at one size of batches and one number of workers."""
    window = 400 if count == 1 else 800
    with workers(directory, port, dsn, count) as servers:
        publisher = subprocess.run(
            [sys.executable, "-m", "bench.publisher", str(port), str(size), str(seconds), "4", str(window // 4)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        rss = max(_peak_rss_mb(s.pid) for s in servers)
        cpu = sum(s.cpu_times().user + s.cpu_times().system for s in servers)
    figures: dict[str, float] = json.loads(publisher.stdout.splitlines()[-1])
    figures["server_rss_mb"] = rss
    figures["server_cpu_us_per_reading"] = cpu * 1e6 / figures["readings"]
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT sum(committed), (SELECT count(*) FROM iot_service.sensor_readings) FROM iot_service.ledger"
        ).fetchone()
    assert row is not None
    if not row[0] == row[1] == figures["readings"]:
        sys.exit(f"bench: the books do not balance: {row} where {figures['readings']} readings were settled")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement sends (default 8)")
    seconds = parser.parse_args().seconds
    directory = Path(tempfile.mkdtemp(prefix="h7b-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg", {"max_wal_size": "4GB", "shared_buffers": "512MB"})
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    try:
        postgres.start()
        with mosquitto(directory) as port:
            raws = [measure_raw(postgres, 0, seconds)]
            for count in (1, 2):
                for size in SIZES:
                    dsn = asyncio.run(fresh_database(postgres, f"line_{count}_{size}"))
                    f = whole_line(directory, port, dsn, size, count, seconds)
                    # A shared disk drifts: each ratio is against the raw COPY just before and just after.
                    raws.append(measure_raw(postgres, len(raws), seconds))
                    ratio = f["readings_per_s"] / ((raws[-2] + raws[-1]) / 2)
                    figures[f"line_{size}_x{count}"] = {
                        "readings_per_s": round(f["readings_per_s"]),
                        "ratio": round(ratio, 3),
                        "bytes_per_reading_wire": round(f["bytes_per_reading_wire"], 2),
                        "server_rss_mb": round(f["server_rss_mb"], 1),
                        "server_cpu_us_per_reading": round(f["server_cpu_us_per_reading"], 2),
                    }
                    console.print(
                        f"{count} worker(s), {size:>4} a batch {f['readings_per_s']:>10,.0f} readings/s, "
                        f"{ratio:.2f} of raw, {f['bytes_per_reading_wire']:.1f} bytes a reading, "
                        f"server {f['server_rss_mb']:.0f} MB, "
                        f"{f['server_cpu_us_per_reading']:.2f} µs CPU a reading",
                        soft_wrap=True,
                    )
            figures["raw_copy_rows_per_s"] = round(statistics.median(raws))
            figures["raw_copy_rows_per_s_all"] = [round(raw) for raw in raws]
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
