"""The driver with real bleak, against GATT servers of an emulated BlueZ on a real message bus."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from device_drivers.ble.driver import open_ble
from device_drivers.ble.gatt.driver import GattDriver, backoff_s, open_gatt
from device_drivers.ble.gatt.options import GattOptions
from device_drivers.ble.options import BleOptions
from device_drivers.driver import Driver
from device_drivers.errors import DriverError, LinkLost
from device_drivers.reading import Causes, Reading
from device_drivers.simulator import bthome
from device_drivers.simulator.bluez import EmulatedBlueZ, full_uuid
from device_drivers.simulator.environmental_sensing import EmulatedEnvironmentalSensor
from device_drivers.simulator.gatt_server import READ_NOTIFY
from device_drivers.simulator.private_bus import BusKind, private_bus
from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import TIMEOUT_S, bleak_has_noticed, monotonic_us

HALL, LOBBY, CELLAR = "D0:00:00:00:00:01", "D0:00:00:00:00:02", "D0:00:00:00:00:03"
VALUES: Mapping[str, float | None] = {"temperature": 21.5, "humidity": 40.0, "battery": 90}

NOTIFIER = """
name = "notifier/1"
models = ["Notifier"]
manufacturer = "Somebody"
driver = "gatt"
sources.made_up = { title = "made up", document = "this test" }

[gatt]

[channels.temperature]
quantity = "temperature"
unit = "Cel"
scale = 0.01
minimum = -40
maximum = 85
characteristic = { uuid = "2A6E", type = "int16", not_known = [0x8000], notify = true }

[channels.battery]
quantity = "battery"
unit = "%"
minimum = 0
maximum = 100
characteristic = { uuid = "2A19", type = "uint8" }
"""


def options(*addresses: str, **more: Any) -> GattOptions:
    """Devices that are named by the last digit of their address."""
    device = {key: more.pop(key) for key in ("model", "firmware", "interval_s") if key in more}
    devices = [{"address": address, "device": f"sensor-{address[-1]}", **device} for address in addresses]
    return GattOptions.model_validate({"kind": "gatt", "device": devices, **more})


def loaded(tmp_path: Path, text: str) -> ProfileSet:
    (tmp_path / "some.toml").write_text(text, encoding="utf-8")
    return ProfileSet.load(tmp_path)


def at_once() -> float:
    """Jitter that waits not at all."""
    return 0.0


@asynccontextmanager
async def opened(options: GattOptions, profiles: ProfileSet) -> AsyncIterator[GattDriver]:
    async with open_gatt(options, profiles, monotonic_us, at_once) as driver:
        yield driver


@asynccontextmanager
async def on_the_air(*sensors: EmulatedEnvironmentalSensor) -> AsyncIterator[None]:
    """They advertise, as real ones do, until this is left."""

    async def talk() -> None:
        while True:
            for sensor in sensors:
                if not sensor.gatt.connected:
                    await sensor.advertise()
            await asyncio.sleep(0.005)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("device_drivers")]


async def next_reading(driver: Driver) -> Reading:
    async with asyncio.timeout(TIMEOUT_S):
        (reading,) = await anext(driver.readings())
    return reading


async def next_values(driver: Driver, count: int) -> dict[str, float]:
    readings = [await next_reading(driver) for _ in range(count)]
    return {f"{reading.series.device}/{reading.series.channel}": reading.value for reading in readings}


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.001)


async def test_environmental_sensing_is_read_out_of_the_box(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, VALUES, firmware="1.4.2\0")
    before = monotonic_us()
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        readings = [await next_reading(driver) for _ in VALUES]
        assert {r.series.channel: r.value for r in readings} == VALUES
        series = next(r.series for r in readings if r.series.channel == "temperature")
        assert (series.device, series.unit, series.firmware) == ("sensor-1", "°C", "1.4.2")
        assert series.profile == "bluetooth-environmental-sensing/1"
        assert all(before < reading.taken_at_us <= monotonic_us() for reading in readings)
        assert all(reading.reliability == 100 for reading in readings)
        await until(lambda: not sensor.gatt.connected)
        assert driver.faults == {}, "what the device does not have was taken for a fault"
        assert driver.name == "Bluetooth GATT on hci0"
    assert bluez.scans == 0, "a discovery was left running"


async def test_it_is_asked_again_after_its_interval(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    async with opened(options(HALL, interval_s=1), profiles) as driver, on_the_air(sensor):
        first = await next_reading(driver)
        sensor.set_value("temperature", 21.6)
        second = await next_reading(driver)
        assert (first.value, second.value) == (21.5, 21.6)
        assert second.taken_at_us - first.taken_at_us > 500_000
        assert first.series is second.series
        assert sensor.gatt.connections == 2


async def test_not_known_is_no_reading(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": None, "humidity": 40.0})
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        assert await next_values(driver, 1) == {"sensor-1/humidity": 40.0}
        await until(lambda: not sensor.gatt.connected)
        assert driver.faults == {"not_known": 1}


async def test_a_short_value_is_counted_and_the_others_are_read(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5, "humidity": 40.0})
    sensor.gatt.set_value(sensor.characteristics["temperature"], b"\x01")
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        assert await next_values(driver, 1) == {"sensor-1/humidity": 40.0}
        assert driver.faults == {"short_values": 1}


async def test_what_a_device_refuses_is_counted_and_the_others_are_read(
    bluez: EmulatedBlueZ, profiles: ProfileSet
) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5, "humidity": 40.0})
    sensor.characteristics["temperature"].refuses = "org.bluez.Error.NotPermitted"
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        assert await next_values(driver, 1) == {"sensor-1/humidity": 40.0}
        assert driver.faults == {"refused": 1}


async def test_a_low_battery_marks_what_is_read_with_it(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5, "battery": 4})
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        for _ in range(2):
            assert (await next_reading(driver)).causes == Causes.LOW_BATTERY


async def test_what_notifies_holds_its_connection(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5, "battery": 90})
    async with (
        opened(options(HALL, model="Notifier", interval_s=1), loaded(tmp_path, NOTIFIER)) as driver,
        on_the_air(sensor),
    ):
        assert await next_values(driver, 1) == {"sensor-1/battery": 90.0}
        for value in (21.6, 21.7, 21.8):
            assert sensor.set_value("temperature", value)
            assert await next_values(driver, 1) == {"sensor-1/temperature": value}
        assert sensor.set_value("temperature", None)
        sensor.set_value("battery", 89)
        assert await next_values(driver, 1) == {"sensor-1/battery": 89.0}, "it is asked over the same connection"
        assert sensor.gatt.connections == 1
        assert driver.faults == {"not_known": 1}


async def test_what_cannot_notify_is_asked(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    sensor.characteristics["temperature"].flags = ("read",)
    profiles = loaded(tmp_path, NOTIFIER)
    async with opened(options(HALL, model="Notifier"), profiles) as driver, on_the_air(sensor):
        assert await next_values(driver, 1) == {"sensor-1/temperature": 21.5}
        await until(lambda: not sensor.gatt.connected)


async def test_a_lost_link_is_connected_again(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    profiles = loaded(tmp_path, NOTIFIER)
    async with opened(options(HALL, model="Notifier"), profiles) as driver, on_the_air(sensor):
        for round_ in range(3):
            await until(lambda: sensor.characteristics["temperature"].notifying)
            assert sensor.set_value("temperature", 20.0 + round_)
            assert await next_values(driver, 1) == {"sensor-1/temperature": 20.0 + round_}
            sensor.gatt.drop()
        await until(lambda: sensor.characteristics["temperature"].notifying)
        assert driver.faults == {"links_lost": 3}
        assert sensor.gatt.connections == 4


async def test_a_device_that_was_away_comes_back(
    bluez: EmulatedBlueZ, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="device_drivers")
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    async with opened(options(HALL, interval_s=1), profiles) as driver:
        async with on_the_air(sensor):
            await next_reading(driver)
        monkeypatch.setattr("device_drivers.ble.gatt.adapter.HEARD_TIMEOUT_S", 0.05)
        await until(lambda: driver.faults.get("unanswered", 0) >= 3)
        async with on_the_air(sensor):
            assert (await next_reading(driver)).value == 21.5
    said = said_by_us(caplog)
    assert len(said) == 2, "each of many tries was told"
    assert "sensor-1: not heard for 0.05 s: is it powered" in said[0]
    assert "sensor-1: read again" in said[1]


async def test_one_that_is_away_takes_no_turn(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    both = options(LOBBY, HALL, max_connections=1, interval_s=1)
    async with opened(both, profiles) as driver, on_the_air(sensor):
        for _ in range(2):
            assert await next_values(driver, 1) == {"sensor-1/temperature": 21.5}
        assert driver.faults == {}


async def test_one_that_never_answers_does_not_stop_the_others(
    bluez: EmulatedBlueZ, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_drivers.ble.gatt.connection.CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr("device_drivers.ble.gatt.waiting._GRACE_S", 0.05)
    mute = EmulatedEnvironmentalSensor(bluez, LOBBY, {"temperature": 1.0})
    mute.gatt.answers = False
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    both = options(LOBBY, HALL, max_connections=1, interval_s=1)
    async with opened(both, profiles) as driver, on_the_air(mute, sensor):
        for _ in range(2):
            assert await next_values(driver, 1) == {"sensor-1/temperature": 21.5}
        await until(lambda: driver.faults.get("unanswered", 0) >= 2)
        mute.gatt.answers = True
        while (await next_reading(driver)).series.device != "sensor-2":
            pass


async def test_one_that_falls_silent_while_it_is_read_is_left(
    bluez: EmulatedBlueZ, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_drivers.ble.gatt.connection.REQUEST_TIMEOUT_S", 0.1)
    monkeypatch.setattr("device_drivers.ble.gatt.connection.DISCONNECT_TIMEOUT_S", 0.1)
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    async with opened(options(HALL, interval_s=1), profiles) as driver, on_the_air(sensor):
        await next_reading(driver)
        await until(lambda: not sensor.gatt.connected)
        await until(lambda: sensor.gatt.connected)
        sensor.gatt.answers = False
        await until(lambda: driver.faults.get("unanswered", 0) >= 1)
        sensor.gatt.answers = True
        assert (await next_reading(driver)).value == 21.5


async def test_connections_are_bounded(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensors = [EmulatedEnvironmentalSensor(bluez, f"D0:00:00:00:00:0{n}", {"temperature": n}) for n in range(6)]
    addresses = [sensor.device.address for sensor in sensors]
    async with opened(options(*addresses, max_connections=2), profiles) as driver, on_the_air(*sensors):
        heard: set[str] = set()
        while len(heard) < len(sensors):
            heard.add((await next_reading(driver)).series.device)
    assert 1 <= bluez.most_connected <= 2
    assert not any(sensor.gatt.connected for sensor in sensors), "a connection was left"


def test_connections_that_are_held_must_leave_one_for_the_others(tmp_path: Path) -> None:
    profiles = loaded(tmp_path, NOTIFIER)
    open_gatt(options(HALL, LOBBY, model="Notifier", max_connections=2), profiles, monotonic_us)
    with pytest.raises(DriverError, match="set max_connections to at least 3"):
        open_gatt(options(HALL, LOBBY, CELLAR, model="Notifier", max_connections=2), profiles, monotonic_us)


def test_a_model_that_nobody_knows_is_refused(profiles: ProfileSet) -> None:
    with pytest.raises(ProfileError, match=r"BTHome: no profile with characteristics .* Environmental Sensing"):
        open_gatt(options(HALL, model="BTHome"), profiles, monotonic_us)


async def test_an_unknown_firmware_keeps_its_bytes(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    profiles = loaded(tmp_path, NOTIFIER.replace("[gatt]", 'firmware = ">=1,<2"\n\n[gatt]'))
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5}, firmware="2.0")
    async with opened(options(HALL, model="Notifier"), profiles) as driver, on_the_air(sensor):
        reading = await next_reading(driver)
    assert (reading.series.channel, reading.series.profile, reading.series.firmware) == ("raw", "", "2.0")
    assert math.isnan(reading.value)
    assert reading.frame == UUID(full_uuid(0x2A6E)).bytes + (2150).to_bytes(2, "little")


async def test_a_configured_firmware_is_believed(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    profiles = loaded(tmp_path, NOTIFIER.replace("[gatt]", 'firmware = ">=1,<2"\n\n[gatt]'))
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"battery": 90}, firmware="build of Tuesday")
    async with opened(options(HALL, model="Notifier", firmware="1.5"), profiles) as driver, on_the_air(sensor):
        assert (await next_reading(driver)).series.firmware == "1.5"


async def test_a_device_of_another_model_is_told(
    bluez: EmulatedBlueZ, profiles: ProfileSet, caplog: pytest.LogCaptureFixture
) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {}, firmware="1")
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        await until(lambda: driver.faults.get("links_lost", 0) >= 2)
    assert said_by_us(caplog) == [
        "Bluetooth GATT on hci0: sensor-1: it has no characteristic of Environmental Sensing; is that its model?"
    ]


INVENTED = """
name = "invented-moss/3"
models = ["Moss 2"]
manufacturer = "Invented"
driver = "gatt"
sources.made_up = { title = "made up", document = "this test" }
warm_up_s = 3600
firmware = ">=7"
sampling = { interval_s = 3600, on_change = ["wet"] }

[gatt]
begin = [{ uuid = "f0001001-0451-4000-b000-000000000000", value = "01 0a" }]

[channels.soil]
quantity = "soil_moisture"
unit = "%"
scale = 0.1
minimum = 0
maximum = 100
[channels.soil.characteristic]
uuid = "f0001002-0451-4000-b000-000000000000"
type = "uint16"
offset = 1
byte_order = "big"
notify = true

[channels.wet]
quantity = "moisture"
unit = "1"
minimum = 0
maximum = 1
characteristic = { uuid = "f0001002-0451-4000-b000-000000000000", type = "uint8", notify = true }

[channels.temperature]
quantity = "temperature"
unit = "Cel"
minimum = -40
maximum = 85
characteristic = { uuid = "f0001003-0451-4000-b000-000000000000", type = "float32" }
"""


async def test_a_new_sensor_needs_a_profile_and_no_code(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    profiles = loaded(tmp_path, INVENTED)
    device = bluez.device(HALL)
    service = device.gatt.service("f0001000-0451-4000-b000-000000000000")
    control = device.gatt.characteristic(service, "f0001001-0451-4000-b000-000000000000", b"", ("write",))
    moss = device.gatt.characteristic(service, "f0001002-0451-4000-b000-000000000000", b"", READ_NOTIFY)
    device.gatt.characteristic(service, "f0001003-0451-4000-b000-000000000000", b"\x00\x00\xac\x41")
    async with opened(options(HALL, model="Moss 2", firmware="7.1"), profiles) as driver:
        await device.advertise({})
        await until(lambda: bluez.scans or device.gatt.connected)
        await device.advertise({})
        temperature = await next_reading(driver)
        assert (temperature.series.channel, temperature.value) == ("temperature", 21.5)
        assert temperature.causes == Causes.WARMING_UP
        assert control.written == [b"\x01\x0a"]
        told: list[dict[str, float]] = []
        for value in ("00 0123", "00 0124", "01 0125"):
            assert device.gatt.set_value(moss, bytes.fromhex(value))
        async with asyncio.timeout(TIMEOUT_S):
            while len(told) < 2:
                group: Sequence[Reading] = await anext(driver.readings())
                told.append({reading.series.channel: reading.value for reading in group})
        # The second is within the sampling interval and changes nothing that counts.
        assert told == [{"soil": pytest.approx(29.1), "wet": 0.0}, {"soil": pytest.approx(29.3), "wet": 1.0}]
        assert driver.faults == {}


async def test_a_missing_adapter_is_named(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="no Bluetooth adapter hci7; there is hci0"):
        async with opened(options(HALL, adapter="hci7"), profiles):
            pass


async def test_an_adapter_that_is_off_cannot_be_opened(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    await bluez.power(False)
    with pytest.raises(LinkLost, match="hci0: the adapter is powered off"):
        async with opened(options(HALL), profiles):
            pass


@pytest.mark.usefixtures("bus_address")
async def test_without_bluez(profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="BlueZ is not running"):
        async with opened(options(HALL), profiles):
            pass


@pytest.mark.usefixtures("bus_directory")
async def test_without_a_bus(profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="no D-Bus system bus"):
        async with opened(options(HALL), profiles):
            pass


@pytest.mark.parametrize(("how", "says"), [("off", "powered off"), ("unplugged", "the adapter is gone")])
async def test_an_adapter_that_goes_is_a_lost_link(
    bluez: EmulatedBlueZ, profiles: ProfileSet, how: str, says: str
) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        await next_reading(driver)
        await (bluez.power(False) if how == "off" else bluez.remove())
        with pytest.raises(LinkLost, match=f"Bluetooth adapter hci0: {says}|the adapter is {says}"):
            await next_reading(driver)
    await bluez.power(True)
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        assert (await next_reading(driver)).value == 21.5


async def test_a_restarted_bluetoothd(bus_address: str, tmp_path: Path) -> None:
    profiles = loaded(tmp_path, NOTIFIER)
    asked = options(HALL, model="Notifier")
    async with EmulatedBlueZ(bus_address) as bluez:
        sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
        driver = open_gatt(asked, profiles, monotonic_us, at_once)
        await driver.__aenter__()
        async with on_the_air(sensor):
            await until(lambda: sensor.characteristics["temperature"].notifying)
    # Killed while it held a connection.
    with pytest.raises(LinkLost, match="BlueZ has stopped"):
        await next_reading(driver)
    await driver.__aexit__(None, None, None)
    async with EmulatedBlueZ(bus_address) as bluez:
        # Its services have moved: what bleak remembers of the dead one is wrong.
        bluez.device(HALL).gatt.service(full_uuid(0x1800))
        sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
        async with opened(asked, profiles) as driver, on_the_air(sensor):
            await until(lambda: sensor.characteristics["temperature"].notifying)
            assert sensor.set_value("temperature", 22.0)
            assert (await next_reading(driver)).value == 22.0
            assert driver.faults == {}


async def test_a_bluetoothd_that_hangs_is_a_lost_link(
    bluez: EmulatedBlueZ, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    bluez.answers_scans = False
    with monkeypatch.context() as patience:
        patience.setattr("device_drivers.ble.gatt.adapter.START_TIMEOUT_S", 0.2)
        async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
            with pytest.raises(LinkLost, match="hci0: BlueZ does not answer"):
                await next_reading(driver)
    bluez.answers_scans = True
    async with opened(options(HALL), profiles) as driver, on_the_air(sensor):
        assert (await next_reading(driver)).value == 21.5


async def test_a_restarted_bus(bus_kind: BusKind, bus_directory: Path, profiles: ProfileSet) -> None:
    driver = open_gatt(options(HALL), profiles, monotonic_us, at_once)
    bus = private_bus(bus_directory, bus_kind)
    async with EmulatedBlueZ(await bus.__aenter__()) as bluez:
        await driver.__aenter__()
        await until(lambda: bluez.scans)
        # Before BlueZ ends, of which a bus may tell while it closes its connections one by one.
        await bus.__aexit__(None, None, None)
        with pytest.raises(LinkLost, match=r"hci0: (the connection to D-Bus was cut|BlueZ has stopped)"):
            await next_reading(driver)
    await driver.__aexit__(None, None, None)
    async with (
        private_bus(bus_directory, bus_kind) as address,
        EmulatedBlueZ(address) as bluez,
        opened(options(HALL), profiles) as driver,
    ):
        sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
        async with on_the_air(sensor):
            assert (await next_reading(driver)).value == 21.5
    await bleak_has_noticed()


async def test_advertisements_and_connections_share_an_adapter(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    listened = BleOptions.model_validate({"device": [{"address": LOBBY, "device": "listened"}]})
    async with (
        open_ble(listened, profiles, monotonic_us) as listening,
        opened(options(HALL, interval_s=1), profiles) as driver,
        on_the_air(sensor),
    ):
        for number in (1, 2):
            assert (await next_reading(driver)).value == 21.5
            assert await bluez.device(LOBBY).advertise({bthome.SERVICE: bthome.encode({"temperature": 20.0}, number)})
            async with asyncio.timeout(TIMEOUT_S):
                group: Sequence[Reading] = await anext(listening.readings())
            assert group[0].value == 20.0


async def test_what_another_scan_has_heard_is_heard(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    """BlueZ tells only of changes, and a sensor that stands still may have none for long."""
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    async with open_ble(BleOptions(accept=("bthome",)), profiles, monotonic_us):
        assert await sensor.advertise()
        async with opened(options(HALL), profiles) as driver:
            assert (await next_reading(driver)).value == 21.5


async def test_leaving_leaves_nothing_behind(bluez: EmulatedBlueZ, tmp_path: Path) -> None:
    sensor = EmulatedEnvironmentalSensor(bluez, HALL, {"temperature": 21.5})
    profiles = loaded(tmp_path, NOTIFIER)
    open_files: list[int] = []
    for _ in range(4):
        async with opened(options(HALL, model="Notifier"), profiles), on_the_air(sensor):
            await until(lambda: sensor.characteristics["temperature"].notifying)
            open_files.append(len(list(Path("/proc/self/fd").iterdir())))
        assert not sensor.gatt.connected
    assert open_files[-1] <= open_files[0]


def test_backoff_is_full_jitter_and_bounded() -> None:
    assert [backoff_s(failures, lambda: 1.0) for failures in (0, 1, 2, 50)] == [2.0, 4.0, 8.0, 300.0]
    assert backoff_s(3, lambda: 0.25) == 4.0
