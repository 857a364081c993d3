"""Looking at all serial lines and radios of this machine at once."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from device_drivers import transport
from device_drivers.ble.options import BleOptions
from device_drivers.ble.presence import ADAPTERS
from device_drivers.ble.recognition import Recognizer
from device_drivers.ble.survey import Survey, survey
from device_drivers.serial_line.port import Adapter
from device_drivers.serial_line.survey import LineSurvey
from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig


@dataclass(frozen=True, slots=True)
class Wanted:
    """adapters: of Bluetooth. lines: serial ones. units: of Modbus, to be asked like all that only answers; None:
    nothing is asked. listen_s: to a line at each speed."""

    adapters: tuple[str, ...]
    lines: tuple[Adapter, ...]
    units: tuple[int, ...] | None
    listen_s: float


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known by now. lines: those that are looked at. taken: what the configuration has already, by device path
    of the line."""

    lines: tuple[LineSurvey, ...]
    taken: Mapping[str, str]
    adapters: tuple[str, ...]
    radio: Survey

    @property
    def is_done(self) -> bool:
        """Whether all serial lines were looked at; radios never are done."""
        return not any(line.doing for line in self.lines)


def bluetooth_adapters(folder: Path = ADAPTERS) -> tuple[str, ...]:
    """Of this machine, by name. An open connection stands beside them, as `hci0:64`."""
    return tuple(sorted(p.name for p in folder.iterdir() if ":" not in p.name)) if folder.is_dir() else ()


def wanted_of(
    adapters: Sequence[str] | None, ports: Sequence[str] | None, units: str | None, *, listen_s: float
) -> Wanted:
    """What a command line asks for; all of this machine where it is None. units: such as `1-16,97`.

    Raises ValueError, which says what would be right.
    """
    here = transport.adapters()
    lines = here if ports is None else [_line(port, here) for port in ports]
    chosen = bluetooth_adapters() if adapters is None else tuple(dict.fromkeys(adapters))
    for name in chosen:
        if not re.fullmatch(r"hci[0-9]{1,3}", name):
            raise ValueError(f"--adapter {name}: write a name such as hci0; `bluetoothctl list` shows them")
    return Wanted(chosen, tuple(lines), None if units is None else _units(units), listen_s)


def _line(port: str, here: Sequence[Adapter]) -> Adapter:
    for line in here:
        if port in (line.device, line.port) or Path(port).resolve() == Path(line.device).resolve():
            return line
    if not Path(port).is_char_device():
        raise ValueError(f"--port {port}: there is no such serial line; there are {_names(here)}")
    return Adapter(port, "", None, port)


def _names(here: Sequence[Adapter]) -> str:
    return ", ".join(line.device for line in here) or "none"


def _units(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part.strip())
        first = int(numbers[1]) if numbers else 0
        last = int(numbers[2] or first) if numbers else 0
        if not 1 <= first <= last <= 247:
            raise ValueError(f"--units {text}: write numbers from 1 to 247, such as 1-16,97")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


@asynccontextmanager
async def scanning(wanted: Wanted, config: GatewayConfig | None, profiles: ProfileSet) -> AsyncIterator[Scan]:
    """Until left. config: of the gateway here: its lines are left alone, its bindkeys are tried."""
    taken = _taken(wanted.lines, config)
    lines = tuple(LineSurvey(line) for line in wanted.lines if line.device not in taken)
    recognizer = Recognizer(profiles, _ble_options(config))
    async with survey(wanted.adapters, recognizer, _monotonic_us) as radio:
        tasks = [
            asyncio.create_task(
                line.run(_monotonic_us, units=wanted.units, listen_s=wanted.listen_s),
                name=f"scan {line.adapter.device}",
            )
            for line in lines
        ]
        try:
            yield Scan(lines, taken, wanted.adapters, radio)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


def _taken(lines: tuple[Adapter, ...], config: GatewayConfig | None) -> dict[str, str]:
    """By the configuration's own name of each line; another name of the same line is found by where it leads."""
    if config is None:
        return {}
    kinds = {str(port): str(getattr(o, "kind", "")) for o in config.driver if (port := getattr(o, "port", None))}
    found: dict[str, str] = {}
    for line in lines:
        names = {line.device, line.port, str(line.usb) if line.usb else None}
        for port, kind in kinds.items():
            if port in names or (port.startswith("/") and Path(port).resolve() == Path(line.device).resolve()):
                found[line.device] = kind
    return found


def _ble_options(config: GatewayConfig | None) -> BleOptions | None:
    found = [options for options in config.driver if isinstance(options, BleOptions)] if config else []
    return found[0] if found else None
