"""`make bench-drivers`: what reading costs, from bytes and D-Bus signals to readings.

Three parts: frames a second of each codec; advertisements a second through real bleak on a private bus, with the
emulated BlueZ in a process of its own; and a gateway's whole process with 200 Bluetooth sensors and 16 serial lines, at
work and with nothing to read. A rate "a core" is what was done divided by the CPU time of the process that did it, so
that the emulator beside it does not count. The last line printed is one JSON object.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
from rich.console import Console

from bench.line import fresh_database, mosquitto, workers
from bench.radio import address
from device_drivers.ble.options import BleOptions
from device_drivers.driver import OVERFLOWS
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line.codecs import STREAM_CODECS
from device_drivers.serial_line.line import LineReader
from device_drivers.serial_line.meaning import Meanings
from device_drivers.serial_line.stream import CodecReader, FrameReader
from device_drivers.simulator.serial_sensors import EMULATED, emulated
from device_drivers.simulator.steady import SteadySensors
from firmware_profiles.selection import ProfileSet
from heal7_iot.embedded.postgres import EmbeddedPostgres

DEVICES, LINES = 200, 16
console = Console(stderr=True)

STREAMS = (*STREAM_CODECS, "climate-node")
"""What sends by itself; the last one in lines of JSON."""


def frames_a_core(name: str, profiles: ProfileSet, seconds: float) -> dict[str, float]:
    """Frames of one sensor a second of CPU time: found in the bytes, read, and interpreted by the profile."""
    kind = EMULATED[name]
    options = DRIVER_KINDS[kind.kind].options.model_validate(
        {"kind": kind.kind, "device": "bench", "port": "/dev/serial/none", "model": kind.model}
    )
    reader: FrameReader
    if name in STREAM_CODECS:
        reader = CodecReader(STREAM_CODECS[name])
    else:
        reader = LineReader(options, [profile for profile in profiles if kind.model in profile.models])
    meanings = Meanings(options, profiles)
    # As a driver gets them: some frames at a time, and the border of what is read somewhere within one.
    sensor = emulated(name, profiles)
    stream = b"".join(sensor.sent(2.0 * n) for n in range(1, 1001))
    pieces = [stream[i : i + 100] for i in range(0, len(stream), 100)]
    frames = readings = now_us = 0
    began = time.process_time()
    while time.process_time() - began < seconds:
        for piece in pieces:
            for sample, frame in reader.feed(piece):
                frames += 1
                now_us += 2_000_000  # beyond each profile's sampling interval, so that every frame becomes readings
                readings += len(meanings.readings(sample, frame, now_us, now_us))
    took = time.process_time() - began
    assert frames, f"no frame of {name} was found"
    return {"frames_per_s": round(frames / took), "readings_per_s": round(readings / took)}


@contextmanager
def radio(directory: Path, adverts: int, rate: float, fresh_of: int) -> Iterator[IO[bytes]]:
    """What `bench.radio` writes, after its `ready`."""
    command = [sys.executable, "-m", "bench.radio", "--directory", str(directory), "--devices", str(DEVICES)]
    command += ["--adverts", str(adverts), "--rate", str(rate), "--fresh-of", str(fresh_of)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            sys.exit("bench: the emulated BlueZ did not start")
        yield process.stdout
    finally:
        process.stdin.close()
        process.wait(30)


def listed() -> list[dict[str, str]]:
    return [{"address": address(n), "device": f"ble-{n:03d}"} for n in range(DEVICES)]


async def adverts_a_core(directory: Path, profiles: ProfileSet, adverts: int, fresh_of: int) -> dict[str, float]:
    """As fast as the emulated BlueZ can send: what our process took for each, bleak and D-Bus included."""
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={directory / 'bus.sock'}"
    options = BleOptions.model_validate({"device": listed(), "silence_s": 30})
    fresh = adverts // fresh_of
    with radio(directory, adverts, 0.0, fresh_of):
        driver = DRIVER_KINDS["ble"].open(options, profiles, lambda: time.monotonic_ns() // 1000)
        groups = readings = 0
        async with driver:
            cpu, began = time.process_time(), time.monotonic()
            async for group in driver.readings():
                groups += 1
                readings += len(group)
                if groups + driver.faults.get(OVERFLOWS, 0) >= fresh:
                    break
            cpu, took = time.process_time() - cpu, time.monotonic() - began
        faults = driver.faults
    heard = groups + faults.get("repeats", 0)
    return {
        "adverts_per_s_of_a_core": round(heard / cpu),
        "us_per_advert": round(1e6 * cpu / heard, 1),
        "readings_per_advert": round(readings / groups, 1),
        "sent_per_s": round(heard / took),
        "overflowed": faults.get(OVERFLOWS, 0),
    }


def gateway_file(directory: Path, port: int, links: list[Path]) -> Path:
    config = directory / "gateway.toml"
    tables = [
        f'[gateway]\nsite = "bench"\nname = "gw"\nstate_dir = "{directory / "state"}"\n[mqtt]\nport = {port}',
        f'[clock]\ntrust = "system"\n[health]\nfile = "{directory / "gateway-health.json"}"\nwrite_s = 5.0',
        '[[driver]]\nkind = "ble"\nsilence_s = 3600',
    ]
    tables += [f'[[driver.device]]\naddress = "{d["address"]}"\ndevice = "{d["device"]}"' for d in listed()]
    tables += [
        f'[[driver]]\nkind = "pms5003"\ndevice = "air-{n}"\nport = "{link}"\nsilence_s = 3600'
        for n, link in enumerate(links)
    ]
    config.write_text("\n".join(tables) + "\n")
    return config


def gateway_takes(directory: Path, port: int, dsn: str, rate: float, seconds: float) -> dict[str, float]:
    """The gateway's whole process: CPU and memory while 200 sensors advertise and 16 lines send, then in silence."""
    sensors = SteadySensors(directory, [f"B{n:04d}" for n in range(LINES)], 1.0)
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory / 'bus.sock'}"}
    warm_s = 5.0
    adverts = round(rate * (seconds + 2 * warm_s))
    with (
        workers(directory, port, dsn, 1),
        radio(directory, adverts, rate, 2) as said,
        (directory / "gateway.log").open("wb") as log,
    ):
        config = gateway_file(directory, port, [s.link for s in sensors.sensors])
        command = [sys.executable, "-m", "heal7_iot", "gateway", "run", "--config", str(config)]
        gateway = psutil.Popen(command, stdout=log, stderr=log, env=environment)
        _wait_reading(directory / "gateway-health.json")
        time.sleep(warm_s)
        busy, rss = _cpu(gateway, seconds), gateway.memory_info().rss
        sent = json.loads(said.readline())
        sensors.pause()
        time.sleep(warm_s)
        idle = _cpu(gateway, seconds)
        health = json.loads((directory / "gateway-health.json").read_text())
        gateway.terminate()
        gateway.wait(30)
        sensors.close()
    # A gateway that does nothing is cheap: the figures count only if it read what was sent.
    frames = sensors.sent * LINES * 12
    if health["readings"] < 0.9 * (4 * sent["adverts"] / 2 + frames):
        sys.exit(f"bench: the gateway read {health['readings']} readings; log in {directory}")
    return {
        "adverts_per_s": round(sent["adverts"] / sent["seconds"]),
        "readings_per_s": round(health["readings"] / (sent["seconds"] + warm_s)),
        "cpu_percent_of_a_core": round(busy, 2),
        "rss_mb": round(rss / 1e6, 1),
        "idle_cpu_percent_of_a_core": round(idle, 2),
    }


def _cpu(process: psutil.Popen, seconds: float) -> float:
    """Percent of one core over so many seconds."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took = process.cpu_times(), time.monotonic() - began
    return float(100 * (after.user + after.system - before.user - before.system) / took)


def _wait_reading(health: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if health.exists() and all(d["state"] == "reading" for d in json.loads(health.read_text())["drivers"]):
            return
        time.sleep(0.05)
    sys.exit("bench: the gateway's drivers did not open")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch the gateway (default 30)")
    parser.add_argument("--adverts", type=int, default=40_000, help="how many at full speed (default 40000)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7d-"))
    directory.chmod(0o755)
    profiles = ProfileSet.load()
    figures: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    codecs = figures["codecs"] = {kind: frames_a_core(kind, profiles, 1.0) for kind in STREAMS}
    for kind, rates in codecs.items():
        console.print(
            f"{kind:<12} {rates['frames_per_s']:>9,} frames/s of a core, {rates['readings_per_s']:,} readings/s"
        )
    postgres = EmbeddedPostgres(directory / "pg")
    try:
        for name, fresh_of in (("fresh", 1), ("repeated", 10)):
            measured = asyncio.run(adverts_a_core(directory, profiles, options.adverts, fresh_of))
            figures[name] = measured
            console.print(
                f"{name:<12} {measured['adverts_per_s_of_a_core']:>9,} adverts/s of a core, "
                f"{measured['us_per_advert']} µs each, {measured['readings_per_advert']} readings of each; "
                f"{measured['overflowed']} lost"
            )
        postgres.start()
        with mosquitto(directory) as port:
            dsn = asyncio.run(fresh_database(postgres, "drivers"))
            takes = figures["gateway"] = gateway_takes(directory, port, dsn, DEVICES / 2, options.seconds)
        console.print(f"gateway      {' '.join(f'{key}={value}' for key, value in takes.items())}")
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
