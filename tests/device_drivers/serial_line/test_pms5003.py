"""The PMS5003 driver with an emulated sensor: what its readings say, and when it gives a line up."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Causes, Reading
from device_drivers.serial_line.options import Pms5003Options
from device_drivers.serial_line.plantower import Frame, encode
from device_drivers.serial_line.stream import open_stream
from device_drivers.simulator.plantower import FIRMWARE, EmulatedPms5003
from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

S = 1_000_000
WARM_US = 31 * S


def _driver(link: Path, clock: HandClock, **options: object) -> Driver:
    table = {"kind": "pms5003", "device": "lobby-air", "port": str(link), **options}
    return open_stream(Pms5003Options.model_validate(table), ProfileSet.load(), clock)


async def _next(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, Reading]:
    async with asyncio.timeout(5):
        return {reading.series.channel: reading for reading in await anext(readings)}


async def test_a_frame_becomes_readings_of_one_time(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    async with _driver(sensor.link, clock) as driver:
        assert driver.name == f"pms5003 on {sensor.link}"
        clock.now_us = WARM_US
        sensor.send(Frame(pm2_5=13, pm10=22, particles_0_3=765, version=FIRMWARE))
        found = await _next(driver.readings())
    assert len(found) == 12
    assert {reading.taken_at_us for reading in found.values()} == {WARM_US}
    pm = found["pm2_5"]
    assert (pm.value, pm.reliability, pm.causes, pm.frame) == (13.0, 100, 0, None)
    assert (pm.series.device, pm.series.quantity, pm.series.unit) == ("lobby-air", "pm2_5", "µg/m³")
    assert (pm.series.profile, pm.series.firmware) == ("plantower-pms5003/1", "151")
    assert (found["pm10"].value, found["particles_0_3"].value) == (22.0, 765.0)
    assert driver.faults == {"skipped_bytes": 0, "bad_checksums": 0, "sensor_errors": 0}


async def test_series_are_the_same_objects_from_frame_to_frame(sensor: EmulatedPms5003) -> None:
    async with _driver(sensor.link, HandClock()) as driver:
        sensor.send(encode(Frame(version=FIRMWARE)) * 2)
        readings = driver.readings()
        first, second = await _next(readings), await _next(readings)
    assert all(first[channel].series is second[channel].series for channel in first)


async def test_a_split_frame_is_dated_when_it_is_complete(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    frame = encode(Frame(pm1=7, version=FIRMWARE))
    async with _driver(sensor.link, clock, silence_s=60) as driver:
        coming = asyncio.create_task(_next(driver.readings()))
        clock.now_us = 40 * S
        clock.asked.clear()
        sensor.send(frame[:11])
        async with asyncio.timeout(5):
            await clock.asked.wait()
        clock.now_us = 41 * S
        sensor.send(frame[11:])
        assert (await coming)["pm1"].taken_at_us == 41 * S


async def test_damaged_frames_are_counted_and_skipped(sensor: EmulatedPms5003) -> None:
    frame = encode(Frame(pm1=7, version=FIRMWARE))
    async with _driver(sensor.link, HandClock()) as driver:
        sensor.send(b"\x00\x01\x02" + frame[:-1] + b"\xee" + encode(Frame(pm1=8, version=FIRMWARE, error=1)))
        marked = (await _next(driver.readings()))["pm1"]
        assert marked.value == 8.0
        assert marked.causes & Causes.SENSOR_ERROR
        assert marked.reliability <= 10
        assert driver.faults == {"skipped_bytes": 35, "bad_checksums": 1, "sensor_errors": 1}


async def test_beyond_the_range_is_less_reliable(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    async with _driver(sensor.link, clock) as driver:
        clock.now_us = WARM_US
        sensor.send(Frame(pm2_5=500, pm10=501, version=FIRMWARE))
        found = await _next(driver.readings())
    assert (found["pm2_5"].reliability, found["pm2_5"].causes) == (100, 0)
    assert (found["pm10"].value, found["pm10"].reliability) == (501.0, 20)
    assert found["pm10"].causes == Causes.OUT_OF_RANGE


async def test_warm_up_counts_from_opening(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    clock.now_us = 1000 * S
    async with _driver(sensor.link, clock) as driver:
        readings = driver.readings()
        clock.now_us = 1030 * S - 1
        sensor.send(Frame(pm10=501, version=FIRMWARE))
        warming = await _next(readings)
        clock.now_us = 1030 * S
        sensor.send(Frame(version=FIRMWARE))
        warm = await _next(readings)
    assert (warming["pm1"].reliability, warming["pm1"].causes) == (50, Causes.WARMING_UP)
    assert warming["pm10"].causes == Causes.WARMING_UP | Causes.OUT_OF_RANGE
    assert warming["pm10"].reliability == 20
    assert (warm["pm1"].reliability, warm["pm1"].causes) == (100, 0)


@pytest.mark.parametrize(("configured", "version", "firmware"), [("", 250, "250"), ("9.1", FIRMWARE, "9.1")])
async def test_an_unknown_firmware_is_kept_raw(
    sensor: EmulatedPms5003, configured: str, version: int, firmware: str
) -> None:
    clock = HandClock()
    frame = Frame(pm1=7, version=version)
    async with _driver(sensor.link, clock, firmware=configured) as driver:
        clock.now_us = 5
        sensor.send(frame)
        found = await _next(driver.readings())
    raw = found.pop("raw")
    assert not found
    assert math.isnan(raw.value)
    assert (raw.frame, raw.taken_at_us, raw.reliability) == (encode(frame), 5, 0)
    assert (raw.series.quantity, raw.series.unit) == ("raw", "")
    assert (raw.series.profile, raw.series.firmware) == ("", firmware)


async def test_the_configured_firmware_goes_before_the_version_byte(sensor: EmulatedPms5003) -> None:
    async with _driver(sensor.link, HandClock(), firmware="128") as driver:
        sensor.send(Frame(version=0))
        found = await _next(driver.readings())
    assert (found["pm1"].series.profile, found["pm1"].series.firmware) == ("plantower-pms5003/1", "128")


async def test_a_firmware_that_changes_while_it_runs_is_noticed(sensor: EmulatedPms5003) -> None:
    async with _driver(sensor.link, HandClock()) as driver:
        readings = driver.readings()
        sensor.send(encode(Frame(version=FIRMWARE)) + encode(Frame(version=250)))
        assert "pm1" in await _next(readings)
        assert list(await _next(readings)) == ["raw"]


async def test_a_silent_sensor_is_link_lost(sensor: EmulatedPms5003) -> None:
    async with _driver(sensor.link, HandClock(), silence_s=0.02) as driver:
        with pytest.raises(LinkLost, match=r"silent for 0\.02 s"):
            await _next(driver.readings())


async def test_a_garbled_line_is_link_lost(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    async with _driver(sensor.link, clock, silence_s=10.0) as driver:
        readings = driver.readings()
        clock.now_us = 29 * S
        sensor.send(encode(Frame(version=FIRMWARE)))
        await _next(readings)
        clock.now_us = 59 * S
        sensor.send(b"noise" + encode(Frame(version=FIRMWARE)))
        await _next(readings)
        clock.now_us = 90 * S
        sensor.send(b"noise")
        with pytest.raises(LinkLost, match="no valid frame for 30 s"):
            await _next(readings)
        assert driver.faults["skipped_bytes"] == 10


async def test_hang_up_and_a_new_driver_through_the_link(sensor: EmulatedPms5003) -> None:
    for _ in range(2):
        async with _driver(sensor.link, HandClock()) as driver:
            readings = driver.readings()
            sensor.send(Frame(pm1=7, version=FIRMWARE))
            assert (await _next(readings))["pm1"].value == 7.0
            sensor.hang_up()
            with pytest.raises(LinkLost):
                await asyncio.wait_for(anext(readings), 1.0)
        with pytest.raises(LinkLost, match="not there"):
            await _driver(sensor.link, HandClock()).__aenter__()
        sensor.replug()


def test_a_profile_may_not_want_what_the_frame_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(
        """
        name = "odd/1"
        models = ["PMS5003"]
        manufacturer = "Plantower"
        driver = "pms5003"
        sources.test = { title = "made up", document = "this test" }
        [channels.formaldehyde]
        quantity = "formaldehyde"
        unit = "mg/m3"
        minimum = 0
        maximum = 2
        """
    )
    options = Pms5003Options.model_validate({"kind": "pms5003", "device": "d", "port": "/dev/air"})
    with pytest.raises(ProfileError, match=r"odd/1: channels.formaldehyde: the frame has pm1_standard"):
        open_stream(options, ProfileSet.load(tmp_path), HandClock())


def test_the_emulated_sensor_waits_for_nobody(sensor: EmulatedPms5003) -> None:
    while sensor.send(bytes(1024)):
        pass
    sensor.hang_up()
    assert sensor.send(b"nobody") == 0
