"""One of each other sensor that a gateway reads, spread over the rooms: on lines of their own, on a bus, by radio."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from device_drivers.simulator.attached import Attached
from device_drivers.simulator.ble_sensor import EmulatedBleSensor
from device_drivers.simulator.bluez import EmulatedBlueZ
from device_drivers.simulator.environmental_sensing import EmulatedEnvironmentalSensor
from device_drivers.simulator.serial_sensors import configuration, emulated
from device_drivers.simulator.terminal import EmulatedLine
from firmware_profiles.selection import ProfileSet
from heal7_iot.demo.center import ROOMS, Conditions, Room

LINES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lounge", ("mhz19b",)),
    ("lounge", ("climate-node",)),
    ("meditation", ("sps30",)),
    ("meditation", ("ld2410",)),
    ("studio", ("sds011",)),
    ("studio", ("ld2450",)),
    ("studio", ("scd30", "xy-md02")),
)
"""A room, and what is on one line there; two are on a bus."""

RADIOS: Mapping[str, str] = {"lounge": "ruuvi", "meditation": "xiaomi", "studio": "pvvx"}
"""Of each room, a sensor that advertises in its maker's own way."""

_CONNECTED_ROOM = "lounge"
_ADDRESS = "D2:37:00:01:00:{:02X}"
_CONNECTED = "D2:37:00:02:00:01"
_PERIOD_S = 2.0

Now = Callable[[], dict[str, Conditions]]
"""Every room as it is, by its key."""


def size() -> tuple[int, int]:
    """How many sensors are on lines, and how many are heard or connected to by radio."""
    return sum(len(names) for _, names in LINES), len(RADIOS) + 1


def driver_tables(ports: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What the gateway's file says of those on lines, and of the one that is connected to. ports: as of `Variety`."""
    tables = []
    for room, names in LINES:
        port = str(ports[_line(room, names)])
        table, *others = [configuration(name, f"{room}-{name}", port) for name in names]
        # Units of one bus are one driver's, and have one speed.
        tables.append(table if not others else {**table, "device": [d for t in (table, *others) for d in t["device"]]})
    device = {"address": _CONNECTED, "device": f"{_CONNECTED_ROOM}-window", "interval_s": 5.0}
    return [*tables, {"kind": "gatt", "adapter": "hci0", "device": [device]}]


def heard_tables() -> list[dict[str, Any]]:
    """Of those that advertise, for the driver that listens."""
    return [
        {"address": _ADDRESS.format(n), "device": f"{room}-{kind}"} for n, (room, kind) in enumerate(RADIOS.items(), 1)
    ]


class Variety:
    """All of them, from entering to leaving; those that only answer do so from entering on, the others while it runs.

    ports: the link of each line, by a name of it.
    """

    def __init__(self, directory: Path, bluez: EmulatedBlueZ, seed: int, now: Now) -> None:
        self.ports: dict[str, Path] = {}
        self._open = ExitStack()
        self._directory = directory
        self._bluez = bluez
        self._seed = seed
        self._now = now
        self._attached: list[Attached] = []

    def __enter__(self) -> Self:
        profiles = ProfileSet.load()
        for room, names in LINES:
            line = self._open.enter_context(EmulatedLine(self._directory, _line(room, names), "0001"))
            self.ports[_line(room, names)] = line.link
            sensors = [
                emulated(name, profiles, self._seed, self._measured(room, f"{self._seed} {room} {name}"))
                for name in names
            ]
            self._attached.append(Attached(line, *sensors))
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    async def run(self) -> None:
        """Until cancelled. Raises OSError where the bus is gone."""
        async with asyncio.TaskGroup() as group:
            for attached in self._attached:
                group.create_task(attached.run())
            for n, (room, kind) in enumerate(RADIOS.items(), 1):
                sensor = EmulatedBleSensor(self._bluez, kind, _ADDRESS.format(n))
                group.create_task(self._advertise(sensor, self._measured(room, f"{self._seed} {kind}")))
            group.create_task(self._be_connected(self._measured(_CONNECTED_ROOM, f"{self._seed} window")))

    async def _advertise(self, sensor: EmulatedBleSensor, measured: Callable[[float], dict[str, float]]) -> None:
        while True:
            await sensor.measure(**measured(0.0))
            await asyncio.sleep(_PERIOD_S)

    async def _be_connected(self, measured: Callable[[float], dict[str, float]]) -> None:
        channels = ("temperature", "humidity", "illuminance", "battery")
        first = measured(0.0)
        sensor = EmulatedEnvironmentalSensor(self._bluez, _CONNECTED, {c: first[c] for c in channels}, "1.4.0")
        while True:
            await sensor.advertise()
            await asyncio.sleep(_PERIOD_S)
            values = measured(0.0)
            for channel in channels:
                sensor.set_value(channel, values[channel])

    def _measured(self, key: str, seed: str) -> Callable[[float], dict[str, float]]:
        """What a sensor in that room finds whenever it looks; each has errors of its own."""
        (room,) = [room for room in ROOMS if room.key == key]
        rng = random.Random(seed)
        return lambda _: channels_of(room, self._now()[key], rng)


def channels_of(room: Room, now: Conditions, rng: random.Random) -> dict[str, float]:
    """All that any of them measures, by channel of its profile."""
    fine = max(0.0, now.pm2_5 * rng.gauss(1, 0.04))
    moves = rng.random() > (1 - room.motion) ** now.visitors
    return {
        "temperature": now.temperature + rng.gauss(0, 0.05),
        "humidity": min(100.0, max(0.0, now.humidity + rng.gauss(0, 0.3))),
        "pressure": 1013.2 + rng.gauss(0, 0.1),
        "carbon_dioxide": max(400.0, now.co2 + rng.gauss(0, 8)),
        "illuminance": max(0.0, now.illuminance * rng.gauss(1, 0.01)),
        "pm1": fine * 0.68,
        "pm2_5": fine,
        "pm4": fine * 1.1,
        "pm10": fine * 1.22,
        "typical_size": 0.6,
        "targets": min(3, now.visitors),
        "moving_distance": rng.uniform(60, 500) if moves else 0.0,
        "still_distance": 220.0 if now.visitors else 0.0,
        "battery": 87.0,
        "voltage": 2.95,
    }


def _line(room: str, names: Sequence[str]) -> str:
    return f"{room}-{'-'.join(names)}"
