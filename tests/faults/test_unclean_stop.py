"""An unclean stop loses at most the readings of one linger, and the gap says so."""

import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_drivers.serial_line.plantower import Frame
from device_drivers.simulator.plantower import FIRMWARE, EmulatedPms5003
from gateway.clock import read_boot_id
from gateway.config import BatchOptions, load_config
from gateway.health import HealthReport, read_report
from gateway.link.wire import Gap, Kind, decode_series, unpack
from tests.end_to_end.line import short_directory
from tests.faults.stepped_gateway import WALL_AT_BOOT_US
from tests.gateway.running import PATIENCE_S
from tests.gateway.scripted_driver import Script
from tests.gateway.spool.support import GATEWAY, ROOMY, Server, everything, opened
from tests.peers.mosquitto import free_port

LINGER_US = 1_000_000
STEP_US = 200_000


def write_config(directory: Path, driver: str) -> Path:
    """All defaults, and no broker: what is sealed stays."""
    path = directory / "gateway.toml"
    path.write_text(
        f'[gateway]\nsite = "seoul"\nname = "room-1"\nstate_dir = "{directory / "state"}"\n'
        f'[mqtt]\nport = {free_port()}\n[clock]\ntrust = "system"\n[health]\nwrite_s = 0.1\n{driver}'
    )
    return path


Sealed = list[tuple[str, float, int]]
"""Channel, value and time (monotonic µs) of each reading."""


def sealed_in(directory: Path, now_us: int) -> tuple[Sealed, list[Gap]]:
    """Opens what a kill left, at this time: what is sealed in it, in order, and the gaps that it tells."""
    found: Sealed = []
    server = Server()
    with opened(directory / "state" / "spool.sqlite3", ROOMY, boot=read_boot_id(), now_us=now_us, anchor=None) as spool:
        for identity in everything(spool):
            batch = spool.load(identity, GATEWAY, 1)
            assert batch is not None
            if batch.envelope.kind == Kind.DATA:
                content = unpack(batch)
                series = decode_series(content["series"])
                values, indices, at_us = column(content, "d", "v"), column(content, "H", "s"), 0.0
                for value, index, step_us in zip(values, indices, column(content, "q", "t"), strict=True):
                    at_us += step_us
                    found.append((series[int(index)].channel, value, int(at_us)))
        server.drain(spool)
    return found, server.gaps


def column(content: dict[str, object], kind: str, key: str) -> list[float]:
    stored = content[key]
    assert isinstance(stored, bytes)
    found = array(kind)
    found.frombytes(stored)
    return list(found)


def until(path: Path, kinds: Script | None, process: subprocess.Popen[bytes], what: str) -> Iterator[HealthReport]:
    """Reports as they come; the one who asks ends the waiting."""
    config = load_config(path, kinds.kinds()) if kinds is not None else load_config(path)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the gateway has ended"
        report = read_report(config)
        if report is not None and report.pid == process.pid:
            yield report
        time.sleep(0.01)  # a file tells nobody that it was written
    raise AssertionError(f"not within {2 * PATIENCE_S} s: {what}")


@contextmanager
def process_of(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", *arguments], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_default_linger_is_a_second() -> None:
    assert BatchOptions().linger_s * 1_000_000 == LINGER_US


@pytest.mark.parametrize("steps", [11, 13, 16, 18])
def test_a_kill_loses_at_most_what_lingers_and_the_gap_begins_there(tmp_path: Path, steps: int) -> None:
    """Numbered readings, five a second of the gateway's own time, which only they move."""
    path = write_config(tmp_path, '[[driver]]\nkind = "scripted"\ndevice = "a"\n')
    script = Script()
    times = [5_000_000 + n * STEP_US for n in range(steps + 1)]
    with process_of(["tests.faults.stepped_gateway", str(path)]) as process:
        assert process.stdin is not None
        process.stdin.write(b"%d\n" % times[0])
        for n in range(1, steps + 1):
            process.stdin.write(b"%d %d\n" % (times[n], n))
            process.stdin.flush()
            for report in until(path, script, process, f"reading {n} is sealed, or waits in the batcher"):
                if report.readings == n == report.spool.sealed + report.waiting:
                    break
        process.send_signal(signal.SIGKILL)
    killed_us = times[-1]
    sealed, gaps = sealed_in(tmp_path, killed_us + 1)
    # Nothing is missing in between, and what is missing at the end is no older than a linger.
    assert sealed == [("pm2_5", float(n), times[n]) for n in range(1, len(sealed) + 1)]
    assert steps - len(sealed) <= LINGER_US // STEP_US
    assert all(at > killed_us - LINGER_US for at in times[len(sealed) + 1 :])
    (gap,) = gaps
    assert (gap.reason, gap.readings) == ("unclean_stop", None)
    assert (gap.from_us, gap.to_us) == (WALL_AT_BOOT_US + sealed[-1][2], WALL_AT_BOOT_US + killed_us + 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for a device's name."""
    directory = short_directory("kill")
    yield directory
    shutil.rmtree(directory)


def test_a_kill_of_the_real_daemon_leaves_no_hole_but_the_one_that_the_gap_names(folder: Path) -> None:
    with EmulatedPms5003(folder, "K0001") as sensor:
        path = write_config(folder, f'[[driver]]\nkind = "pms5003"\ndevice = "air"\nport = "{sensor.link}"\n')
        sent_us = [0]
        with process_of(["heal7_iot", "gateway", "run", "--config", str(path)]) as process:
            for report in until(path, None, process, "some seconds of readings are sealed"):
                if report.drivers and report.drivers[0].state == "reading":
                    sent_us.append(time.monotonic_ns() // 1000)
                    sensor.send(Frame(particles_0_3=len(sent_us) - 1, version=FIRMWARE))
                if report.spool.held_batches >= 3:
                    break
            process.send_signal(signal.SIGKILL)
    killed_us = time.monotonic_ns() // 1000
    sealed, gaps = sealed_in(folder, killed_us + 1)
    numbered = [(value, at) for channel, value, at in sealed if channel == "particles_0_3"]
    assert [value for value, _ in numbered] == [float(n) for n in range(1, len(numbered) + 1)]
    assert all(sent_us[n] <= at for n, (_, at) in enumerate(numbered, 1))
    (gap,) = gaps
    assert gap.reason == "unclean_stop"
    assert gap.from_us is not None
    assert gap.to_us is not None
    # From the last reading that was sealed: what came after it, and is lost, is in between.
    assert gap.to_us - gap.from_us == killed_us + 1 - sealed[-1][2]
