"""What the demonstration shows: each figure from where an operator would read it."""

from collections import deque
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gateway.health import HealthReport
from heal7_iot.demo.center import ROOMS, Center, Room
from heal7_iot.demo.timelapse import Timelapse
from heal7_iot.demo.visitors import HOUR_S
from ingest_server.storage.connection import Connection, translated
from ingest_server.storage.line.ledger import Books, read_books

# Of the gateway's, one each half second: sensors that send once a second would make a rate of 0 and 2 in turns.
_RATE_REPORTS = 9

# Of CO₂, half an hour apart: the last twelve hours.
_HISTORY = 24
_HISTORY_STEP_S = HOUR_S / 2


class CommitLatency(BaseModel):
    """From a batch's arrival at the server to its COMMIT, in ms; None before the first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    commit_latency_ms_p50: float | None = None
    commit_latency_ms_p99: float | None = None


def read_latency(health: Path) -> CommitLatency:
    """As the ingest server last said it."""
    return CommitLatency.model_validate_json(health.read_bytes()) if health.exists() else CommitLatency()


@dataclass(frozen=True, slots=True)
class RoomView:
    """One room. visitors: true, as the model has them; latest: by channel, as the database has them.

    co2_history: ppm, the oldest first.
    """

    room: Room
    visitors: int
    devices: int
    readings_per_s: float
    latest: dict[str, float]
    co2_history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The whole line at one moment. way: what readings pass through. gateway, books: None until there are some."""

    clock: str
    elapsed_s: float
    rooms: tuple[RoomView, ...]
    gateway: HealthReport | None
    latency: CommitLatency
    books: Books | None
    way: str


class Observer:
    """Looks at the center, the health files and the database."""

    def __init__(
        self,
        center: Center,
        timelapse: Timelapse,
        connection: Connection,
        gateway_health: Path,
        ingest_health: Path,
        way: str,
    ) -> None:
        self._center = center
        self._timelapse = timelapse
        self._connection = connection
        self._gateway_health = gateway_health
        self._ingest_health = ingest_health
        self._way = way
        self._reports: deque[HealthReport] = deque(maxlen=_RATE_REPORTS)
        self._histories: dict[str, deque[float]] = {room.key: deque(maxlen=_HISTORY) for room in ROOMS}
        self._history_due_s = 0.0

    async def look(self, elapsed_s: float) -> View:
        """Raises StorageError."""
        latest = await self._latest()
        books = await read_books(self._connection)
        gateway = self._gateway()
        now_s = self._timelapse.at(elapsed_s)
        self._remember(latest, now_s)
        conditions = self._center.at(now_s)
        return View(
            self._timelapse.clock(elapsed_s),
            elapsed_s,
            tuple(self._room(room, conditions[room.key].visitors, latest[room.key]) for room in ROOMS),
            gateway,
            read_latency(self._ingest_health),
            books[0] if books else None,
            self._way,
        )

    async def _latest(self) -> dict[str, dict[str, float]]:
        """Values by room and channel."""
        found: dict[str, dict[str, float]] = {room.key: {} for room in ROOMS}
        with translated():
            cursor = await self._connection.execute(files("heal7_iot.demo").joinpath("latest.sql").read_bytes())
            for device, channel, value in await cursor.fetchall():
                # Whoever tries a gateway of their own at the demo's broker has other devices here, too.
                if (room := found.get(device.partition("-")[0])) is not None:
                    room[channel] = value
        return found

    def _remember(self, latest: dict[str, dict[str, float]], now_s: float) -> None:
        values = {key: channels["carbon_dioxide"] for key, channels in latest.items() if "carbon_dioxide" in channels}
        if now_s < self._history_due_s or len(values) < len(ROOMS):
            return
        self._history_due_s = now_s + _HISTORY_STEP_S
        for key, value in values.items():
            self._histories[key].append(value)

    def _gateway(self) -> HealthReport | None:
        if not self._gateway_health.exists():
            return None
        report = HealthReport.model_validate_json(self._gateway_health.read_bytes())
        if not self._reports or self._reports[-1].written_at_s != report.written_at_s:
            self._reports.append(report)
        return report

    def _room(self, room: Room, visitors: int, latest: dict[str, float]) -> RoomView:
        devices, rate = 0, 0.0
        if self._reports:
            newest, oldest = self._reports[-1], self._reports[0]
            took_s = newest.written_at_s - oldest.written_at_s
            devices = sum(d.device.startswith(f"{room.key}-") for d in newest.devices)
            if took_s > 0:
                rate = (_readings(newest, room) - _readings(oldest, room)) / took_s
        return RoomView(room, visitors, devices, rate, latest, tuple(self._histories[room.key]))


def _readings(report: HealthReport, room: Room) -> int:
    """Taken from the room's devices since the gateway's start."""
    return sum(d.readings for d in report.devices if d.device.startswith(f"{room.key}-"))
