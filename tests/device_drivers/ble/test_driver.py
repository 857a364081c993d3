"""The driver with real bleak, against an emulated BlueZ on a real message bus."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from device_drivers.ble.driver import MAX_UNLISTED, MAX_WAITING, open_ble
from device_drivers.ble.newcomers import MOST_IN_AN_HOUR
from device_drivers.ble.options import BleOptions
from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Reading
from device_drivers.simulator import bthome, mibeacon
from device_drivers.simulator.bluez import EmulatedBlueZ, EmulatedDevice
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import ADDRESS, TIMEOUT_S, monotonic_us

NEIGHBOUR = "A4:C1:38:00:00:01"
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")


def with_device(**fields: Any) -> BleOptions:
    return BleOptions.model_validate({"device": [{"address": ADDRESS, "device": "hall-1", **fields}]})


def impatient(options: BleOptions, silence_s: float = 0.5) -> BleOptions:
    """Shorter than an operator may set it: here nothing else is on the air."""
    return options.model_copy(update={"silence_s": silence_s})


async def send(device: EmulatedDevice, packet_id: int | None = None, **values: float) -> None:
    assert await device.advertise({bthome.SERVICE: bthome.encode(values, packet_id)}), "nobody scans"


async def next_readings(driver: Driver) -> dict[str, float]:
    async with asyncio.timeout(TIMEOUT_S):
        readings: Sequence[Reading] = await anext(driver.readings())
    return {f"{reading.series.device}/{reading.series.channel}": reading.value for reading in readings}


async def scanned(bluez: EmulatedBlueZ) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await bluez.scanned()


async def counted(driver: Driver, kind: str, number: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while driver.faults.get(kind, 0) < number:  # noqa: ASYNC110 - a driver tells nobody of a fault
            await asyncio.sleep(0)


@pytest.mark.parametrize("mode", ["active", "passive"])
async def test_an_advertisement_becomes_readings(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet, mode: str
) -> None:
    options = options.model_copy(update={"mode": mode})
    before = monotonic_us()
    async with open_ble(options, profiles, monotonic_us) as driver:
        await scanned(bluez)
        sensor = bluez.device(ADDRESS, "SBHT-003C")
        await send(sensor, 1, temperature=21.5, motion=1.0)
        async with asyncio.timeout(TIMEOUT_S):
            readings = await anext(driver.readings())
        assert all(before < reading.taken_at_us <= monotonic_us() for reading in readings)
        await send(sensor, 2, temperature=21.6)
        assert await next_readings(driver) == {"hall-1/temperature": 21.6, "hall-1/signal_strength": -60}
        assert driver.faults == {}
        assert driver.name == "Bluetooth LE on hci0"
    assert bluez.scans == 0, "a scan was left running"


async def test_passive_hears_only_what_is_asked_for(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    async with open_ble(options.model_copy(update={"mode": "passive"}), profiles, monotonic_us):
        await scanned(bluez)
        assert not await bluez.device(ADDRESS).advertise({0x180A: b"\x01\x02"}, flags=None)
        assert await bluez.device(ADDRESS).advertise({0xFCD2: b"\x40\x01\x50"}, flags=None)
        assert await bluez.device(ADDRESS).advertise({0x180A: b"\x01\x02"})


async def test_repeats_are_counted_and_not_read(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    async with open_ble(options, profiles, monotonic_us) as driver:
        sensor = bluez.device(ADDRESS)
        for packet_id in (1, 1, 1, 2):
            await send(sensor, packet_id, temperature=20.0 + packet_id)
        assert (await next_readings(driver))["hall-1/temperature"] == 21.0
        assert (await next_readings(driver))["hall-1/temperature"] == 22.0
        assert driver.faults == {"repeats": 2}


async def test_neighbours_are_not_read_unless_asked_for(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    async with open_ble(options, profiles, monotonic_us) as driver:
        await send(bluez.device(NEIGHBOUR), temperature=30.0)
        await bluez.device("5A:00:00:00:00:01").advertise({}, manufacturer_data={0x004C: b"\x10\x05"})
        await send(bluez.device(ADDRESS), 1, temperature=20.0)
        await bluez.device(ADDRESS).advertise({0x180A: b"\x01\x02"})
        await send(bluez.device(ADDRESS), 2, temperature=20.5)
        assert (await next_readings(driver))["hall-1/temperature"] == 20.0
        assert (await next_readings(driver))["hall-1/temperature"] == 20.5
        assert driver.faults == {"unlisted": 1, "repeats": 1}


async def test_unlisted_devices_are_named_by_their_address(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    async with open_ble(BleOptions(accept=("bthome",)), profiles, monotonic_us) as driver:
        await bluez.device("5A:00:00:00:00:01").advertise({}, manufacturer_data={0x004C: b"\x10\x05"})
        await send(bluez.device(NEIGHBOUR), temperature=30.0)
        assert (await next_readings(driver))[f"{NEIGHBOUR}/temperature"] == 30.0
        assert driver.faults == {}


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_unlisted_devices_are_bounded(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    now_us = 0

    def clock() -> int:
        return now_us

    async with open_ble(BleOptions(accept=("bthome",)), profiles, clock) as driver:
        for number in range(MAX_UNLISTED + 1):
            now_us += 3_600_000_000 // MOST_IN_AN_HOUR + 1
            await send(bluez.device(f"A4:C1:38:00:{number >> 8:02X}:{number & 255:02X}"), temperature=20.0)
            await next_readings(driver)
        assert driver.faults == {"unlisted_forgotten": 1}


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_passers_by_become_no_devices(bluez: EmulatedBlueZ, profiles: ProfileSet) -> None:
    async with open_ble(BleOptions(accept=("bthome", "ruuvi")), profiles, lambda: 0) as driver:
        for number in range(50):  # resolvable and non-resolvable addresses
            address = f"{(0x40, 0x10)[number % 2]:02X}:C1:38:00:00:{number:02X}"
            await send(bluez.device(address, address_type="random"), temperature=20.0)
        await counted(driver, "rotating_addresses", 50)
        for number in range(MOST_IN_AN_HOUR + 5):
            await send(bluez.device(f"A4:C1:38:00:01:{number:02X}"), temperature=20.0)
            if number < MOST_IN_AN_HOUR:
                await next_readings(driver)
        await counted(driver, "too_many_newcomers", 5)
        xiaomi = mibeacon.encode({"battery": 9.0}, address=NEIGHBOUR, counter=1)
        await bluez.device(NEIGHBOUR).advertise({mibeacon.SERVICE: xiaomi})
        await counted(driver, "unlisted", 1)
        assert driver.faults == {"rotating_addresses": 50, "too_many_newcomers": 5, "unlisted": 1}


@pytest.mark.parametrize(
    ("bindkey", "outcome"),
    [(KEY.hex(), {}), ("00" * 16, {"unauthentic": 1}), (None, {"no_bindkey": 1})],
)
async def test_encrypted(
    bluez: EmulatedBlueZ, profiles: ProfileSet, bindkey: str | None, outcome: dict[str, int]
) -> None:
    sealed = bthome.encode_encrypted({"temperature": 21.5}, bindkey=KEY, address=ADDRESS, counter=7)
    async with open_ble(with_device(bindkey=bindkey), profiles, monotonic_us) as driver:
        await bluez.device(ADDRESS).advertise({bthome.SERVICE: sealed})
        if outcome:
            # Of an unknown version: encrypted or not, it is read as it is, after the other.
            await bluez.device(ADDRESS).advertise({bthome.SERVICE: b"\x60\x00"})
            assert set(await next_readings(driver)) == {"hall-1/raw"}
        else:
            assert (await next_readings(driver))["hall-1/temperature"] == 21.5
        assert driver.faults == outcome


async def test_listed_devices_that_are_gone_are_told_from_a_deaf_radio(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    async with open_ble(impatient(options), profiles, monotonic_us) as driver:
        talk = asyncio.create_task(talk_on(bluez.device(NEIGHBOUR)))
        await counted(driver, "listed_silent", 1)
        talk.cancel()
        await asyncio.wait({talk})
        assert set(driver.faults) == {"listed_silent", "unlisted"}


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_each_time_that_listed_devices_are_gone_is_counted(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    now_s = 0

    async with open_ble(options, profiles, lambda: now_s * 1_000_000) as driver:
        for number in range(3):
            now_s += 59
            await send(bluez.device(NEIGHBOUR), 3 * number, temperature=20.0)
            await counted(driver, "unlisted", 3 * number + 1)
            assert driver.faults.get("listed_silent", 0) == number
            for more in (1, 2):
                now_s += 1
                await send(bluez.device(NEIGHBOUR), 3 * number + more, temperature=20.0)
                await counted(driver, "unlisted", 3 * number + 1 + more)
            assert driver.faults["listed_silent"] == number + 1
            await send(bluez.device(ADDRESS), number, temperature=20.0)
            await next_readings(driver)


async def talk_on(device: EmulatedDevice) -> None:
    packet_id = 0
    while True:
        packet_id = (packet_id + 1) % 256
        await send(device, packet_id, temperature=20.0)
        await asyncio.sleep(0.01)


async def test_an_adapter_that_is_off_cannot_be_opened(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet
) -> None:
    await bluez.power(False)
    with pytest.raises(LinkLost, match="hci0: the adapter is powered off"):
        async with open_ble(options, profiles, monotonic_us):
            pass


async def test_a_missing_adapter_is_named(bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="adapter 'hci7' not found"):
        async with open_ble(options.model_copy(update={"adapters": ("hci7",)}), profiles, monotonic_us):
            pass


@pytest.mark.usefixtures("bus_address")
async def test_without_bluez(options: BleOptions, profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="BlueZ is not running"):
        async with open_ble(options, profiles, monotonic_us):
            pass


@pytest.mark.usefixtures("bus_directory")
async def test_without_a_bus(options: BleOptions, profiles: ProfileSet) -> None:
    with pytest.raises(LinkLost, match="no D-Bus system bus"):
        async with open_ble(options, profiles, monotonic_us):
            pass


async def test_a_bus_address_that_is_none(
    options: BleOptions, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "nonsense")
    with pytest.raises(LinkLost, match="Bluetooth LE on hci0"):
        async with open_ble(options, profiles, monotonic_us):
            pass


@pytest.mark.parametrize("at", ["start", "stop"])
async def test_a_bluetoothd_that_hangs_is_left(
    bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr("device_drivers.ble.radio.START_TIMEOUT_S", 0.2)
    monkeypatch.setattr("device_drivers.ble.radio.STOP_TIMEOUT_S", 0.2)
    if at == "start":
        bluez.answers_scans = False
        with pytest.raises(LinkLost, match="BlueZ does not answer"):
            async with open_ble(options, profiles, monotonic_us):
                pass
    else:
        async with open_ble(options, profiles, monotonic_us):
            bluez.answers_scans = False
    bluez.answers_scans = True
    async with open_ble(options, profiles, monotonic_us) as driver:
        await send(bluez.device(ADDRESS), temperature=21.0)
        assert (await next_readings(driver))["hall-1/temperature"] == 21.0


async def test_reopening_leaves_nothing_behind(bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet) -> None:
    open_files: list[int] = []
    for _ in range(5):
        async with open_ble(options, profiles, monotonic_us):
            await scanned(bluez)
            open_files.append(len(list(Path("/proc/self/fd").iterdir())))
        assert bluez.scans == 0
    assert open_files[-1] <= open_files[0]


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_a_full_queue_drops_the_oldest(bluez: EmulatedBlueZ, options: BleOptions, profiles: ProfileSet) -> None:
    too_many = 3
    async with open_ble(options, profiles, monotonic_us) as driver:
        sensor = bluez.device(ADDRESS)
        for number in range(MAX_WAITING + too_many):
            await send(sensor, number % 256, temperature=number / 100)
        await counted(driver, "queue_overflows", too_many)
        assert (await next_readings(driver))["hall-1/temperature"] == too_many / 100
        assert driver.faults == {"queue_overflows": too_many}
