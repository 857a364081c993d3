"""`make bench`, second part: one gateway at 1,000 readings a second, real frames over pseudo-terminals.

Broker, ingest server and database run beside it, so that receipts come as they would. What counts is the gateway's own
process: CPU share of one core, resident memory, bytes that reach the disk for each reading. The last line printed is
one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
from rich.console import Console

from bench.line import fresh_database, mosquitto, workers
from device_drivers.serial_line.plantower import Frame
from device_drivers.simulator.plantower import FIRMWARE, EmulatedPms5003
from heal7_iot.embedded.postgres import EmbeddedPostgres

READINGS_PER_FRAME = 12
console = Console(stderr=True)


def feed(sensors: list[EmulatedPms5003], readings_per_s: float, seconds: float) -> int:
    """Sends frames evenly; how many readings they held."""
    frames_per_s = readings_per_s / READINGS_PER_FRAME
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        while sent < now * frames_per_s:
            n = sent % 400
            frame = Frame(n, n + 3, n + 5, n, n + 2, n + 4, 900 + n, 300 + n, 80, 12, 4, 1, version=FIRMWARE)
            sensors[sent % len(sensors)].send(frame)
            sent += 1
        time.sleep(0.005)
    return sent * READINGS_PER_FRAME


def measure(directory: Path, port: int, dsn: str, rate: float, seconds: float) -> dict[str, object]:
    """The gateway's process over so many seconds at so many readings a second."""
    sensors = [EmulatedPms5003(directory, f"B{n:04d}") for n in range(8)]
    drivers = "".join(
        f'[[driver]]\nkind = "pms5003"\ndevice = "air-{n}"\nport = "{s.link}"\n' for n, s in enumerate(sensors)
    )
    config = directory / "gateway.toml"
    health = directory / "gateway-health.json"
    config.write_text(
        f'[gateway]\nsite = "bench"\nname = "gw"\nstate_dir = "{directory / "state"}"\n[mqtt]\nport = {port}\n'
        f'[clock]\ntrust = "system"\n[health]\nfile = "{health}"\nwrite_s = 1.0\n{drivers}'
    )
    command = [sys.executable, "-m", "heal7_iot", "gateway", "run", "--config", str(config)]
    with workers(directory, port, dsn, 1), (directory / "gateway.log").open("wb") as log:
        gateway = psutil.Popen(command, stdout=log, stderr=log)
        _wait_reading(health)
        total = feed(sensors, rate, 5)  # start-up, first registration, first receipts
        before, io_before = gateway.cpu_times(), gateway.io_counters()
        began = time.monotonic()
        sent = feed(sensors, rate, seconds)
        elapsed = time.monotonic() - began
        total += sent
        after, io_after = gateway.cpu_times(), gateway.io_counters()
        rss = gateway.memory_info().rss / 1e6
        gateway.terminate()
        gateway.wait(30)
        committed = _committed(dsn)
    for sensor in sensors:
        sensor.close()
    # A gateway that does nothing is cheap: the figures count only if what was sent has arrived.
    if not 0.98 * total <= committed <= total:
        sys.exit(f"bench: {total} readings were sent, {committed} are in the database")
    cpu = after.user + after.system - before.user - before.system
    return {
        "readings_per_s": round(sent / elapsed),
        "cpu_percent_of_a_core": round(100 * cpu / elapsed, 1),
        "rss_mb": round(rss, 1),
        "bytes_written_per_reading": round((io_after.write_bytes - io_before.write_bytes) / sent, 1),
    }


def _wait_reading(health: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if health.exists() and all(d["state"] == "reading" for d in json.loads(health.read_text())["drivers"]):
            return
        time.sleep(0.05)
    sys.exit("bench: the gateway's drivers did not open")


def _committed(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM iot_service.sensor_readings").fetchone()
    assert row is not None
    return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure (default 30)")
    parser.add_argument("--rate", type=float, default=1000.0, help="readings a second (default 1000)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7g-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg")
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "filesystem": subprocess.run(
            ["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    try:
        postgres.start()
        with mosquitto(directory) as port:
            dsn = asyncio.run(fresh_database(postgres, "gateway"))
            figures |= measure(directory, port, dsn, options.rate, options.seconds)
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    console.print(
        f"gateway at {figures['readings_per_s']} readings/s: {figures['cpu_percent_of_a_core']} % of a core, "
        f"{figures['rss_mb']} MB, {figures['bytes_written_per_reading']} bytes written a reading"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
