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

from device_drivers.registry import DRIVER_KINDS
from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig, Kinds
from gateway.state_owner import owner_fault

_BROKER_TIMEOUT_S = 3.0

_FROZEN = ConfigDict(frozen=True)


class DeviceFinding(BaseModel):
    """One device. profile: what would decode it; None where that is seen only from what it sends, or nothing would.

    raw_only: nothing would, whatever it sends.
    """

    model_config = _FROZEN

    device: str
    model: str
    firmware: str
    profile: str | None
    raw_only: bool


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


def inspect(config: GatewayConfig, profiles: ProfileSet, kinds: Kinds = DRIVER_KINDS) -> Findings:
    """Looks at this machine as it is now. Takes some seconds where the broker does not answer."""
    warnings: list[str] = []
    drivers = []
    for i, options in enumerate(config.driver):
        finding, faults = _driver(options, profiles, kinds)
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


def _driver(options: BaseModel, profiles: ProfileSet, kinds: Kinds) -> tuple[DriverFinding, list[str]]:
    kind = str(getattr(options, "kind", ""))
    presence = kinds[kind].look(options)
    devices, warnings = [], list(presence.faults)
    for one in presence.devices:
        profile = profiles.select(one.model, one.firmware)
        # Where the device states its model or firmware, only a model that no profile names is known to be in vain.
        raw_only = bool(one.model) and (profile is None if one.firmware else one.model not in profiles.models())
        if raw_only:
            what = f"{one.model} firmware {one.firmware}" if one.firmware else f"model {one.model}"
            warnings.append(f"no firmware profile for {what}: {one.device} would give raw bytes only")
        devices.append(
            DeviceFinding(
                device=one.device,
                model=one.model,
                firmware=one.firmware,
                profile=profile.name if profile is not None else None,
                raw_only=raw_only,
            )
        )
    return DriverFinding(kind=kind, line=presence.line, found=presence.found, devices=tuple(devices)), warnings


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
