"""What the daemon knows of itself, as one line for the log and as a small JSON file for `heal7-iot gateway status`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gateway.collector import DeviceRate, DriverHealth
from gateway.config import GatewayConfig

RUNTIME_FILE = Path("/run/heal7-iot-gateway/health.json")
"""Where the service writes (systemd's RuntimeDirectory): in memory, as every few seconds would wear an SD card out."""

_FROZEN = ConfigDict(frozen=True, extra="ignore")


class DriverReport(BaseModel):
    """One driver. Ages in seconds, None where there was no reading yet.

    line_load: the share of the time since the last report, 0 … 1, in which its line was asked and waited for; None of a
    driver that only listens.
    """

    model_config = _FROZEN

    name: str
    state: str
    openings: int
    failures: int
    readings: int
    last_reading_age_s: float | None
    last_error: str
    faults: dict[str, int]
    line_load: float | None = None


class DeviceReport(BaseModel):
    """One device: readings since the start, and a second since the last report."""

    model_config = _FROZEN

    device: str
    readings: int
    readings_per_s: float
    last_reading_age_s: float


class SpoolReport(BaseModel):
    """The spool. held: unsettled. sealed, settled, dropped, unsealed_lost: readings since the file was made.

    fill: the share of the room for data that is not settled, 0 … 1. reserve: whether the disk's last bytes are still
    set aside; where not, the disk is (or was) full.
    """

    model_config = _FROZEN

    held_batches: int
    held_readings: int
    held_bytes: int
    bound_bytes: int
    file_bytes: int
    fill: float
    reserve: bool
    sealed: int
    settled: int
    dropped: dict[str, int]
    unsealed_lost: dict[str, int]
    ledger: str | None


class UplinkReport(BaseModel):
    """The session with the broker; batches since the start."""

    model_config = _FROZEN

    session: str
    connected: bool
    server_online: bool
    sessions: int
    sent: int
    resent: int
    taken_back: int
    too_large: int
    receipts: int
    foreign_receipts: int
    bad_messages: int
    live_under_way: int
    backlog_under_way: int
    drain_bytes_s: float | None
    last_receipt_age_s: float | None


class ClockReport(BaseModel):
    """What dates the readings; no source until the clock is known."""

    model_config = _FROZEN

    source: str | None
    uncertainty_us: int | None


class HealthReport(BaseModel):
    """All of it. stopped: the last report of a daemon that ended in order.

    Readings since the start: `readings` taken from drivers; refused: no batch can hold; no_room: found none in the
    spool, told as a gap. waiting: not sealed yet. thinning_age_s: None while readings are not thinned.
    """

    model_config = _FROZEN

    v: Literal[1] = 1
    gateway: str
    state_dir: str
    pid: int
    version: str
    written_at_s: float
    uptime_s: float
    stopped: bool
    readings: int
    readings_per_s: float
    waiting: int
    refused: int
    no_room: int
    thinning_age_s: float | None
    clock: ClockReport
    spool: SpoolReport
    uplink: UplinkReport
    drivers: tuple[DriverReport, ...]
    devices: tuple[DeviceReport, ...]

    def line(self) -> str:
        """For the log: what an operator asks first."""
        reading = sum(driver.state == "reading" for driver in self.drivers)
        spool, uplink = self.spool, self.uplink
        lost = dict(spool.unsealed_lost)
        thinned = lost.pop("thinned", 0)
        told = [
            f"sealed {spool.sealed}, settled {spool.settled}, dropped {sum(spool.dropped.values())}",
            f"lost before sealing {sum(lost.values())}" if lost else "",
            f"thinned {thinned}" if thinned else "",
        ]
        full = "" if spool.reserve else f"the disk is full, {self.no_room} readings found no room; "
        return (
            f"{self.readings_per_s:.1f} readings/s of {len(self.devices)} devices, {reading} of {len(self.drivers)} "
            f"drivers reading; {spool.held_readings} readings in {spool.held_batches} batches not settled, "
            f"{100 * spool.fill:.0f} % full; {', '.join(part for part in told if part)}; "
            f"{full}{'' if self.thinning_age_s is None else 'thinning; '}{uplink.session}"
        )


class Rates:
    """Readings a second between one report and the next."""

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._before: dict[str, int] = {}

    def devices(self, devices: Mapping[str, DeviceRate], now_s: float) -> tuple[DeviceReport, ...]:
        """A report of each device, in order of name."""
        took_s = max(now_s - self._at_s, 1e-3)
        reports = tuple(
            DeviceReport(
                device=name,
                readings=rate.readings,
                readings_per_s=round((rate.readings - self._before.get(name, 0)) / took_s, 3),
                last_reading_age_s=round(now_s - rate.last_s, 3),
            )
            for name, rate in sorted(devices.items())
        )
        self._at_s = now_s
        self._before = {name: rate.readings for name, rate in devices.items()}
        return reports


class LineLoads:
    """How busy shared lines are between one report and the next."""

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._before: dict[str, float] = {}

    def of(self, drivers: Sequence[DriverHealth], now_s: float) -> dict[str, float]:
        """By name of each driver that asks: 0 … 1. A long wait counts when it ends, and never for more than all."""
        took_s = max(now_s - self._at_s, 1e-3)
        busy_s = {health.name: health.line_busy_s for health in drivers if health.line_busy_s is not None}
        loads = {
            name: round(min(1.0, max(0.0, total - self._before.get(name, 0.0)) / took_s), 3)
            for name, total in busy_s.items()
        }
        self._at_s, self._before = now_s, busy_s
        return loads


def driver_report(health: DriverHealth, now_s: float, line_load: float | None) -> DriverReport:
    """As of `now_s` of the monotonic clock."""
    return DriverReport(
        name=health.name,
        state=health.state,
        openings=health.openings,
        failures=health.failures,
        readings=health.readings,
        last_reading_age_s=age_s(health.last_reading_s, now_s),
        last_error=health.last_error,
        faults=dict(health.faults),
        line_load=line_load,
    )


def age_s(since_s: float | None, now_s: float) -> float | None:
    """Seconds since then; None since never."""
    return None if since_s is None else round(now_s - since_s, 3)


def health_file(config: GatewayConfig, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the daemon writes: as configured, else in the service's runtime directory, else beside the spool."""
    if config.health.file is not None:
        return config.health.file
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(runtime) / RUNTIME_FILE.name if runtime else config.gateway.state_dir / RUNTIME_FILE.name


def write_report(path: Path, report: HealthReport) -> None:
    """Whole or not at all, so that a reader never sees half of it. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(report.model_dump_json(indent=1), encoding="utf-8")
    draft.replace(path)


def read_report(config: GatewayConfig) -> HealthReport | None:
    """The latest report of the gateway that this configuration describes; None where there is none."""
    beside = config.gateway.state_dir / RUNTIME_FILE.name
    paths = [config.health.file] if config.health.file is not None else [RUNTIME_FILE, beside]
    found = []
    for path in paths:
        try:
            report = HealthReport.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        # Another gateway may run on this machine, as for a demonstration.
        if (report.gateway, report.state_dir) == (config.identity, str(config.gateway.state_dir)):
            found.append(report)
    return max(found, key=lambda report: report.written_at_s, default=None)
