"""All parts of the line, started from its sink to its source and taken down the other way."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from device_drivers.simulator.bluez import EmulatedBlueZ
from device_drivers.simulator.private_bus import BusKind, private_bus
from heal7_iot.demo.books import read_database, read_spool
from heal7_iot.demo.center import ROOMS, Center, Conditions
from heal7_iot.demo.configuration import gateway_file, ingest_file
from heal7_iot.demo.errors import DemoError, PartDied
from heal7_iot.demo.interruption import Interruption, in_thread, unsignalled_children
from heal7_iot.demo.observation import Observer, read_latency
from heal7_iot.demo.outcome import Result
from heal7_iot.demo.part import Part, last_lines
from heal7_iot.demo.sensors import Sensors, ble_sensors
from heal7_iot.demo.timelapse import Timelapse
from heal7_iot.demo.variety import size
from heal7_iot.embedded.broker import BrokerKind, EmbeddedBroker
from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.schema.migrations import migrate

_READY_S = 60.0
_POLL_S = 0.1

# The gateway's own drain (15 s), its farewell, and a slow machine's way out.
_GATEWAY_STOP_S = 30.0
_INGEST_STOP_S = 15.0

# Small: the demonstration shares the machine with whoever tries it.
_POSTGRES = {"shared_buffers": "32MB", "max_connections": "20"}


@dataclass(frozen=True, slots=True)
class Setup:
    """broker: None takes what is there. day_s: seconds that a simulated day takes."""

    seed: int = 7
    day_s: float = 120.0
    broker: BrokerKind | None = None
    bus: BusKind = "auto"


class Line:
    """Runs from entering to leaving; leaving leaves no process behind. base: an empty directory with a short path.

    step: told what happens next. Entering raises DemoError, EmbeddedServerError, and Interrupted after a signal.
    """

    def __init__(self, base: Path, setup: Setup, interruption: Interruption, step: Callable[[str], None]) -> None:
        self._base = base
        self._setup = setup
        self._interruption = interruption
        self._step = step
        self._stack = AsyncExitStack()
        self._clean = False
        self._timelapse = Timelapse(setup.day_s)
        self._center = Center(setup.seed)
        self._began_s = 0.0
        self._gateway_health = base / "gateway-health.json"
        self._ingest_health = base / "ingest-health.json"
        self._spool = base / "gateway"
        self._dsn = ""
        self._bus = ""
        self._postgres: psutil.Process
        self._connection: Connection
        self._broker: EmbeddedBroker
        self._ingest: Part
        self._gateway: Part
        self._bluez: EmulatedBlueZ
        self._sensors: Sensors
        self._measuring: asyncio.Task[None]
        self.observer: Observer

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def elapsed_s(self) -> float:
        """Since the first measurement."""
        return time.monotonic() - self._began_s

    def check(self) -> None:
        """Raises PartDied, naming the part, where one has ended by itself."""
        if not self._postgres.is_running() or self._postgres.status() == psutil.STATUS_ZOMBIE:
            raise PartDied("PostgreSQL server", None, last_lines(self._base / "pg" / "log"))
        if not self._broker.running:
            raise PartDied(f"broker ({self._broker.kind})", None, last_lines(self._broker.log))
        self._ingest.check()
        self._gateway.check()
        if self._measuring.done():
            raise PartDied("emulated radio's message bus", None, f"  {self._measuring.exception()}")

    async def finish(self) -> Result:
        """Stops the sensors, lets the gateway drain and end, and reads both books. Raises DemoError, StorageError."""
        seconds = self.elapsed_s
        self._measuring.cancel()
        self._step("센서 정지, 스풀 비우는 중  sensors stopped; the gateway seals and drains the rest …")
        try:
            await self._gateway.stop(_GATEWAY_STOP_S)
        except TimeoutError as error:
            raise DemoError(f"the gateway did not end within {_GATEWAY_STOP_S:g} s") from error
        spool = await asyncio.to_thread(read_spool, self._spool / "spool.sqlite3")
        database = await read_database(self._connection)
        latency = read_latency(self._ingest_health)
        self._step("서버 정지  stopping ingest server, broker and PostgreSQL …")
        # Killed on leaving where it takes too long: the books are read, and all that it has is in the database.
        with contextlib.suppress(TimeoutError):
            await self._ingest.stop(_INGEST_STOP_S)
        self._clean = True
        return Result(seconds, self._broker.kind, spool, database, latency)

    async def _start(self) -> None:
        stages = (
            self._start_postgres,
            self._start_broker,
            self._start_ingest,
            self._start_sensors,
            self._start_gateway,
        )
        for stage in stages:
            await stage()
            self._interruption.check()
        self._began_s = time.monotonic()
        self._measuring = asyncio.create_task(self._sensors.run(), name="sensors")
        self._stack.push_async_callback(self._stop_measuring)
        self.observer = Observer(
            self._center, self._timelapse, self._connection, self._gateway_health, self._ingest_health, self._way()
        )

    def _way(self) -> str:
        version = "5" if self._broker.kind == "mosquitto" else "3.1.1"
        return f"{_counted()} → gateway → {self._broker.kind} (MQTT {version}) → ingest server → PostgreSQL"

    def _conditions(self) -> dict[str, Conditions]:
        # Who is asked before the first measurement says how the day begins.
        return self._center.at(self._timelapse.at(self.elapsed_s if self._began_s else 0.0))

    async def _start_postgres(self) -> None:
        self._step("PostgreSQL 시작  starting PostgreSQL …")
        directory = self._base / "pg"
        # Whoever reaches its socket is its superuser.
        directory.mkdir(mode=0o700)
        server = await in_thread(lambda: EmbeddedPostgres(directory, _POSTGRES))
        # Its data are thrown away: only a clean end, after which they may be kept, waits for a checkpoint.
        self._stack.push_async_callback(lambda: in_thread(lambda: server.stop("fast" if self._clean else "immediate")))
        await in_thread(server.start)
        self._postgres = psutil.Process(server.pid)
        admin = await connect(server.dsn(), "demo", 60)
        await admin.execute("CREATE DATABASE heal7")
        await admin.close()
        self._dsn = server.dsn("heal7")
        self._connection = await connect(self._dsn, "demo", 60)
        self._stack.push_async_callback(self._connection.close)
        await migrate(self._connection)

    async def _start_broker(self) -> None:
        broker = await in_thread(lambda: EmbeddedBroker(self._base / "broker", self._setup.broker))
        self._step(f"브로커 시작  starting the broker ({broker.kind}) …")
        self._stack.push_async_callback(lambda: in_thread(broker.stop))
        await in_thread(broker.start)
        self._broker = broker

    async def _start_ingest(self) -> None:
        self._step("수집 서버 시작  starting the ingest server …")
        config = self._base / "ingest.toml"
        config.write_text(ingest_file(port=self._broker.port, dsn=self._dsn, health=self._ingest_health))
        part = Part("ingest server", ["ingest", "run", "--config", str(config)], self._base / "ingest.log")
        self._ingest = await self._stack.enter_async_context(part)
        await self._until(part, self._ingest_health.exists)

    async def _start_sensors(self) -> None:
        self._step(f"센서 에뮬레이션 시작  plugging in {_counted()}, emulated …")
        directory = self._base / "dev"
        directory.mkdir(mode=0o700)
        with unsignalled_children():
            self._bus = await self._stack.enter_async_context(private_bus(directory, self._setup.bus))
        self._bluez = await self._stack.enter_async_context(EmulatedBlueZ(self._bus))
        self._sensors = self._stack.enter_context(Sensors(directory, self._bluez, self._setup.seed, self._conditions))

    async def _start_gateway(self) -> None:
        self._step("게이트웨이 시작  starting the gateway …")
        config = self._base / "gateway.toml"
        config.write_text(
            gateway_file(
                state_dir=self._spool, port=self._broker.port, serial=self._sensors.ports, health=self._gateway_health
            )
        )
        part = Part(
            "gateway",
            ["gateway", "run", "--config", str(config)],
            self._base / "gateway.log",
            {"DBUS_SYSTEM_BUS_ADDRESS": self._bus},
        )
        self._gateway = await self._stack.enter_async_context(part)
        await self._until(part, lambda: self._bluez.scans > 0)

    async def _until(self, part: Part, ready: Callable[[], bool]) -> None:
        """Waits for a part that was just started. Raises PartDied, DemoError and Interrupted."""
        deadline_s = time.monotonic() + _READY_S
        while not ready():
            part.check()
            if time.monotonic() > deadline_s:
                raise DemoError(f"the {part.name} is not ready after {_READY_S:g} s")
            await self._interruption.within(_POLL_S)
            self._interruption.check()

    async def _stop_measuring(self) -> None:
        self._measuring.cancel()
        await asyncio.wait([self._measuring])


def _counted() -> str:
    on_lines, by_radio = size()
    return f"{on_lines + len(ROOMS)} sensors on serial lines + {by_radio + len(list(ble_sensors()))} by Bluetooth"
