"""Sensors that send by themselves, on emulated lines: what each says is in the profile's units, and how often."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from device_drivers.driver import Driver
from device_drivers.reading import Reading
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line import ld2410, ld2450, sds011
from device_drivers.simulator.attached import Line
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

S = 1_000_000


def driver(kind: str, line: Line, clock: HandClock, **options: object) -> Driver:
    known = DRIVER_KINDS[kind]
    table = {"kind": kind, "device": "hall", "port": line.port, **options}
    return known.open(known.options.model_validate(table), ProfileSet.load(), clock)


async def following(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, float]:
    async with asyncio.timeout(5):
        return {reading.series.channel: reading.value for reading in await anext(readings)}


async def test_sds011(line: Line) -> None:
    async with driver("sds011", line, HandClock()) as opened:
        line.write(sds011.encode(1236, 2618, 0x60A1))
        assert await following(opened.readings()) == pytest.approx({"pm2_5": 123.6, "pm10": 261.8})


async def test_a_frame_goes_with_the_first_of_its_readings_where_it_is_to_be_kept(line: Line) -> None:
    frame = sds011.encode(1236, 2618, 0x60A1)
    for keep, kept in ((False, [None, None]), (True, [frame, None])):
        async with driver("sds011", line, HandClock(), keep_frames=keep) as opened:
            line.write(frame)
            async with asyncio.timeout(5):
                readings = await anext(opened.readings())
            assert [reading.frame for reading in readings] == kept
            assert all(reading.series.profile for reading in readings)


async def test_ld2410_reports_somebody_at_once_and_else_once_a_second(line: Line) -> None:
    clock = HandClock()
    async with driver("ld2410", line, clock) as opened:
        readings = opened.readings()

        async def said(at_us: int, state: int, distance: int) -> None:
            clock.asked.clear()
            clock.now_us = at_us
            line.write(ld2410.encode(state, distance, 10, distance, 10, distance))
            async with asyncio.timeout(5):
                await clock.asked.wait()

        coming = asyncio.create_task(following(readings))
        await said(0, 0, 0)
        assert await coming == {"presence": 0, "moving": 0, "moving_distance": 0, "still_distance": 0}
        coming = asyncio.create_task(following(readings))
        for n in range(1, 4):
            await said(n * S // 10, 0, 0)
        await said(S // 2, 1, 75)
        assert await coming == {"presence": 1, "moving": 1, "moving_distance": 75, "still_distance": 75}
        coming = asyncio.create_task(following(readings))
        for n in range(6, 15):
            await said(n * S // 10, 1, 80)
        await said(3 * S // 2, 1, 90)
        assert (await coming)["moving_distance"] == 90


async def test_ld2450_counts_whom_it_follows(line: Line) -> None:
    async with driver("ld2450", line, HandClock()) as opened:
        line.write(ld2450.encode([(-782, 1713, -16), (100, 200, 0)]))
        assert await following(opened.readings()) == {"presence": 1, "targets": 2}
