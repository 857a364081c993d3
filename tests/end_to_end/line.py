"""The whole line for a test: PostgreSQL, mosquitto, ingest server, gateway and emulated sensors, each killable.

Every frame carries a counter, so that each reading is told from every other. What was sealed is read from the
gateway's own spool file, what arrived from the table: the two are compared reading by reading.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from device_drivers.simulator.steady import SteadySensors
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import Batch, Body, Envelope, Kind, decode_series
from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.decoder import Columns, open_body
from tests.peers.mosquitto import Broker, start_mosquitto
from tests.peers.needs import needs

GATEWAY = "test-1/gw"
PATIENCE_S = 45.0
Key = tuple[int, int]
"""(epoch, seq)"""


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch as the spool file has it: readings as (device, channel, value, monotonic µs)."""

    kind: int
    readings: tuple[tuple[str, str, float, int], ...]


class Line:
    """Starts nothing by itself; `close` ends whatever runs."""

    def __init__(self, directory: Path, *, sensors: int = 2, frames_per_s: float = 25, spread_s: float = 0.0) -> None:
        # First: a skip after a server was started would leave it running.
        needs("mosquitto")
        self.directory = directory
        self.postgres = EmbeddedPostgres(directory / "pg")
        self.postgres.start()
        self.dsn = self.postgres.dsn()
        self._command(["db", "migrate", "--dsn", self.dsn])
        self.broker: Broker = start_mosquitto(directory)
        self.sensors = SteadySensors(directory, [f"T{n:04d}" for n in range(sensors)], frames_per_s)
        self.ingest: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self.state = directory / "state"
        self.spread_s = spread_s
        self.replay_window_s = 259_200.0

    def close(self) -> None:
        self.sensors.close()
        for process in (self.gateway, self.ingest):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.broker.close()
        self.postgres.stop("immediate")

    # -- processes

    def start_ingest(self) -> None:
        config = self.directory / "ingest.toml"
        config.write_text(
            f'[mqtt]\nport = {self.broker.port}\n[database]\ndsn = "{self.dsn}"\n[books]\nlost_after_s = 1.0\n'
        )
        self.ingest = self._spawn("ingest", ["ingest", "run", "--config", str(config)])

    def start_gateway(self) -> None:
        config = self.directory / "gateway.toml"
        drivers = "".join(
            f'[[driver]]\nkind = "pms5003"\ndevice = "air-{n}"\nport = "{s.link}"\n'
            for n, s in enumerate(self.sensors.sensors)
        )
        config.write_text(
            f'[gateway]\nsite = "test-1"\nname = "gw"\nstate_dir = "{self.state}"\n[mqtt]\nport = {self.broker.port}\n'
            '[batch]\nlinger_s = 0.1\n[clock]\ntrust = "system"\n'
            f"[spool]\nreplay_window_s = {self.replay_window_s}\n"
            f"[uplink]\nresend_first_s = 0.5\nresend_longest_s = 2.0\nheartbeat_s = 0.5\nspread_s = {self.spread_s}\n"
            "reconnect_first_s = 0.1\nreconnect_longest_s = 0.5\n"
            f'[health]\nfile = "{self.health}"\nwrite_s = 0.2\n{drivers}'
        )
        self.gateway = self._spawn("gateway", ["gateway", "run", "--config", str(config)])

    def kill(self, part: str) -> None:
        """kill -9, as when its memory is gone."""
        if part == "broker":
            self.broker.kill()
        elif part == "database":
            self.postgres.kill()
        else:
            process = self.gateway if part == "gateway" else self.ingest
            assert process is not None
            process.kill()
            process.wait()

    def start(self, part: str) -> None:
        """Starts it again; the broker has forgotten everything."""
        {
            "broker": self.broker.start,
            "database": self.postgres.start,
            "gateway": self.start_gateway,
            "ingest": self.start_ingest,
        }[part]()

    def stop_gateway(self) -> None:
        """SIGTERM: what was read is sealed."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        assert self.gateway.wait(PATIENCE_S) == 0, self.log("gateway")

    def log(self, name: str) -> str:
        """The last of what a process said."""
        return (self.directory / f"{name}.log").read_text()[-4000:]

    def _spawn(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "heal7_iot", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _command(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "heal7_iot", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        return done

    def audit(self) -> int:
        """Exit code of `heal7-iot audit`."""
        return self._command(["audit", "--dsn", self.dsn]).returncode

    # -- what is where

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchall()

    def numbers(self, statement: str) -> dict[Any, int]:
        """A query of two columns, the second a number."""
        return {row[0]: int(row[1]) for row in self.query(statement)}

    @property
    def health(self) -> Path:
        return self.state / "health.json"

    def speaks(self) -> bool:
        """Whether what the gateway says of itself is of this start."""
        assert self.gateway is not None
        return self.health.exists() and bool(self.report()["pid"] == self.gateway.pid)

    def report(self) -> dict[str, Any]:
        """What the gateway last said of itself."""
        found: dict[str, Any] = json.loads(self.health.read_text())
        return found

    def committed(self) -> int:
        """Readings that the ledger says are committed; 0 while the database is away."""
        try:
            found = self.query("SELECT COALESCE(sum(committed), 0)::bigint FROM iot_service.ledger")
        except psycopg.OperationalError:
            return 0
        return int(str(found[0][0]))

    def rows(self) -> Counter[tuple[str, str, float, int]]:
        """Every row as (device, channel, value, Unix µs)."""
        return Counter(
            (str(d), str(c), float(str(v)), int(str(t)))
            for d, c, v, t in self.query(
                "SELECT d.device, s.channel, r.value, (extract(epoch FROM r.recorded_at) * 1000000)::bigint"
                " FROM iot_service.sensor_readings r JOIN iot_service.series s USING (series_id)"
                " JOIN iot_service.iot_devices d USING (device_id)"
            )
        )

    def wait(self, what: str, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            for name, process in (("gateway", self.gateway), ("ingest", self.ingest)):
                gone = process is not None and process.poll() not in (None, 0, -signal.SIGKILL)
                assert not gone, f"{name} died while waiting until {what}:\n{self.log(name)}"
            assert time.monotonic() < deadline, (
                f"not within {patience_s} s: {what}\n{self.log('gateway')}\n{self.log('ingest')}"
            )
            time.sleep(0.05)

    def let_sensors_send(self, frames: int) -> None:
        """Until the sensors have sent so many more frames, whoever listens."""
        goal = self.sensors.sent + frames
        self.wait(f"the sensors sent {frames} more frames", lambda: self.sensors.sent >= goal)

    def wait_held(self, readings: int) -> None:
        """Until the gateway holds so many readings that nobody has settled."""
        self.wait(
            f"the gateway holds {readings} readings",
            lambda: self.speaks() and self.report()["spool"]["held_readings"] >= readings,
        )

    def wait_committed(self, more: int) -> None:
        """Until so many more readings are committed than now."""
        goal = self.committed() + more
        self.wait(f"{more} more readings are committed", lambda: self.committed() >= goal)

    def wait_settled(self) -> None:
        """Until neither book has anything in flight; the sensors must have stopped, the gateway must run."""
        asked_s = time.time()

        def settled() -> bool:
            report = self.report()
            gateway = (
                report["written_at_s"] > asked_s + 0.5
                and report["waiting"] == 0
                and report["spool"]["held_batches"] == 0
            )
            server = "SELECT bool_and(balanced AND in_flight = 0) FROM iot_service.books"
            return gateway and self.query(server) == [(True,)]

        self.wait("nothing is in flight", settled)

    def sealed(self, spool: Path | None = None) -> dict[Key, SealedBatch]:
        """Every batch in a spool file, settled ones (which stay for the replay window) included."""
        found: dict[Key, SealedBatch] = {}
        path = spool or self.spool
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT id, epoch, kind, readings, before, encoding, length, crc, body FROM batches ORDER BY id"
            ).fetchall()
        finally:
            connection.close()
        for number, epoch, kind, readings, before, encoding, length, crc, body in rows:
            seq = number & (2**40 - 1)
            anchor = Anchor(0, 0, ClockSource.KERNEL)
            envelope = Envelope(kind, GATEWAY, epoch, seq, readings, before, anchor, 1)
            content = open_body(Batch(envelope, Body(encoding, body, length, crc)))
            found[epoch, seq] = SealedBatch(kind, _readings(content) if isinstance(content, Columns) else ())
        return found

    @property
    def spool(self) -> Path:
        return self.state / "spool.sqlite3"

    def assert_no_row_twice(self) -> None:
        # Frames that piled up in the kernel are read at once and share a time; their counter tells them apart.
        counted = Counter((d, v, t) for d, c, v, t in self.rows().elements() if c == "particles_0_3")
        assert max(counted.values(), default=1) == 1, "a row is there twice"

    def assert_exactly_once(self, *spools: Path) -> None:
        """Every reading that any of these spool files sealed is in the table once, and nothing else is."""
        sealed: dict[Key, SealedBatch] = {}
        for spool in spools or (self.spool,):
            for key, batch in self.sealed(spool).items():
                assert sealed.setdefault(key, batch) == batch, f"identity {key} has two bodies"
        expected = Counter((d, c, v) for b in sealed.values() if b.kind == Kind.DATA for d, c, v, _ in b.readings)
        rows = self.rows()
        self.assert_no_row_twice()
        there = Counter((d, c, v) for d, c, v, _ in rows.elements())
        missing, strange = expected - there, there - expected
        assert not missing, f"sealed, but not in the table: {missing.total()}, as {sorted(missing)[:5]}"
        assert not strange, f"in the table, but not sealed: {strange.total()}, as {sorted(strange)[:5]}"
        assert sum(expected.values()) == self.committed()


def _readings(columns: Columns) -> tuple[tuple[str, str, float, int], ...]:
    series = decode_series(columns.table)
    return tuple(
        (series[n].device, series[n].channel, float(v), int(t))
        for n, v, t in zip(columns.series, columns.values, columns.times_us, strict=True)
    )


def short_directory(name: str) -> Path:
    """Below /tmp: a unix socket's path has at most 107 bytes, pytest's folders are longer."""
    made = Path(tempfile.mkdtemp(prefix=f"h7-{name}-"))
    made.chmod(0o755)
    return made
