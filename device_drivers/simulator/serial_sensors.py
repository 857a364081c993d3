"""Every serial sensor that can be emulated, by name: its model, what it measures unless told otherwise, and the
configuration by which the gateway reads it. The demo, the benchmark and the tests take theirs from here."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from device_drivers.simulator.sensor import EmulatedSensor, Measured, SensorModel
from device_drivers.simulator.serial_models import (
    Ld2410,
    Ld2450,
    MhZ19b,
    ModbusUnit,
    Pms5003,
    Scd30,
    Sds011,
    Sps30,
    TextNode,
)
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet


@dataclass(frozen=True, slots=True)
class EmulatedKind:
    """kind, model: as the configuration names them. usual: of each channel, its middle and how far it swings.

    make: of the profile for its model. unit: on a Modbus line, its usual address; 0 for others. baudrate: where the
    configuration must name it; 0: nowhere.
    """

    kind: str
    model: str
    usual: Mapping[str, tuple[float, float]]
    make: Callable[[FirmwareProfile], SensorModel]
    unit: int = 0
    baudrate: int = 0


_DUST = {"pm1": (6.0, 3.0), "pm2_5": (9.0, 5.0), "pm10": (13.0, 7.0)}
_CLIMATE = {"temperature": (21.5, 1.5), "humidity": (45.0, 6.0)}
_CO2 = {"carbon_dioxide": (800.0, 250.0)}

EMULATED: Mapping[str, EmulatedKind] = MappingProxyType(
    {
        "pms5003": EmulatedKind("pms5003", "PMS5003", {**_DUST, "particles_0_3": (1500.0, 600.0)}, lambda _: Pms5003()),
        "sds011": EmulatedKind(
            "sds011", "SDS011", {name: _DUST[name] for name in ("pm2_5", "pm10")}, lambda _: Sds011()
        ),
        "ld2410": EmulatedKind(
            "ld2410", "LD2410", {"moving_distance": (180.0, 90.0), "still_distance": (200.0, 80.0)}, lambda _: Ld2410()
        ),
        "ld2450": EmulatedKind("ld2450", "LD2450", {"targets": (1.5, 1.4)}, lambda _: Ld2450()),
        "mhz19b": EmulatedKind("mhz19b", "MH-Z19B", _CO2, lambda _: MhZ19b()),
        "sps30": EmulatedKind(
            "sps30", "SPS30", {**_DUST, "pm4": (11.0, 6.0), "typical_size": (0.6, 0.1)}, lambda _: Sps30()
        ),
        "scd30": EmulatedKind("modbus", "SCD30", {**_CO2, **_CLIMATE}, Scd30, unit=0x61, baudrate=19_200),
        "xy-md02": EmulatedKind("modbus", "XY-MD02", _CLIMATE, lambda profile: ModbusUnit(profile, 1), unit=1),
        "climate-node": EmulatedKind(
            "line",
            "climate-node",
            {**_CLIMATE, "illuminance": (310.0, 90.0)},
            lambda profile: TextNode(profile, "1.2"),
            baudrate=115_200,
        ),
    }
)


def emulated(name: str, profiles: ProfileSet, seed: int = 0, measured: Measured | None = None) -> EmulatedSensor:
    """A new sensor of this name. measured: by default its usual values, which swing within some minutes.

    Raises KeyError for a name that is not in `EMULATED`.
    """
    kind = EMULATED[name]
    profile = next(profile for profile in profiles if kind.model in profile.models)
    return EmulatedSensor(kind.make(profile), measured or swinging(kind.usual, seed), seed)


def configuration(name: str, device: str, port: str) -> dict[str, Any]:
    """The table [[driver]] by which a gateway reads it there, alone on its line."""
    kind = EMULATED[name]
    table: dict[str, Any] = {"kind": kind.kind, "port": port} | ({"baudrate": kind.baudrate} if kind.baudrate else {})
    if kind.unit:
        return table | {"device": [{"unit": kind.unit, "device": device, "model": kind.model}]}
    return table | {"device": device, "model": kind.model}


def swinging(usual: Mapping[str, tuple[float, float]], seed: int) -> Measured:
    """Each channel around its middle, in its own period and phase by the seed."""
    rng = random.Random(f"swing {seed}")
    waves = {channel: (rng.uniform(120, 600), rng.uniform(0, 2 * math.pi)) for channel in usual}

    def measured(now_s: float) -> dict[str, float]:
        return {
            channel: middle + swing * math.sin(2 * math.pi * now_s / waves[channel][0] + waves[channel][1])
            for channel, (middle, swing) in usual.items()
        }

    return measured
