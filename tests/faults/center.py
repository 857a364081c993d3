"""Several gateways, a broker, workers and a database as processes of their own, with a proxied link between any two.

Gateway 1 keeps its spool within a small bound, on a small file system where the right to mount one is given. Gateway 2
lives with a wall clock of its own (faketime). The others are as they come.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from device_drivers.simulator.steady import SteadySensors
from heal7_iot.embedded.postgres import EmbeddedPostgres
from tests.faults.oracle import Oracle, Verdict
from tests.faults.proxy import Link, Proxy
from tests.faults.receipt_audit import ReceiptAudit
from tests.faults.signal_frames import frame
from tests.faults.watchers import BatchTap, CommitTrap
from tests.peers.mosquitto import Broker, start_mosquitto
from tests.peers.needs import needs

SITE = "center"
SMALL_DISK, OWN_CLOCK = 1, 2
"""The gateways that have one."""
SMALL_DISK_BYTES = 12 * 1024 * 1024
SMALL_BOUND_BYTES = 4 * 1024 * 1024
PATIENCE_S = 240.0
SENSORS_OF_ONE_LINE = 90
"""Devices of one serial line, one after the other, are numbered below this."""
CLOCK_IS_READ_S = 1.2
"""A gateway with a clock of its own learns within so long that this was moved."""

_TOOK_BACK = "the database no longer holds"
"""What a gateway says that sends again what was settled. Unless a test restored the database, some receipt lied."""

_BROKER = ("max_queued_messages 20", "max_inflight_messages 0", "sys_interval 1")
"""Fewer than the gateways may have under way: a server that is away for a moment overflows its queue."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a center lives. wall_speed: how many times as fast as the real ones its wall clocks run (faketime);
    monotonic clocks, by which it waits, are left alone."""

    frames_per_s: float = 10.0
    linger_s: float = 0.1
    replay_window_s: float = 259_200.0
    wall_speed: int = 1


HASTY = Pace()
"""Every wait is short, so that many faults find something to break."""


@dataclass(slots=True)
class Daemon:
    """One of our own processes. log: what it says, all of its starts; said: how long that was before this start."""

    name: str
    arguments: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    said: int = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        self.said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "heal7_iot", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9; nothing where it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self) -> None:
        """A clean stop. Raises AssertionError where it does not end so."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{self.name} does not stop:\n{self.last_words()}") from None
        # Python ends so until the daemon has taken the signal over.
        early = code == -signal.SIGTERM and self.log.stat().st_size == self.said
        assert code == 0 or early, f"{self.name} stopped with {code}:\n{self.last_words()}"

    def assert_not_dead(self) -> None:
        """A process that ended by itself is a failure, whatever a supervisor would do about it."""
        code = None if self.process is None else self.process.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.last_words()}"

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]


class Gateway(Daemon):
    """One gateway: its link to the broker, its folder, what it last said of itself."""

    number: int
    state: Path
    health: Path
    config: Path
    clock: Path | None
    link: Link
    tap: BatchTap
    padded: int = 0
    """Batches of padding that it has been given."""

    @property
    def identity(self) -> str:
        return f"{SITE}/gw-{self.number}"

    @property
    def spool(self) -> Path:
        return self.state / "spool.sqlite3"

    def report(self) -> dict[str, Any] | None:
        """Of this start; None before its first."""
        if self.process is None or not self.health.exists():
            return None
        found: dict[str, Any] = json.loads(self.health.read_text())
        return found if found["pid"] == self.process.pid else None

    def set_clock(self, offset_s: int) -> None:
        """How far its wall clock is off, from now on."""
        assert self.clock is not None
        draft = self.clock.with_suffix(".draft")
        draft.write_text(f"{offset_s:+d}\n")
        draft.replace(self.clock)


class Worker(Daemon):
    """One ingest server: its links, and the trap for its COMMIT."""

    broker_link: Link
    database_link: Link
    trap: CommitTrap


class Center:
    """All of it. Built running; `close` ends whatever runs."""

    def __init__(
        self,
        directory: Path,
        *,
        gateways: int = 3,
        workers: int = 2,
        sensors: int = 1,
        pace: Pace = HASTY,
        settles_within_s: float = PATIENCE_S,
    ) -> None:
        # First: a skip after a server was started would leave it running.
        needs("mosquitto")
        self.directory = directory
        self.pace = pace
        self.settles_within_s = settles_within_s
        self.restored = False
        self.oracle = Oracle()
        self.proxy = Proxy()
        self.postgres = EmbeddedPostgres(directory / "pg")
        self.postgres.start()
        self.dsn = self.postgres.dsn()
        self._command("db", "migrate", "--dsn", self.dsn)
        self.broker: Broker = start_mosquitto(directory, settings=_BROKER)
        self.replayer = Replayer(self.broker.port)
        self.receipt_audit = ReceiptAudit(self.broker.port, self.dsn, self.oracle.complain)
        self.sensors_each = sensors
        serials = [f"G{g}S{s}" for g in range(gateways) for s in range(sensors)]
        self.sensors = SteadySensors(directory, serials, pace.frames_per_s, frame)
        self.workers = [self._worker(n) for n in range(3)]
        self.gateways = [self._gateway(n) for n in range(gateways)]
        for worker in self.workers[:workers]:
            worker.start()
        for gateway in self.gateways:
            gateway.start()

    def close(self) -> None:
        self.replayer.close()
        for daemon in (*self.gateways, *self.workers):
            daemon.kill()
        self.sensors.close()
        self.proxy.close()
        self.broker.close()
        if self.postgres.running:
            self.postgres.kill()
        self.receipt_audit.close()
        if self.small_disk is not None:
            subprocess.run(["umount", "-l", str(self.small_disk)], check=True)

    # -- parts ----------------------------------------------------------------------------------------------------

    @property
    def small_disk(self) -> Path | None:
        """Where a disk can be filled; None where none could be mounted."""
        folder = self.directory / f"state-{SMALL_DISK}"
        return folder if folder.is_mount() else None

    def _worker(self, number: int) -> Worker:
        name = f"worker-{number}"
        config = self.directory / f"{name}.toml"
        worker = Worker(name, ["ingest", "run", "--config", str(config)], self.directory / f"{name}.log")
        worker.environment = self._wall_speed()
        worker.trap = CommitTrap()
        worker.broker_link = self.proxy.link(("127.0.0.1", self.broker.port))
        worker.database_link = self.proxy.link(self.postgres.directory / ".s.PGSQL.5432", worker.trap.watch)
        dsn = f"host=127.0.0.1 port={worker.database_link.port} user=postgres dbname=postgres sslmode=disable"
        config.write_text(
            f"[mqtt]\nport = {worker.broker_link.port}\nkeepalive_s = 2\nconnect_timeout_s = 2.0\n"
            f'[database]\ndsn = "{dsn}"\nwrite.statement_timeout_s = 5.0\n'
            '[ingest]\nreceive_maximum = 10\nshare = "ingest"\n'
            "[books]\nlost_after_s = 2.0\n"
        )
        return worker

    def _gateway(self, number: int) -> Gateway:
        name = f"gateway-{number}"
        config = self.directory / f"{name}.toml"
        gateway = Gateway(name, ["gateway", "run", "--config", str(config)], self.directory / f"{name}.log")
        gateway.number, gateway.config, gateway.clock = number, config, None
        gateway.state, gateway.health = self.directory / f"state-{number}", self.directory / f"health-{number}.json"
        gateway.state.mkdir()
        gateway.environment = self._wall_speed()
        gateway.tap = BatchTap(self.oracle.heard)
        gateway.link = self.proxy.link(("127.0.0.1", self.broker.port), gateway.tap.watch)
        spool = f"[spool]\nreplay_window_s = {self.pace.replay_window_s}\n"
        if number == SMALL_DISK:
            _mount(gateway.state)
            spool += f"bound_bytes = {SMALL_BOUND_BYTES}\n"
        if number == OWN_CLOCK and self.pace.wall_speed == 1 and (library := faketime_library()) is not None:
            gateway.clock = self.directory / f"clock-{number}"
            gateway.set_clock(0)
            gateway.environment = _faketime(
                library, {"FAKETIME_TIMESTAMP_FILE": str(gateway.clock), "FAKETIME_CACHE_DURATION": "1"}
            )
        mine = self.sensors.sensors[number * self.sensors_each :][: self.sensors_each]
        drivers = "".join(
            f'[[driver]]\nkind = "pms5003"\ndevice = "air-{number}-{n}"\nport = "{sensor.link}"\n'
            for n, sensor in enumerate(mine)
        )
        config.write_text(
            f'[gateway]\nsite = "{SITE}"\nname = "gw-{number}"\nstate_dir = "{gateway.state}"\n'
            f"[mqtt]\nport = {gateway.link.port}\nkeepalive_s = 2\nconnect_timeout_s = 2.0\n{spool}"
            f'[batch]\nlinger_s = {self.pace.linger_s}\n[clock]\ntrust = "system"\n'
            "[uplink]\nresend_first_s = 0.5\nresend_longest_s = 2.0\nheartbeat_s = 0.5\nspread_s = 0.2\n"
            "audit_wait_s = 1.0\nreconnect_first_s = 0.1\nreconnect_longest_s = 0.5\n"
            f'[health]\nfile = "{gateway.health}"\nwrite_s = 0.2\n{drivers}'
        )
        return gateway

    def _wall_speed(self) -> dict[str, str]:
        if self.pace.wall_speed == 1:
            return {}
        library = faketime_library()
        assert library is not None, "wall clocks that run faster want libfaketime: apt install faketime"
        return _faketime(library, {"FAKETIME": f"+0 x{self.pace.wall_speed}"})

    @property
    def links(self) -> dict[str, Link]:
        """Every proxied link, by name."""
        return (
            {f"{g.name} to broker": g.link for g in self.gateways}
            | {f"{w.name} to broker": w.broker_link for w in self.workers}
            | {f"{w.name} to database": w.database_link for w in self.workers}
        )

    def _command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "heal7_iot", *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode in (0, 1), done.stderr
        assert not done.stderr, done.stderr
        return done

    # -- looking --------------------------------------------------------------------------------------------------

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchall()

    def committed(self) -> int:
        """Readings, by the ledger; 0 while the database is away."""
        try:
            return int(self.query("SELECT COALESCE(sum(committed), 0)::bigint FROM iot_service.ledger")[0][0])
        except psycopg.OperationalError:
            return 0

    def wait(self, what: str, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            self.assert_nobody_died()
            assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}\n{self.last_words()}"
            time.sleep(0.05)

    def assert_nobody_died(self) -> None:
        for daemon in (*self.gateways, *self.workers):
            daemon.assert_not_dead()

    def last_words(self) -> str:
        """What everybody said last."""
        try:
            books = self.query("SELECT * FROM iot_service.books")
            open_epochs = self.query(
                "SELECT gateway, epoch, next_seq, sealed, in_flight, open_seqs, missing FROM iot_service.books_by_epoch"
                " WHERE NOT isempty(open_seqs) OR in_flight <> 0"
            )
        except psycopg.OperationalError as error:
            books, open_epochs = [(str(error),)], []
        reports = [(g.name, r and (r["waiting"], r["spool"], r["uplink"])) for g in self.gateways for r in [g.report()]]
        logs = "\n".join(f"--- {d.name}\n{d.last_words()}" for d in (*self.gateways, *self.workers) if d.log.exists())
        return f"books: {books}\nopen: {open_epochs}\nreports: {reports}\n{logs}"

    def copy_spool(self, gateway: Gateway, *, endangered: bool = False) -> Path:
        """A copy of its spool's files, entered with the oracle. The gateway must not be running.

        endangered: the file is about to be damaged.
        """
        folder = self.directory / "copies" / f"{gateway.name}-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        for file in gateway.state.glob("spool.sqlite3*"):
            shutil.copy2(file, folder / file.name)
        copy = folder / gateway.spool.name
        if copy.exists():
            # Read from a copy of the copy: looking replays and changes its write-ahead log.
            looked = shutil.copytree(folder, folder / "looked")
            self.oracle.look_into(gateway.identity, looked / copy.name, endangered=endangered)
            shutil.rmtree(looked)
        return copy

    def pids(self) -> dict[str, Callable[[], int | None]]:
        """What to look up each process by."""

        def of_daemon(daemon: Daemon) -> Callable[[], int | None]:
            return lambda: daemon.process.pid if daemon.process is not None else None

        return {d.name: of_daemon(d) for d in (*self.gateways, *self.workers)}

    def settle(self, *, stop: bool = True) -> Verdict:
        """Holds the sensors, waits until nothing is in flight, and compares. Everything must run.

        stop: gateways are stopped for the comparison and started again.
        """
        self.sensors.pause()
        self.wait("nothing is in flight", self._is_settled(), self.settles_within_s)
        for gateway in self.gateways:
            if stop:
                gateway.terminate()
            shutil.rmtree(self.copy_spool(gateway).parent)
            if not self.restored and self.took_back(gateway):
                self.oracle.complain(f"{gateway.name} took back what was settled, though no database was restored")
        audit = self._command("audit", "--dsn", self.dsn)
        verdict = self.oracle.compare(self.dsn, audit=audit.stdout if audit.returncode else None)
        for gateway in self.gateways:
            if stop:
                gateway.start()
        self.sensors.resume()
        return verdict

    def took_back(self, gateway: Gateway) -> bool:
        """Whether it has sent again what was settled."""
        return _TOOK_BACK in gateway.log.read_text(errors="replace")

    def _is_settled(self) -> Callable[[], bool]:
        first: dict[str, float] = {}

        def settled() -> bool:
            for gateway in self.gateways:
                report = gateway.report()
                if report is None or report["waiting"] or report["spool"]["held_batches"]:
                    return False
                # By how long it runs, since its wall clock may be anything.
                since_s = report["uptime_s"] - first.setdefault(gateway.name, report["uptime_s"])
                if since_s < 1.5:
                    return False
            try:
                return self.query("SELECT bool_and(balanced AND in_flight = 0) FROM iot_service.books") == [(True,)]
            except psycopg.OperationalError:
                return False

        return settled


class Replayer:
    """Repeats what passed the broker before: batches, receipts and statuses, in any order, as old as they may be."""

    KEPT = 300

    def __init__(self, port: int) -> None:
        self._port = port
        self._heard: list[tuple[str, bytes]] = []
        self.overflowed = 0
        self._lock = threading.Lock()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="replayer")
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._listen
        client.on_message = self._hear
        client.connect_async("127.0.0.1", port)
        client.loop_start()
        self._client = client

    def _listen(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([("heal7/v1/center/#", 0), ("$SYS/broker/publish/messages/dropped", 0)])

    def _hear(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("$SYS"):
            self.overflowed = max(self.overflowed, int(message.payload))
            return
        with self._lock:
            self._heard.append((message.topic, bytes(message.payload)))
            # The oldest stay, for a repetition that comes long after.
            if len(self._heard) > self.KEPT:
                del self._heard[self.KEPT // 3]

    def some(self) -> list[tuple[str, bytes]]:
        """What it has heard."""
        with self._lock:
            return list(self._heard)

    def publish(self, topic: str, payload: bytes) -> None:
        """As anybody on the broker could."""
        self._client.publish(topic, payload, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _mount(folder: Path) -> None:
    """A small file system, where the right to mount one is given."""
    if os.geteuid() == 0:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
        subprocess.run(mount, capture_output=True, check=False)


def _faketime(library: Path, how: dict[str, str]) -> dict[str, str]:
    # Both names: the first is of later releases.
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", **how}


def faketime_library() -> Path | None:
    """Debian's libfaketime for programs with threads; None where it is not installed."""
    return next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
