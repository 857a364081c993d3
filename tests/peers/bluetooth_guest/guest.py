"""The program inside the guest: our drivers, real bleak, real bluetoothd, the kernel, and emulated controllers.

Writes a report of what was read, which the test outside judges. Each part of it stands alone: one that fails is told
by its error, and the others run.
"""

import asyncio
import json
import os
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData, PhysicalTransport
from bumble.device import Device, DeviceConfiguration
from bumble.gatt import Characteristic, Service
from bumble.hci import Address
from bumble.link import LocalLink
from bumble.transport import open_transport
from dbus_fast import BusType, Message, Variant
from dbus_fast.aio import MessageBus

from device_drivers.ble.driver import open_ble
from device_drivers.ble.gatt.driver import open_gatt
from device_drivers.ble.gatt.options import GattOptions
from device_drivers.ble.options import BleOptions
from device_drivers.ble.recovery import Step
from device_drivers.driver import Driver
from device_drivers.errors import DriverError
from device_drivers.reading import Reading
from device_drivers.simulator import bthome, environmental_sensing
from device_drivers.simulator.private_bus import private_bus
from firmware_profiles.selection import ProfileSet

ADVERTISER, PERIPHERAL = "A4:C1:38:8D:18:B2", "D0:00:00:00:00:01"
PATIENCE_S = 60.0

NOTIFIER = """
name = "notifier/1"
models = ["Notifier"]
manufacturer = "Nobody"
driver = "gatt"
sources.made_up = { title = "made up", document = "this program" }
[gatt]
[channels.temperature]
quantity = "temperature"
unit = "Cel"
scale = 0.01
minimum = -40
maximum = 85
characteristic = { uuid = "2A6E", type = "int16", notify = true }
"""

Report = dict[str, Any]


class Link(LocalLink):
    """bumble's own sends data as from the random address; this host connects from its public one."""

    def send_acl_data(
        self, sender_controller: Controller, destination_address: Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        connection = sender_controller.le_connections.get(destination_address)
        destination = self.find_le_controller(destination_address)
        if connection is not None and destination is not None:
            asyncio.get_running_loop().call_soon(destination.on_link_acl_data, connection.self_address, transport, data)


class Room:
    """A sensor that advertises and one that is connected to, on the air of one emulated link."""

    def __init__(self, link: Link) -> None:
        self._packet = 0
        self.advertiser = _sensor(link, ADVERTISER, "advertiser")
        self.peripheral = _sensor(link, PERIPHERAL, "peripheral")
        self.peripheral.advertising_data = bytes(
            AdvertisingData(
                [
                    (AdvertisingData.Type.FLAGS, b"\x06"),
                    (AdvertisingData.Type.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, b"\x1a\x18"),
                ]
            )
        )
        self.temperature = _characteristic(0x2A6E, environmental_sensing.encode("temperature", 23.45))
        humidity = _characteristic(0x2A6F, environmental_sensing.encode("humidity", None))
        self.peripheral.add_service(Service(UUID.from_16_bits(0x181A), [self.temperature, humidity]))
        battery = _characteristic(0x2A19, environmental_sensing.encode("battery", 87))
        self.peripheral.add_service(Service(UUID.from_16_bits(0x180F), [battery]))
        firmware = _characteristic(0x2A26, b"1.4.2")
        self.peripheral.add_service(Service(UUID.from_16_bits(0x180A), [firmware]))

    async def run(self) -> None:
        """Measures a new value all the time, and tells whoever wants to know."""
        for sensor in (self.advertiser, self.peripheral):
            await sensor.power_on()
        self._measure()
        for sensor in (self.advertiser, self.peripheral):
            await sensor.start_advertising(auto_restart=True)
        while True:
            await asyncio.sleep(0.5)
            self._measure()
            await self.advertiser.stop_advertising()
            await self.advertiser.start_advertising(auto_restart=True)
            self.temperature.value = struct.pack("<h", 2300 + self._packet % 100)
            await self.peripheral.notify_subscribers(self.temperature, self.temperature.value)

    def _measure(self) -> None:
        self._packet = (self._packet + 1) % 256
        data = bthome.encode({"temperature": 20.0}, self._packet)
        self.advertiser.advertising_data = bytes(
            AdvertisingData(
                [
                    (AdvertisingData.Type.FLAGS, b"\x06"),
                    (AdvertisingData.Type.SERVICE_DATA_16_BIT_UUID, b"\xd2\xfc" + data),
                ]
            )
        )


def _sensor(link: Link, address: str, name: str) -> Device:
    controller = Controller(name, link=link)
    configuration = DeviceConfiguration(
        name=name, address=Address(address), advertising_interval_min=100, advertising_interval_max=100
    )
    return Device.from_config_with_hci(configuration, controller, controller)


def _characteristic(uuid: int, value: bytes) -> Characteristic[bytes]:
    properties = Characteristic.Properties.READ | Characteristic.Properties.NOTIFY
    return Characteristic(UUID.from_16_bits(uuid), properties, Characteristic.Permissions.READABLE, value)


class BlueZ:
    """bluetoothd as a process, which can be killed."""

    def __init__(self, program: str, libraries: str, log: Path) -> None:
        self._program = program
        self._environment = os.environ | {"LD_LIBRARY_PATH": libraries}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            # Experimental: passive scans need its advertisement monitors.
            self._process = await asyncio.create_subprocess_exec(
                self._program, "-n", "-E", stdout=log, stderr=log, env=self._environment
            )
        await self.power(True)

    async def restart(self) -> None:
        """Without a word to anybody, as after a crash."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await self.start()

    async def power(self, on: bool) -> None:
        """As soon as there is an adapter."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._set_powered(on) is not None:  # noqa: ASYNC110 - it tells nobody when it is ready
                await asyncio.sleep(0.2)

    async def _set_powered(self, on: bool) -> str | None:
        """The name of the error."""
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        reply = await bus.call(
            Message(
                destination="org.bluez",
                path="/org/bluez/hci0",
                interface="org.freedesktop.DBus.Properties",
                member="Set",
                signature="ssv",
                body=["org.bluez.Adapter1", "Powered", Variant("b", on)],
            )
        )
        bus.disconnect()
        return reply.error_name or None


Open = Callable[[], Driver]


class Reader:
    """Reads a driver and opens it again when it is lost, as the gateway's collector does."""

    def __init__(self, open_driver: Open) -> None:
        self.lost: list[str] = []
        self.faults: dict[str, int] = {}
        """Of the driver that is open, or was last."""
        self._open = open_driver
        self._readings: asyncio.Queue[Reading] = asyncio.Queue()

    async def run(self) -> None:
        while True:
            driver = self._open()
            try:
                async with driver:
                    async for group in driver.readings():
                        self.faults = driver.faults
                        for reading in group:
                            self._readings.put_nowait(reading)
            except DriverError as error:
                self.lost.append(str(error))
            await asyncio.sleep(0.5)

    async def next(self, count: int) -> dict[str, float]:
        """The last value of each of so many channels, with the firmware; what came before does not count."""
        while not self._readings.empty():
            self._readings.get_nowait()
        found: dict[str, float] = {}
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                reading = await self._readings.get()
                found[f"{reading.series.channel} of {reading.series.firmware}"] = reading.value
        return found


@asynccontextmanager
async def reading(open_driver: Open) -> AsyncIterator[Reader]:
    reader = Reader(open_driver)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait({task})


def listener(mode: str) -> Open:
    options = BleOptions.model_validate(
        {"mode": mode, "silence_s": 8, "device": [{"address": ADVERTISER, "device": "advertiser"}]}
    )
    return lambda: open_ble(options, ProfileSet.load(), _now_us)


def connector(model: str, profiles: ProfileSet) -> Open:
    device = {"address": PERIPHERAL, "device": "peripheral", "model": model, "interval_s": 1}
    options = GattOptions.model_validate({"kind": "gatt", "device": [device]})
    return lambda: open_gatt(options, profiles, _now_us)


def _now_us() -> int:
    return time.monotonic_ns() // 1000


async def heard(mode: str) -> Report:
    async with reading(listener(mode)) as reader:
        return {"values": await reader.next(2), "lost": reader.lost}


async def polled() -> Report:
    async with reading(connector("Environmental Sensing", ProfileSet.load())) as reader:
        return {"values": await reader.next(2), "lost": reader.lost}


async def recovered(notifier: ProfileSet, begin: Callable[[], Awaitable[None]]) -> Report:
    """Both drivers at once on one adapter, before and after something happens to it."""
    async with reading(listener("active")) as listening, reading(connector("Notifier", notifier)) as connected:
        before = {"heard": await listening.next(2), "notified": await connected.next(1)}
        await begin()
        async with asyncio.timeout(PATIENCE_S):
            # The listener brings its radio back by itself.
            while not (listening.faults.get(Step.NEW_SCANNER.value) and connected.lost):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        after = {"heard": await listening.next(2), "notified": await connected.next(1)}
        steps = {step.value: listening.faults.get(step.value, 0) for step in Step}
        return {"before": before, "after": after, "steps": steps, "ble": listening.lost, "gatt": connected.lost}


async def notified(notifier: ProfileSet) -> Report:
    async with reading(connector("Notifier", notifier)) as reader:
        return {"values": [await reader.next(1) for _ in range(3)], "lost": reader.lost}


async def main(program: str, libraries: str, written: Path) -> None:
    report: Report = {}
    with tempfile.TemporaryDirectory(prefix="bus-") as directory:
        Path(directory, "notifier.toml").write_text(NOTIFIER)
        notifier = ProfileSet.load(Path(directory))
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={directory}/bus.sock"
        async with private_bus(Path(directory), "dbus-daemon"), await open_transport("vhci") as transport:
            link = Link()  # type: ignore[no-untyped-call]
            host = Controller(
                "host",
                host_source=transport.source,
                host_sink=transport.sink,
                link=link,
                public_address="00:00:5E:00:53:01",
            )
            # bluetoothd would use them, and the emulated link cannot.
            for feature in (hci.LeFeatureMask.LE_EXTENDED_ADVERTISING, hci.LeFeatureMask.LL_PRIVACY):
                host.le_features &= ~feature
            bluez = BlueZ(program, libraries, written.parent / "bluetoothd.log")
            await bluez.start()
            room = asyncio.create_task(Room(link).run())

            async def off_and_on() -> None:
                await bluez.power(False)
                await asyncio.sleep(1)
                await bluez.power(True)

            parts: dict[str, Callable[[], Awaitable[Report]]] = {
                "active": lambda: heard("active"),
                "passive": lambda: heard("passive"),
                "polled": polled,
                "notified": lambda: notified(notifier),
                "restarted": lambda: recovered(notifier, bluez.restart),
                "powered": lambda: recovered(notifier, off_and_on),
            }
            for name, part in parts.items():
                began_s = time.monotonic()
                try:
                    report[name] = await part()
                except Exception:  # noqa: BLE001 - the test outside is told, whatever it was
                    report[name] = {"error": traceback.format_exc()}
                report[name]["seconds"] = round(time.monotonic() - began_s, 1)
                print(name, report[name], flush=True)
                written.write_text(json.dumps(report))
            if room.done():
                room.result()
            room.cancel()
            await asyncio.wait({room})
    # What was started and not ended must not keep the guest running.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
