"""The center's emulated sensors: real frames on pseudo-terminals, real advertisements through an emulated BlueZ."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, count, cycle
from pathlib import Path
from typing import Self

from device_drivers.serial_line.plantower import Frame
from device_drivers.simulator import bthome
from device_drivers.simulator.bluez import EmulatedBlueZ, EmulatedDevice
from device_drivers.simulator.plantower import FIRMWARE, EmulatedPms5003
from heal7_iot.demo.center import ROOMS, Conditions, Room
from heal7_iot.demo.variety import Now, Variety

_PERIOD_S = 1.0  # of each sensor, as a PMS5003 sends

BLE_KINDS = ("climate", "presence", "co2")


@dataclass(frozen=True, slots=True)
class BleSensor:
    """address: its Bluetooth address; device: its name in the configuration and in the database."""

    address: str
    device: str
    room: Room
    kind: str


def dust_sensor(room: Room) -> str:
    """The name of the room's PMS5003."""
    return f"{room.key}-pms5003"


def ble_sensors() -> Iterator[BleSensor]:
    """All of the center. Their addresses are locally administered: no real sensor has them."""
    for r, room in enumerate(ROOMS, 1):
        for k, kind in enumerate(BLE_KINDS, 1):
            yield BleSensor(f"D2:37:00:00:{r:02X}:{k:02X}", f"{room.key}-{kind}", room, kind)


def dust_frame(pm2_5: float, rng: random.Random) -> Frame:
    """What a PMS5003 says at so many µg/m³ of PM2.5; it counts particles and says the rest from the counts."""
    fine = max(0.0, pm2_5 * rng.gauss(1, 0.04))
    pm1, pm25, pm10 = round(fine * 0.68), round(fine), round(fine * 1.22)
    # Counts beyond 0.3, 0.5, … 10 µm in 0.1 L of indoor air, for each µg/m³: each is part of the one before it, which
    # the smallest noise must not turn round.
    beyond = [round(fine * share * rng.gauss(1, 0.05)) for share in (165, 48, 8.2, 0.9, 0.25, 0.08)]
    of_03, of_05, of_1, of_2_5, of_5, of_10 = accumulate(beyond, min)
    return Frame(pm1, pm25, pm10, pm1, pm25, pm10, of_03, of_05, of_1, of_2_5, of_5, of_10, version=FIRMWARE)


def ble_values(sensor: BleSensor, now: Conditions, battery: float, rng: random.Random) -> dict[str, float]:
    """What a BTHome sensor measures: noise, resolution and all."""
    match sensor.kind:
        case "climate":
            return {
                "battery": round(battery),
                "temperature": now.temperature + rng.gauss(0, 0.05),
                "humidity": min(100.0, max(0.0, now.humidity + rng.gauss(0, 0.3))),
            }
        case "presence":
            still = (1 - sensor.room.motion) ** now.visitors
            return {
                "illuminance": max(0.0, now.illuminance * rng.gauss(1, 0.01)),
                "motion": float(rng.random() > still),
            }
        case _:
            return {"carbon_dioxide": max(380.0, now.co2 + rng.gauss(0, 8))}


class _Dust:
    def __init__(self, sensor: EmulatedPms5003, room: Room, rng: random.Random) -> None:
        self._sensor = sensor
        self._room = room
        self._rng = rng

    async def send(self, now: dict[str, Conditions]) -> None:
        self._sensor.send(dust_frame(now[self._room.key].pm2_5, self._rng))


class _Radio:
    def __init__(self, device: EmulatedDevice, sensor: BleSensor, rng: random.Random) -> None:
        self._device = device
        self._sensor = sensor
        self._rng = rng
        self._packets = cycle(range(256))
        self._battery = rng.uniform(55, 100)
        self._rssi = rng.uniform(-78, -52)

    async def send(self, now: dict[str, Conditions]) -> None:
        self._battery = max(12.0, self._battery - 0.001)
        values = ble_values(self._sensor, now[self._sensor.room.key], self._battery, self._rng)
        data = bthome.encode(values, packet_id=next(self._packets))
        await self._device.advertise({bthome.SERVICE: data}, rssi=round(self._rssi + self._rng.gauss(0, 2)))


class Sensors:
    """All sensors of the center, from entering to leaving; `run` lets them measure.

    directory: where the serial links are made. bluez: where the radios are heard. now: every room as it is.
    """

    def __init__(self, directory: Path, bluez: EmulatedBlueZ, seed: int, now: Now) -> None:
        self._open = ExitStack()
        self._directory = directory
        self._bluez = bluez
        self._seed = seed
        self._now = now
        self._variety = Variety(directory, bluez, seed, now)
        self.ports: dict[str, Path] = {}
        """The link of each serial line, by its name."""
        self._all: list[_Dust | _Radio] = []

    def __enter__(self) -> Self:
        self.ports |= self._open.enter_context(self._variety).ports
        for room in ROOMS:
            name = dust_sensor(room)
            sensor = self._open.enter_context(EmulatedPms5003(self._directory, name))
            self.ports[name] = sensor.link
            self._all.append(_Dust(sensor, room, self._rng(name)))
        for listed in ble_sensors():
            device = self._bluez.device(listed.address, listed.device)
            self._all.append(_Radio(device, listed, self._rng(listed.device)))
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._seed} {name}")

    async def run(self) -> None:
        """Until cancelled. Raises a group with OSError where the bus is gone."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_each_second())
            group.create_task(self._variety.run())

    async def _run_each_second(self) -> None:
        """One after the other, as sensors that know nothing of each other."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for n in count():
            # From the beginning, not from the last one: else the time that sending takes would add up.
            await asyncio.sleep(began_s + n * _PERIOD_S / len(self._all) - loop.time())
            await self._all[n % len(self._all)].send(self._now())
