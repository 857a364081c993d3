"""A line with several units: each in its turn, and a silent or refusing one costs the others little."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.modbus import rtu
from device_drivers.modbus.driver import _Unit
from device_drivers.modbus.options import ModbusDeviceOptions
from device_drivers.reading import Reading
from device_drivers.registry import DRIVER_KINDS
from device_drivers.simulator.answering import EmulatedModbus
from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

CLIMATE = {(1, 4, 1): 305, (1, 4, 2): 546}
COLD = {(2, 4, 1): 0xFFF6, (2, 4, 2): 400}
CARBON = dict(
    zip(
        [(0x61, 3, 0x28 + n) for n in range(6)],
        struct.unpack(">6H", bytes.fromhex("43db8c2e41d9e7ff42433a1b")),
        strict=True,
    )
)


def driver(line: EmulatedModbus, *units: tuple[int, str], timeout_s: float = 5, interval_s: float = 0.1) -> Driver:
    known = DRIVER_KINDS["modbus"]
    devices = [
        {"unit": unit, "device": f"unit-{unit}", "model": model, "interval_s": interval_s} for unit, model in units
    ]
    table = {"kind": "modbus", "port": str(line.link), "timeout_s": timeout_s, "device": devices}
    return known.open(known.options.model_validate(table), ProfileSet.load(), HandClock())


async def following(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, float]:
    async with asyncio.timeout(20):
        return {f"{r.series.device} {r.series.channel}": r.value for r in await anext(readings)}


async def test_units_are_read_in_their_turn(tmp_path: Path) -> None:
    with EmulatedModbus(tmp_path, "1", CLIMATE | COLD | CARBON) as line:
        line.serve()
        async with driver(line, (1, "XY-MD02"), (2, "XY-MD02"), (0x61, "SCD30")) as opened:
            readings = opened.readings()
            found = [await following(readings) for _ in range(6)]
    once = [
        {"unit-1 temperature": 30.5, "unit-1 humidity": pytest.approx(54.6)},
        {"unit-2 temperature": -1.0, "unit-2 humidity": 40.0},
        pytest.approx(
            {"unit-97 carbon_dioxide": 439.10, "unit-97 temperature": 27.24, "unit-97 humidity": 48.81}, abs=0.01
        ),
    ]
    assert found == once * 2
    # Before its first reading, and only then.
    assert line.written == [(0x61, 0x36, 0)]


async def test_a_silent_unit_does_not_stall_the_line(tmp_path: Path) -> None:
    with EmulatedModbus(tmp_path, "1", CLIMATE | COLD) as line:
        line.serve()
        line.silent.add(1)
        async with driver(line, (1, "XY-MD02"), (2, "XY-MD02"), timeout_s=0.05) as opened:
            readings = opened.readings()
            for _ in range(12):
                assert await following(readings) == {"unit-2 temperature": -1.0, "unit-2 humidity": 40.0}
            asked = [request[0] for request in line.asked]
            assert 3 <= asked.count(1) <= 6, "less and less often"
            assert opened.faults["unanswered"] == asked.count(1)
            line.silent.clear()
            while "unit-1 temperature" not in await following(readings):
                pass


async def test_a_line_without_an_answer_is_lost(tmp_path: Path) -> None:
    with EmulatedModbus(tmp_path, "1", CLIMATE | COLD) as line:
        line.serve()
        line.silent |= {1, 2}
        async with driver(line, (1, "XY-MD02"), (2, "XY-MD02"), timeout_s=0.05) as opened:
            with pytest.raises(LinkLost, match="no unit answers; are A and B swapped"):
                await following(opened.readings())


async def test_a_unit_that_refuses_is_told_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmulatedModbus(tmp_path, "1", {(1, 4, 7): 0, **COLD}) as line:
        line.serve()
        async with driver(line, (1, "XY-MD02"), (2, "XY-MD02")) as opened:
            readings = opened.readings()
            for _ in range(3):
                assert "unit-2 humidity" in await following(readings)
            assert opened.faults["exceptions"] >= 2
    assert caplog.text.count("unit-1: it has no such register") == 1


async def test_a_unit_that_answers_for_another_is_not_believed(tmp_path: Path) -> None:
    """Two boxes with one address, or a reply that comes late: what it says is of nobody."""
    with EmulatedModbus(tmp_path, "1", CLIMATE) as line:
        right = line.answer
        line.answer = lambda heard: rtu.read_reply(2, 4, bytes(4)) + right(heard)
        line.serve()
        async with driver(line, (1, "XY-MD02")) as opened:
            assert await following(opened.readings()) == {
                "unit-1 temperature": 30.5,
                "unit-1 humidity": pytest.approx(54.6),
            }
            assert opened.faults["stray_bytes"] == 9


def test_a_model_without_registers_is_refused_by_name(tmp_path: Path) -> None:
    why = "PMS5003: no profile with registers knows it; there are those of SCD30"
    with EmulatedModbus(tmp_path, "1", CLIMATE) as line, pytest.raises(ProfileError, match=why):
        driver(line, (1, "PMS5003"))


def test_a_silent_unit_is_asked_less_and_less_often() -> None:
    profile = ProfileSet.load().select("XY-MD02", "")
    assert profile is not None
    unit = _Unit(ModbusDeviceOptions(unit=1, device="d", model="XY-MD02", interval_s=2), profile)
    waits = []
    for unanswered in (0, 1, 2, 3, 4, 5, 6, 7, 8, 100):
        unit.unanswered = unanswered
        waits.append(unit.next_s(0.0))
    assert waits == [2, 2, 2, 4, 8, 16, 32, 60, 60, 60]
