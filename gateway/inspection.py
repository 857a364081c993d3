"""What `heal7-iot gateway check` finds: what the daemon would do, and what would keep it from doing so.

Looks and tries, and changes nothing: it opens no port and no spool.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from device_drivers.ble.options import BleOptions
from device_drivers.serial_line.options import Pms5003Options
from device_drivers.serial_line.port import SerialPort, describe_links
from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig, device_ids
from gateway.state_owner import owner_fault

BLUETOOTH = Path("/sys/class/bluetooth")

_BROKER_TIMEOUT_S = 3.0

_FROZEN = ConfigDict(frozen=True)


class DeviceFinding(BaseModel):
    """One device. profile: what would decode it; None where that is seen only from what it sends, or nothing would."""

    model_config = _FROZEN

    device: str
    model: str
    firmware: str
    profile: str | None


class DriverFinding(BaseModel):
    """One driver. line: where it would read; found: whether that is there now, None where it cannot be told."""

    model_config = _FROZEN

    kind: str
    line: str
    found: bool | None
    devices: tuple[DeviceFinding, ...]


class Findings(BaseModel):
    """All of it. warnings: what to put right, in sentences."""

    model_config = _FROZEN

    gateway: str
    broker: str
    broker_answers: bool
    spool: str
    spool_bound_bytes: int
    free_bytes: int
    clock_trust: str
    drivers: tuple[DriverFinding, ...]
    warnings: tuple[str, ...]


def inspect(config: GatewayConfig, profiles: ProfileSet, bluetooth: Path = BLUETOOTH) -> Findings:
    """Looks at this machine as it is now. Takes some seconds where the broker does not answer."""
    warnings: list[str] = []
    drivers = []
    for i, options in enumerate(config.driver):
        finding, faults = _driver(options, profiles, bluetooth)
        drivers.append(finding)
        warnings += [f"driver[{i}]: {fault}" for fault in faults]
    if not drivers:
        warnings.append("no [[driver]] is configured: nothing would be read")
    free_bytes, fault = _room(config)
    warnings += fault
    # Where this user may not look, `_room` has said so.
    with contextlib.suppress(OSError):
        other = owner_fault(config.gateway.state_dir, config.identity)
        warnings += [other] if other else []
    host, port = config.mqtt.host, config.mqtt.port
    answers = _answers(host, port)
    if not answers:
        warnings.append(f"mqtt: nothing answers at {host}:{port}; batches would wait in the spool")
    return Findings(
        gateway=config.identity,
        broker=f"{host}:{port}",
        broker_answers=answers,
        spool=str(config.spool_path),
        spool_bound_bytes=config.spool.bound_bytes,
        free_bytes=free_bytes,
        clock_trust=config.clock.trust,
        drivers=tuple(drivers),
        warnings=tuple(warnings),
    )


def _driver(options: BaseModel, profiles: ProfileSet, bluetooth: Path) -> tuple[DriverFinding, list[str]]:
    if isinstance(options, Pms5003Options):
        found, fault = _serial(options.port)
        device = _device(options.device, options.model, options.firmware, profiles)
        line = str(options.port)
        devices = [device]
    elif isinstance(options, BleOptions):
        found = (bluetooth / options.adapter).exists()
        fault = [] if found else [f"no Bluetooth adapter {options.adapter}; {_adapters(bluetooth)}"]
        devices = [_device(one.device, one.model, one.firmware, profiles) for one in options.device]
        line = options.adapter
    else:
        named = [name for _, name in device_ids(options)]
        kind = str(getattr(options, "kind", ""))
        devices = [DeviceFinding(device=name, model="", firmware="", profile=None) for name in named]
        return DriverFinding(kind=kind, line="", found=None, devices=tuple(devices)), []
    unknown = [
        f"no firmware profile for {one.model} firmware {one.firmware}: {one.device} would give raw bytes only"
        for one in devices
        if one.profile is None and one.firmware
    ]
    return DriverFinding(kind=options.kind, line=line, found=found, devices=tuple(devices)), fault + unknown


def _device(device: str, model: str, firmware: str, profiles: ProfileSet) -> DeviceFinding:
    profile = profiles.select(model, firmware) if firmware else None
    return DeviceFinding(
        device=device, model=model, firmware=firmware, profile=profile.name if profile is not None else None
    )


def _serial(port: SerialPort) -> tuple[bool, list[str]]:
    if not isinstance(port.address, str):
        # Listing ports needs the serial library, which the machine that only checks a file may not have.
        from device_drivers.transport import paths_of

        paths = paths_of(port.address)
        if len(paths) == 1:
            return True, []
        if paths:
            return False, [f"{port} is not unique: {' and '.join(paths)}; name a link from /dev/serial/by-path"]
        return False, [f"no adapter {port} is plugged in; {describe_links()}"]
    path = Path(port.address)
    if not path.exists():
        return False, [f"{port} is not there; {describe_links()}"]
    if not os.access(path, os.R_OK | os.W_OK):
        return True, [f"this user may not open {port}; add it to the group that owns the port, usually dialout"]
    return True, []


def _adapters(bluetooth: Path) -> str:
    there = sorted(entry.name for entry in bluetooth.iterdir()) if bluetooth.is_dir() else []
    return f"there is {', '.join(there)}" if there else "there is none"


def _room(config: GatewayConfig) -> tuple[int, list[str]]:
    folder = next(folder for folder in _upwards(config.gateway.state_dir) if folder.exists())
    free = shutil.disk_usage(folder).free
    warnings = []
    if not os.access(folder, os.W_OK | os.X_OK):
        warnings.append(f"gateway.state_dir: this user may not write in {folder}; give the folder to the daemon's user")
    used = config.spool_path.stat().st_size if config.spool_path.exists() else 0
    if used + free < config.spool.bound_bytes:
        warnings.append(
            f"spool.bound_bytes: {config.spool.bound_bytes} bytes, but only {used + free} are there; lower the bound"
        )
    return free, warnings


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _BROKER_TIMEOUT_S):
            return True
    except OSError:
        return False
