"""`make bench-neighbour`: what the platform's own queries feel of 10,000 readings/s beside them.

pgbench works on tables of the platform's in the same database, at 30 % of its own maximum, with and without a process
that writes readings through the server's storage code, jobs and rollups included. Five alternating pairs; the ratio of
the p95 of each pair, and their median. The last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console

from bench.line import fresh_database
from heal7_iot.embedded.postgres import EmbeddedPostgres

_AIM = 1.25
_SHARE = 0.3
_CLIENTS = 4
_SCALE = 20
console = Console(stderr=True)


def pgbench(postgres: EmbeddedPostgres, directory: Path, *arguments: str) -> str:
    """Runs it; what it says. Its log of transactions lies in the directory."""
    done = subprocess.run(
        [str(postgres.program("pgbench")), *arguments, postgres.dsn("heal7")],
        check=True,
        capture_output=True,
        text=True,
        cwd=directory,
    )
    return done.stdout


def latencies_ms(
    postgres: EmbeddedPostgres, directory: Path, rate: float, seconds: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of every transaction of a run at a rate, from when it was due."""
    for old in directory.glob("pgbench_log*"):
        old.unlink()
    pgbench(postgres, directory, "-c", str(_CLIENTS), "-j", "2", "-T", str(seconds), "-R", f"{rate:.0f}", "-l", "-n")
    # The third column is the latency in µs, the time that it was late included (pgbench's manual, "Per-Transaction
    # Logging").
    rows = [line.split()[2] for log in directory.glob("pgbench_log*") for line in log.read_text().splitlines()]
    return np.array(rows, dtype=np.float64) / 1000


@contextmanager
def writing(dsn: str, rate: float) -> Iterator[list[dict[str, float]]]:
    """A steady writer beside, or nobody where the rate is 0; what it said at its end."""
    if not rate:
        yield []
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.steady_writer", dsn, str(rate)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "READY":
        sys.exit("bench: the writer did not start")
    said: list[dict[str, float]] = []
    try:
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        said.append(json.loads(process.stdout.readline()))
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement (default 20)")
    parser.add_argument("--rate", type=float, default=10_000, help="readings a second beside it (default 10,000)")
    parser.add_argument("--pairs", type=int, default=5, help="with and without, alternating (default 5)")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7n-"))
    directory.chmod(0o777)
    postgres = EmbeddedPostgres(directory / "pg", {"max_wal_size": "4GB", "shared_buffers": "1GB"})
    pairs: list[dict[str, float]] = []
    rate = 0.0
    try:
        postgres.start()
        dsn = asyncio.run(fresh_database(postgres, "heal7"))
        pgbench(postgres, directory, "-i", "-q", "-s", str(_SCALE))
        said = pgbench(postgres, directory, "-c", str(_CLIENTS), "-j", "2", "-T", str(arguments.seconds), "-n")
        found = re.search(r"tps = ([0-9.]+)", said)
        assert found is not None, said
        most = float(found[1])
        console.print(f"pgbench alone: {most:,.0f} transactions/s; measured at {_SHARE * most:,.0f}/s", soft_wrap=True)
        for number in range(arguments.pairs):
            p95 = {}
            # Which of the two comes first alternates: a disk that drifts favours neither.
            for beside in (False, True) if number % 2 == 0 else (True, False):
                with writing(dsn, arguments.rate if beside else 0) as outcome:
                    latency = latencies_ms(postgres, directory, _SHARE * most, arguments.seconds)
                p95[beside] = float(np.percentile(latency, 95))
                rate = outcome[0]["readings_per_s"] if outcome else rate
            pairs.append(
                {
                    "without_ms": p95[False],
                    "with_ms": p95[True],
                    "ratio": p95[True] / p95[False],
                    "readings_per_s": rate,
                }
            )
            console.print(
                f"pair {number + 1}: p95 {p95[False]:.2f} ms alone, {p95[True]:.2f} ms beside {rate:,.0f} readings/s:"
                f" {p95[True] / p95[False]:.2f}",
                soft_wrap=True,
            )
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT sum(committed)::bigint, (SELECT count(*) FROM iot_service.sensor_readings)"
                "  FROM iot_service.ledger"
            ).fetchone()
        assert row is not None
        if row[0] != row[1]:
            sys.exit(f"bench: the books do not balance: {row}")
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    median = statistics.median(p["ratio"] for p in pairs)
    console.print(f"median of the ratios: {median:.2f} (aim: below {_AIM})")
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "pgbench_max_tps": round(most),
                "pairs": [{k: round(v, 3) for k, v in p.items()} for p in pairs],
                "median_ratio": round(median, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
