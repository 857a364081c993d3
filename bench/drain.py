"""`make bench-drain`: how fast the spool of a long outage drains, and what live readings notice of it.

A spool of 24 h is prepared; then the real gateway starts with it, with emulated PMS5003 on pseudo-terminals that go on
sending, beside broker, ingest server and PostgreSQL (fsync on), each a process of its own. At the end every reading of
the outage and every live one is looked for in the table. The last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from rich.console import Console

from bench.gateway import READINGS_PER_FRAME
from bench.line import fresh_database, mosquitto, workers
from bench.outage import Prepared, faults, prepare
from bench.plot import draw
from bench.sampling import Gauge, Sampler
from device_drivers.simulator.steady import SteadySensors
from heal7_iot.demo.books import SpoolBook, read_spool
from heal7_iot.embedded.postgres import EmbeddedPostgres

IDENTITY = "bench/drain"
FASTER = 20
"""An outage must drain so many times faster than it lasted …"""
LATEST_S = 5.0
"""… and a live reading be no older than this when it can be read."""
_PATIENCE_S = 4 * 3600.0
console = Console(stderr=True)


class Watch:
    """What a reader of the database sees: how old the newest live reading is, and how much of the outage is there."""

    def __init__(self, dsn: str, epoch: int) -> None:
        self._dsn = dsn
        self._epoch = epoch
        self.ages_s: list[tuple[float, float]] = []  # when it was seen (Unix s), its age
        self.age_s: float | None = None
        self.drained = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        newest = (
            "SELECT extract(epoch FROM max(l.recorded_at)), (SELECT committed FROM iot_service.ledger WHERE epoch = %s)"
            " FROM iot_service.series_latest l JOIN iot_service.series s USING (series_id)"
            " JOIN iot_service.iot_devices d USING (device_id) WHERE d.device LIKE 'live-%%'"
        )
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.1):
                row = connection.execute(newest, (self._epoch,)).fetchone()
                assert row is not None
                self.drained = int(row[1] or 0)
                if row[0] is not None:
                    now_s = time.time()
                    self.age_s = now_s - float(row[0])
                    self.ages_s.append((now_s, self.age_s))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def gateway(directory: Path, port: int, live: SteadySensors) -> Iterator[psutil.Popen]:
    """The real daemon, as it is configured by default; ended as systemd does."""
    config = directory / "gateway.toml"
    drivers = "".join(
        f'[[driver]]\nkind = "pms5003"\ndevice = "live-{n}"\nport = "{s.link}"\n' for n, s in enumerate(live.sensors)
    )
    config.write_text(
        f'[gateway]\nsite = "bench"\nname = "drain"\nstate_dir = "{directory / "state"}"\n[mqtt]\nport = {port}\n'
        f'[clock]\ntrust = "system"\n[health]\nfile = "{directory / "health.json"}"\nwrite_s = 1.0\n{drivers}'
    )
    command = [sys.executable, "-m", "heal7_iot", "gateway", "run", "--config", str(config)]
    with (directory / "gateway.log").open("wb") as log:
        process = psutil.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def measure(
    directory: Path, port: int, dsn: str, prepared: Prepared, readings_per_s: float, picture: Path | None
) -> dict[str, object]:
    spool = directory / "state" / "spool.sqlite3"
    file_mb = spool.stat().st_size / 1e6
    live = SteadySensors(directory, [f"D{n:04d}" for n in range(4)], readings_per_s / READINGS_PER_FRAME / 4)
    watch = Watch(dsn, prepared.epoch)
    gauges = [
        Gauge("live reading's age (s)", "", lambda: None if live.closed else watch.age_s),
        Gauge("drained (%)", "", lambda: 100 * watch.drained / prepared.readings),
    ]
    with workers(directory, port, dsn, 1) as servers:
        began_s = time.time()
        with gateway(directory, port, live) as process:
            processes = {"gateway": lambda: process.pid, "ingest server": lambda: servers[0].pid}
            with Sampler(processes, gauges) as sampler:
                _until_drained(watch, prepared, process)
                drained_s = time.time()
                cpu = process.cpu_times()
                time.sleep(5.0)
                live.close()
                # What was read last is settled, too, before the gateway is asked to end.
                time.sleep(5.0)
    watch.close()
    if picture is not None:
        draw(
            sampler.samples,
            picture,
            f"{prepared.seconds / 3600:.3g} h of outage drain beside live readings",
            measures=["memory (MB)"],
        )
    took_s = drained_s - began_s
    # Not while the gateway starts: nothing is read then.
    during = [age_s for at_s, age_s in watch.ages_s if began_s + min(10.0, took_s / 2) < at_s < drained_s] or [0.0]
    after = [age_s for at_s, age_s in watch.ages_s if drained_s + 1 < at_s < drained_s + 5]
    p50_s, p95_s, longest_s = _created(dsn, began_s, drained_s)
    book = read_spool(spool)
    wrong = [*faults(dsn, prepared), *_books(dsn, book)]
    if max(during) == 0.0:
        wrong.append("no live reading was seen while it drained: the outage was too short to tell")
    if took_s * FASTER > prepared.seconds:
        wrong.append(f"it drained in {took_s:.0f} s: not {FASTER} times faster than it lasted")
    if max(during) > LATEST_S:
        wrong.append(f"a live reading was {max(during):.1f} s old before a newer one could be read")
    for fault in wrong:
        console.print(f"NOT AS IT SHOULD BE: {fault}", markup=False, highlight=False)
    return {
        "outage_s": prepared.seconds,
        "readings": prepared.readings,
        "batches": prepared.batches,
        "spool_file_mb": round(file_mb, 1),
        "drained_in_s": round(took_s, 1),
        "times_faster_than_it_lasted": round(prepared.seconds / took_s),
        "readings_per_s": round(prepared.readings / took_s),
        "live_readings_per_s": readings_per_s,
        "live_taken_to_row_s": {"p50": round(p50_s, 2), "p95": round(p95_s, 2), "longest": round(longest_s, 2)},
        "newest_live_age_s": {
            "median": round(statistics.median(during), 2),
            "longest": round(max(during), 2),
            "median_after_the_drain": round(statistics.median(after), 2),
        },
        "gateway_memory_mb": round(
            max(s.processes["gateway"].rss_mb for s in sampler.samples if "gateway" in s.processes)
        ),
        "gateway_cpu_percent": round(100 * (cpu.user + cpu.system) / took_s),
        "exact": not wrong,
        "ok": not wrong,
    }


def _until_drained(watch: Watch, prepared: Prepared, process: psutil.Popen) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    told_s = time.monotonic()
    while watch.drained < prepared.readings:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: {watch.drained} of {prepared.readings} readings are there, and no more come")
        if time.monotonic() - told_s >= 10:
            told_s = time.monotonic()
            age = "–" if watch.age_s is None else f"{watch.age_s:.1f} s"
            share = watch.drained / prepared.readings
            console.print(f"{share:.0%} drained, newest live reading {age} old", highlight=False)
        time.sleep(0.1)


def _created(dsn: str, from_s: float, to_s: float) -> tuple[float, float, float]:
    """p50, p95 and longest of live readings that were taken within: from then until the transaction that wrote them."""
    query = (
        "SELECT percentile_cont(ARRAY[0.5, 0.95, 1.0])"
        " WITHIN GROUP (ORDER BY extract(epoch FROM created_at - recorded_at))"
        " FROM iot_service.sensor_readings r JOIN iot_service.series s USING (series_id)"
        " JOIN iot_service.iot_devices d USING (device_id)"
        " WHERE d.device LIKE 'live-%%' AND r.recorded_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)"
    )
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query, (from_s, to_s)).fetchone()
    assert row is not None
    p50_s, p95_s, longest_s = row[0]
    return float(p50_s), float(p95_s), float(longest_s)


def _books(dsn: str, book: SpoolBook) -> list[str]:
    """Whether the gateway's spool, the ledger and the table agree."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT sum(committed)::bigint, bool_and(balanced AND in_flight = 0),"
            " (SELECT count(*) FROM iot_service.sensor_readings) FROM iot_service.books"
        ).fetchone()
        twice = connection.execute(
            "SELECT count(*) - count(DISTINCT (series_id, recorded_at, value)) FROM iot_service.sensor_readings"
            " JOIN iot_service.series USING (series_id) WHERE channel = 'particles_0_3'"
        ).fetchone()
    assert row is not None
    assert twice is not None
    committed, balanced, rows = row
    if book.sealed == book.settled == committed == rows and balanced and twice[0] == 0:
        return []
    return [f"{book}, {committed} committed, {rows} rows, {twice[0]} of them twice, balanced: {balanced}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0, help="how long the outage lasted (default 24)")
    parser.add_argument("--rate", type=int, default=100, help="readings a second during it (default 100)")
    parser.add_argument("--live", type=float, default=100.0, help="readings a second while it drains (default 100)")
    parser.add_argument("--picture", type=Path, default=None, help="where to draw it (default: nowhere)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7d-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg", {"max_wal_size": "4GB", "shared_buffers": "512MB"})
    figures: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    try:
        began = time.monotonic()
        prepared = prepare(
            directory / "state",
            IDENTITY,
            seconds=round(options.hours * 3600),
            readings_per_s=options.rate,
            ended_at_us=time.time_ns() // 1000 - 60_000_000,
        )
        console.print(f"prepared {prepared.readings:,} readings in {time.monotonic() - began:.0f} s", highlight=False)
        postgres.start()
        with mosquitto(directory) as port:
            dsn = asyncio.run(fresh_database(postgres, "drain"))
            figures |= measure(directory, port, dsn, prepared, options.live, options.picture)
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    print(json.dumps(figures))
    sys.exit(0 if figures["ok"] else 1)


if __name__ == "__main__":
    main()
