"""Radios that fall silent and are brought back, and several that hear the same sensor: real bleak, emulated BlueZ."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from device_drivers.ble.driver import open_ble
from device_drivers.ble.options import BleOptions
from device_drivers.driver import Driver
from device_drivers.simulator.ble_sensor import KINDS, EmulatedBleSensor
from device_drivers.simulator.bluez import Cure, EmulatedBlueZ
from device_drivers.simulator.private_bus import BusKind, private_bus
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import ADDRESS, TIMEOUT_S, bleak_has_noticed, monotonic_us

SILENCE_S = 0.2
VALUES = {"temperature": 21.5, "humidity": 40.0, "battery": 50.0, "voltage": 2.9, "pressure": 1003.0}


@pytest.fixture(autouse=True)
def quick_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulated one loads no firmware."""
    monkeypatch.setattr("device_drivers.ble.adapter._OFF_S", 0.0)


def listening(*adapters: str, silence_s: float = SILENCE_S, bindkey: bytes | None = None) -> BleOptions:
    """silence_s: shorter than an operator may set it; here nothing else is on the air."""
    device = {"address": ADDRESS, "device": "hall-1", "bindkey": bindkey.hex() if bindkey else None}
    options = BleOptions.model_validate({"adapters": adapters, "device": [device]})
    return options.model_copy(update={"silence_s": silence_s})


class Reader:
    """Reads a driver in a task of its own, as the gateway does."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.temperatures: list[float] = []
        self.raw = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async for group in self.driver.readings():
            for reading in group:
                if reading.series.channel == "temperature":
                    self.temperatures.append(reading.value)
                elif reading.series.channel == "raw":
                    self.raw += 1
            self._changed.set()

    async def until_one(self, has_happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not has_happened():
                self._changed.clear()
                await self._changed.wait()

    async def until(self, *temperatures: float) -> None:
        await self.until_one(lambda: len(self.temperatures) >= len(temperatures))
        assert self.temperatures == pytest.approx([*temperatures])

    async def counted(self, kind: str, number: int = 1) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while self.driver.faults.get(kind, 0) < number:  # noqa: ASYNC110 - a driver tells nobody of a fault
                await asyncio.sleep(0.001)


@asynccontextmanager
async def reading(options: BleOptions, profiles: ProfileSet) -> AsyncIterator[Reader]:
    async with open_ble(options, profiles, monotonic_us) as driver:
        reader = Reader(driver)
        task = asyncio.create_task(reader.run())
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()


async def heard(sensor: EmulatedBleSensor, **values: float) -> None:
    """Sends until somebody hears it: a radio that is being brought back is deaf for a while."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await sensor.measure(**(VALUES | values)):  # noqa: ASYNC110 - nobody tells when a radio hears again
            await asyncio.sleep(0.01)


@contextmanager
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("cure", "steps"),
    [
        ("new scanner", {"radio_new_scanners"}),
        ("power cycle", {"radio_new_scanners", "radio_power_cycles"}),
    ],
)
@pytest.mark.parametrize("bus_kind", ["python"])
async def test_a_deaf_radio_is_brought_back(
    bluez: EmulatedBlueZ, profiles: ProfileSet, cure: Cure, steps: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    with no_traceback(caplog):
        async with reading(listening("hci0"), profiles) as reader:
            sensor = EmulatedBleSensor(bluez, "bthome")
            await heard(sensor)
            bluez.deafen(cure)
            await heard(sensor, temperature=22.0)
            await reader.until(21.5, 22.0)
            assert set(reader.driver.faults) - {"repeats"} == steps
    assert "BlueZ says that it scans" in caplog.text
    assert bluez.scans == 0


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_where_nothing_helps_a_restart_is_asked_for_and_it_goes_on(
    bluez: EmulatedBlueZ, profiles: ProfileSet, caplog: pytest.LogCaptureFixture
) -> None:
    """With more and more patience: an empty room is no reason to switch its adapter off and on all day."""
    driver = open_ble(listening("hci0"), profiles, monotonic_us)
    async with driver:
        bluez.deafen("restart")
        told: list[dict[str, int]] = []
        async with asyncio.timeout(TIMEOUT_S):
            async for group in driver.readings():
                assert group == [], "a group without readings tells of a step"
                told.append(driver.faults)
                if len(told) == 4:
                    break
        assert [sum(faults.values()) for faults in told] == [1, 2, 3, 4]
        assert driver.faults == {"radio_new_scanners": 2, "radio_power_cycles": 1, "radio_restart_requests": 1}
    assert "restart bluetoothd" in caplog.text


@pytest.mark.parametrize("mode", ["active", "passive"])
async def test_an_adapter_that_is_switched_off_is_switched_on(
    bluez: EmulatedBlueZ, profiles: ProfileSet, mode: str
) -> None:
    options = listening("hci0").model_copy(update={"mode": mode})
    async with reading(options, profiles) as reader:
        await asyncio.wait_for(bluez.scanned(), TIMEOUT_S)
        sensor = EmulatedBleSensor(bluez, "bthome")
        await heard(sensor)
        await bluez.power(False)
        assert not await sensor.measure(**VALUES)
        await heard(sensor, temperature=22.0)
        await reader.until(21.5, 22.0)
        assert bluez.power_cycles >= 1
        assert "repeats" not in reader.driver.faults, "the last values were taken for an advertisement"


async def test_a_restarted_bluetoothd_is_noticed(bus_address: str, profiles: ProfileSet) -> None:
    """The scan went with the old one; the new one runs, and nobody hears of either."""
    driver = open_ble(listening("hci0"), profiles, monotonic_us)
    async with EmulatedBlueZ(bus_address) as bluez:
        await driver.__aenter__()
        reader = Reader(driver)
        task = asyncio.create_task(reader.run())
        await heard(EmulatedBleSensor(bluez, "bthome"))
        await reader.until(21.5)
    async with EmulatedBlueZ(bus_address) as bluez:
        sensor = EmulatedBleSensor(bluez, "bthome")
        await heard(sensor, temperature=22.0)
        await heard(sensor, temperature=23.0)
        await reader.counted("radio_new_scanners")
        await reader.until_one(lambda: 23.0 in reader.temperatures)
        task.cancel()
        await asyncio.wait({task})
        await driver.__aexit__(None, None, None)
        assert bluez.scans == 0


async def test_a_restarted_bus_is_noticed(bus_kind: BusKind, bus_directory: Path, profiles: ProfileSet) -> None:
    driver = open_ble(listening("hci0"), profiles, monotonic_us)
    reader = Reader(driver)
    async with private_bus(bus_directory, bus_kind) as address, EmulatedBlueZ(address) as bluez:
        await driver.__aenter__()
        task = asyncio.create_task(reader.run())
        await heard(EmulatedBleSensor(bluez, "bthome"))
        await reader.until(21.5)
    async with private_bus(bus_directory, bus_kind) as address, EmulatedBlueZ(address) as bluez:
        sensor = EmulatedBleSensor(bluez, "bthome")
        if not task.done():
            await heard(sensor, temperature=22.0)
            await heard(sensor, temperature=23.0)
        task.cancel()
        await asyncio.wait({task})
        await driver.__aexit__(None, None, None)
    await bleak_has_noticed()


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_two_adapters_hear_one_sensor_and_it_is_read_once(bus_address: str, profiles: ProfileSet) -> None:
    async with EmulatedBlueZ(bus_address, "hci0", "hci1") as bluez:
        async with reading(listening("hci0", "hci1", silence_s=60), profiles) as reader:
            await asyncio.wait_for(bluez.scanned("hci1"), TIMEOUT_S)
            sensor = EmulatedBleSensor(bluez, "bthome", adapters=("hci0", "hci1"))
            expected = [20.0 + n / 10 for n in range(20)]
            for temperature in expected:
                await sensor.measure(**(VALUES | {"temperature": temperature}))
            await reader.until(*expected)
            await reader.counted("repeats", 20)
            assert reader.driver.faults == {"repeats": 20}
            assert reader.driver.name == "Bluetooth LE on hci0, hci1"
        assert bluez.scans == 0


@pytest.mark.parametrize("kind", ["bthome", "govee", "thermopro"])
@pytest.mark.parametrize("bus_kind", ["python"])
async def test_an_adapter_that_dies_leaves_the_other_reading(
    bus_address: str, profiles: ProfileSet, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmulatedBlueZ(bus_address, "hci0", "hci1") as bluez:
        with no_traceback(caplog):
            async with reading(listening("hci0", "hci1"), profiles) as reader:
                await asyncio.wait_for(bluez.scanned("hci1"), TIMEOUT_S)
                sensor = EmulatedBleSensor(bluez, kind, adapters=("hci0", "hci1"))
                await heard(sensor, temperature=20.0)
                bluez.deafen("restart", "hci0")
                number = 0
                while reader.driver.faults.get("radio_restart_requests", 0) < 1:
                    number += 1
                    assert await sensor.measure(**(VALUES | {"temperature": 20.0 + number / 10}))
                    await asyncio.sleep(0.01)
                    number %= 300
                assert 20.1 in [round(t, 2) for t in reader.temperatures]
        assert "hci0" in caplog.text
        assert "hci1: nothing at all" not in caplog.text


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_an_adapter_that_comes_later_is_taken(bus_address: str, profiles: ProfileSet) -> None:
    async with EmulatedBlueZ(bus_address, "hci0", "hci1") as bluez:
        await bluez.power(False, "hci1")
        async with reading(listening("hci0", "hci1"), profiles) as reader:
            assert reader.driver.faults["radios_not_opened"] == 1
            sensor = EmulatedBleSensor(bluez, "bthome", adapters=("hci0", "hci1"))
            await bluez.power(True, "hci1")
            async with asyncio.timeout(TIMEOUT_S):
                await bluez.scanned("hci1")
            await heard(sensor)
            await reader.until(21.5)


@pytest.mark.parametrize("bus_kind", ["python"])
async def test_a_connection_that_is_cut_for_one_adapter_is_made_again_for_both(
    bus_address: str, profiles: ProfileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_drivers.ble.radio.STOP_TIMEOUT_S", 0.2)
    monkeypatch.setattr("device_drivers.ble.radio.START_TIMEOUT_S", 0.2)
    async with (
        EmulatedBlueZ(bus_address, "hci0", "hci1") as bluez,
        reading(listening("hci0", "hci1"), profiles) as reader,
    ):
        await asyncio.wait_for(bluez.scanned("hci1"), TIMEOUT_S)
        sensor = EmulatedBleSensor(bluez, "bthome", adapters=("hci1",))
        talk = asyncio.create_task(talk_on(sensor))
        bluez.answers_scans = False
        # hci0 hears nothing, and is to be closed, which nobody answers.
        await reader.counted("radio_reconnects")
        bluez.answers_scans = True
        heard_before = len(reader.temperatures)
        await reader.until_one(lambda: len(reader.temperatures) > heard_before)
        talk.cancel()
        await asyncio.wait({talk})


async def talk_on(sensor: EmulatedBleSensor) -> None:
    for number in itertools.count():
        await sensor.measure(**(VALUES | {"temperature": 20 + number % 100 / 10}))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("mode", ["active", "passive"])
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("bus_kind", ["python"])
async def test_every_emulated_sensor_is_read(bluez: EmulatedBlueZ, profiles: ProfileSet, kind: str, mode: str) -> None:
    options = listening("hci0", silence_s=60, bindkey=KINDS[kind].bindkey).model_copy(update={"mode": mode})
    async with reading(options, profiles) as reader:
        sensor = EmulatedBleSensor(bluez, kind)
        await heard(sensor, temperature=20.0)
        await heard(sensor, temperature=20.5)
        await reader.until(20.0, 20.5)
        sensor.drift = 1.0
        await heard(sensor, temperature=20.5)
        await heard(sensor, temperature=20.5)
        await reader.until(20.0, 20.5, 21.5, 22.5)
        sensor.silent = True
        assert not await sensor.measure(**VALUES)
        assert set(reader.driver.faults) <= {"not_numbers"}


@pytest.mark.parametrize("kind", [kind for kind in sorted(KINDS) if KINDS[kind].numbered])
@pytest.mark.parametrize("bus_kind", ["python"])
async def test_a_stuck_sensor_goes_on_and_a_rebooted_one_begins_again(
    bluez: EmulatedBlueZ, profiles: ProfileSet, kind: str
) -> None:
    async with reading(listening("hci0", silence_s=60, bindkey=KINDS[kind].bindkey), profiles) as reader:
        sensor = EmulatedBleSensor(bluez, kind)
        await heard(sensor, temperature=20.0)
        sensor.stuck = True
        await heard(sensor, temperature=25.0)
        await heard(sensor, temperature=26.0)
        await reader.until(20.0, 20.0, 20.0)
        sensor.stuck = False
        sensor.reboot()
        await heard(sensor, temperature=27.0)
        if not kind.startswith("bthome"):  # bthome-ble takes a lower packet number for an old one, for 4 s
            await reader.until(20.0, 20.0, 20.0, 27.0)


@pytest.mark.parametrize("kind", [kind for kind in sorted(KINDS) if KINDS[kind].updated])
@pytest.mark.parametrize("bus_kind", ["python"])
async def test_a_new_firmware_is_kept_raw(bluez: EmulatedBlueZ, profiles: ProfileSet, kind: str) -> None:
    async with reading(listening("hci0", silence_s=60), profiles) as reader:
        sensor = EmulatedBleSensor(bluez, kind)
        await heard(sensor, temperature=20.0)
        await reader.until(20.0)
        sensor.update()
        await heard(sensor, temperature=21.0)
        await reader.until_one(lambda: reader.raw > 0)
        assert reader.temperatures == [20.0]
