"""The driver against pymodbus's own server, over a pseudo-terminal and over TCP: two programs that share no code."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.simulator import DataType, SimData, SimDevice

from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.modbus.driver import open_modbus
from device_drivers.modbus.options import ModbusOptions
from device_drivers.reading import Reading
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.modbus.pymodbus_server import Traffic, serving
from tests.device_drivers.serial_line.terminals import HandClock

Serving = Callable[..., AbstractAsyncContextManager[str]]
Words = list[SimData]

NO_BITS = [SimData(60_000, values=[False] * 16, datatype=DataType.BITS)]
NO_WORDS: Words = [SimData(60_000, values=0, datatype=DataType.REGISTERS)]


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture(params=["pty", "socket"])
def server(request: pytest.FixtureRequest, tmp_path: Path, traffic: Traffic) -> Serving:
    return lambda *units: serving(request.param, tmp_path, traffic, list(units))


def unit(
    number: int, *, holding: Words = NO_WORDS, inputs: Words = NO_WORDS, action: Any = None, bits: Any = None
) -> SimDevice:
    coils, discrete = bits or (NO_BITS, NO_BITS)
    return SimDevice(number, (list(coils), list(discrete), list(holding), list(inputs)), action=action)


def registers(address: int, *words: int) -> Words:
    return [SimData(address, values=list(words), datatype=DataType.REGISTERS)]


def climate(number: int, temperature: int, humidity: int, action: Any = None) -> SimDevice:
    """An XY-MD02."""
    return unit(number, inputs=registers(1, temperature & 0xFFFF, humidity), action=action)


def carbon(action: Any = None) -> SimDevice:
    """An SCD30 that says what FACTS.md has of it, and its firmware 3.66."""
    words = struct.unpack(">6H", bytes.fromhex("43db8c2e41d9e7ff42433a1b"))
    holding = registers(0x20, 0x0342) + registers(0x28, *words) + registers(0x36, 1)
    return unit(0x61, holding=holding, action=action)


def driver(
    port: str,
    *units: tuple[int, str],
    profiles: ProfileSet | None = None,
    timeout_s: float = 5,
    interval_s: float = 0.1,
) -> Driver:
    devices = [
        {"unit": number, "device": f"unit-{number}", "model": model, "interval_s": interval_s}
        for number, model in units
    ]
    options = ModbusOptions.model_validate({"kind": "modbus", "port": port, "timeout_s": timeout_s, "device": devices})
    return open_modbus(options, profiles or ProfileSet.load(), HandClock())


async def following(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, float]:
    async with asyncio.timeout(20):
        return {f"{r.series.device} {r.series.channel}": r.value for r in await anext(readings)}


def profile(channels: dict[str, dict[str, Any]], **modbus: Any) -> ProfileSet:
    table = {
        "name": "x/1",
        "models": ["X"],
        "manufacturer": "x",
        "driver": "modbus",
        "modbus": modbus,
        "sources": {"test": {"title": "made up", "document": "this test"}},
        "channels": {
            name: {"quantity": name, "unit": "1", "minimum": -1e30, "maximum": 1e30, "register": register}
            for name, register in channels.items()
        },
    }
    return ProfileSet([("x.toml", FirmwareProfile.model_validate(table))])


async def test_units_are_read_in_their_turn_in_one_request_each(server: Serving, traffic: Traffic) -> None:
    async with (
        server(climate(1, 305, 546), climate(2, -10, 400), carbon()) as port,
        driver(port, (1, "XY-MD02"), (2, "XY-MD02"), (0x61, "SCD30")) as opened,
    ):
        readings = opened.readings()
        found = [await following(readings) for _ in range(6)]
        assert opened.faults == {"unanswered": 0, "exceptions": 0, "stray_bytes": 0, "bad_checksums": 0}
    once = [
        {"unit-1 temperature": 30.5, "unit-1 humidity": pytest.approx(54.6)},
        {"unit-2 temperature": -1.0, "unit-2 humidity": 40.0},
        pytest.approx(
            {"unit-97 carbon_dioxide": 439.10, "unit-97 temperature": 27.24, "unit-97 humidity": 48.81}, abs=0.01
        ),
    ]
    assert found == once * 2
    assert set(traffic.asked(1)) == {(4, 1, 2)}
    # Its firmware and the order to measure before its first reading, and only then.
    firmware, begin, *rest = traffic.asked(0x61)
    assert (firmware, begin[:2]) == ((3, 0x20, 1), (6, 0x36))
    assert set(rest) == {(3, 0x28, 6)}


NUMBERS: dict[str, tuple[bytes, float]] = {
    "uint16": (struct.pack(">H", 65_000), 65_000),
    "int16": (struct.pack(">h", -2), -2),
    "uint32": (struct.pack(">I", 4_000_000_000), 4e9),
    "int32": (struct.pack(">i", -70_000), -70_000),
    "float32": (struct.pack(">f", 21.5), 21.5),
    "uint64": (struct.pack(">Q", 2**52), 2.0**52),
    "int64": (struct.pack(">q", -(2**40)), -(2.0**40)),
    "float64": (struct.pack(">d", math.pi), math.pi),
}


@pytest.mark.parametrize("table", ["holding", "input"])
async def test_every_type_in_both_word_orders_in_the_fewest_requests(
    server: Serving, traffic: Traffic, table: str
) -> None:
    channels: dict[str, dict[str, Any]] = {}
    words: list[int] = []
    expected = {}
    for words_order in ("high_first", "low_first"):
        for name, (packed, value) in NUMBERS.items():
            channel = f"{name}_{words_order}"
            channels[channel] = {"table": table, "address": 100 + len(words), "type": name, "words": words_order}
            expected[f"unit-1 {channel}"] = value
            number = list(struct.unpack(f">{len(packed) // 2}H", packed))
            words += number if words_order == "high_first" else number[::-1]
    channels["bit_0"] = {"table": table, "address": 100 + len(words), "type": "bit", "bit": 0}
    channels["bit_15"] = {"table": table, "address": 100 + len(words), "type": "bit", "bit": 15}
    expected |= {"unit-1 bit_0": 0, "unit-1 bit_15": 1}
    words.append(0x8000)
    block = registers(100, *words)
    device = unit(1, holding=block) if table == "holding" else unit(1, inputs=block)
    async with server(device) as port, driver(port, (1, "X"), profiles=profile(channels)) as opened:
        assert await following(opened.readings()) == expected
    assert traffic.asked(1) == [(3 if table == "holding" else 4, 100, len(words))]


async def test_bits_of_coils_and_discrete_inputs(server: Serving, traffic: Traffic) -> None:
    pattern = [n % 3 == 0 for n in range(32)]
    bits = [SimData(0, values=pattern, datatype=DataType.BITS)]
    channels = {
        f"{table}_{n}": {"table": table, "address": n, "type": "bit"}
        for table in ("coil", "discrete")
        for n in range(3, 20)
    }
    async with (
        server(unit(1, bits=(bits, bits))) as port,
        driver(port, (1, "X"), profiles=profile(channels)) as opened,
    ):
        readings = opened.readings()
        found = await following(readings) | await following(readings)
    assert found == {f"unit-1 {name}": float(pattern[int(name.split("_")[1])]) for name in channels}
    assert traffic.asked(1) == [(1, 3, 17), (2, 3, 17)]


@pytest.mark.parametrize(
    ("allowed", "requests"),
    [
        ({}, [(3, 0, 4), (3, 10, 4), (3, 20, 2), (3, 40, 2)]),
        ({"most_gap": 6}, [(3, 0, 22), (3, 40, 2)]),
        ({"most_gap": 6, "most_registers": 12}, [(3, 0, 12), (3, 12, 10), (3, 40, 2)]),
    ],
)
async def test_twelve_numbers_in_as_few_requests_as_gaps_and_the_unit_allow(
    server: Serving, traffic: Traffic, allowed: dict[str, int], requests: list[tuple[int, int, int]]
) -> None:
    addresses = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 40, 41]
    profiles = profile({f"c{address}": {"address": address} for address in addresses}, **allowed)
    async with (
        server(unit(1, holding=registers(0, *range(50)))) as port,
        driver(port, (1, "X"), profiles=profiles, interval_s=60) as opened,
    ):
        readings = opened.readings()
        found: dict[str, float] = {}
        while len(found) < len(addresses):
            found |= await following(readings)
    assert found == {f"unit-1 c{address}": address for address in addresses}
    assert traffic.asked(1) == requests


async def test_a_silent_unit_does_not_stall_the_line(server: Serving, traffic: Traffic) -> None:
    traffic.silent.add(1)
    async with (
        server(climate(1, 305, 546), climate(2, -10, 400)) as port,
        driver(port, (1, "XY-MD02"), (2, "XY-MD02"), timeout_s=0.2) as opened,
    ):
        readings = opened.readings()
        for _ in range(24):
            assert await following(readings) == {"unit-2 temperature": -1.0, "unit-2 humidity": 40.0}
        asked = len(traffic.asked(1))
        assert 3 <= asked <= 12, "less and less often"
        assert opened.faults["unanswered"] == asked
        traffic.silent.clear()
        while "unit-1 temperature" not in await following(readings):
            pass


async def test_a_line_without_an_answer_is_lost(server: Serving, traffic: Traffic) -> None:
    traffic.silent |= {1, 2}
    async with (
        server(climate(1, 305, 546), climate(2, -10, 400)) as port,
        driver(port, (1, "XY-MD02"), (2, "XY-MD02"), timeout_s=0.05) as opened,
    ):
        with pytest.raises(LinkLost, match="no unit answers; are A and B swapped"):
            await following(opened.readings())


async def test_a_unit_that_refuses_is_told_once_and_the_others_go_on(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        server(unit(1, inputs=registers(7, 0)), climate(2, -10, 400)) as port,
        driver(port, (1, "XY-MD02"), (2, "XY-MD02")) as opened,
    ):
        readings = opened.readings()
        for _ in range(3):
            assert "unit-2 humidity" in await following(readings)
        assert opened.faults["exceptions"] >= 2
        assert opened.faults["unanswered"] == 0
    assert caplog.text.count("unit-1: it has no such register") == 1


@pytest.mark.parametrize("code", [ExcCodes.ILLEGAL_FUNCTION, ExcCodes.DEVICE_FAILURE, ExcCodes.DEVICE_BUSY])
async def test_an_exception_is_no_reading_and_goes_by(server: Serving, code: ExcCodes) -> None:
    refusing = [code, code]

    async def action(*_: object) -> ExcCodes | None:
        return refusing.pop() if refusing else None

    async with server(climate(1, 305, 546, action)) as port, driver(port, (1, "XY-MD02")) as opened:
        assert "unit-1 temperature" in await following(opened.readings())
        assert opened.faults == {"unanswered": 0, "exceptions": 2, "stray_bytes": 0, "bad_checksums": 0}


async def test_a_late_reply_is_not_taken_for_the_next(server: Serving) -> None:
    """Two groups of one shape: the late reply to the first would fill the second with its numbers."""
    channels = {"first": {"address": 0}, "second": {"address": 10}}
    late = asyncio.Event()
    calls = 0

    async def action(_f: int, _s: int, address: int, *_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # of the second group: beyond its time, within the settling
            await asyncio.sleep(1.2)
            late.set()

    device = unit(1, holding=registers(0, 1) + registers(10, 2), action=action)
    async with (
        server(device) as port,
        driver(port, (1, "X"), profiles=profile(channels), timeout_s=0.8) as opened,
    ):
        readings = opened.readings()
        found = [await following(readings) for _ in range(5)]
        assert late.is_set()
        assert opened.faults["unanswered"] == 1
        assert opened.faults["stray_bytes"] == 7
    assert found == [{"unit-1 first": 1}, *([{"unit-1 first": 1}, {"unit-1 second": 2}] * 2)]


async def test_a_unit_that_answers_for_another_is_not_believed(server: Serving, traffic: Traffic) -> None:
    def as_the_other(reply: ModbusPDU) -> ModbusPDU:
        reply.dev_id = 2 if reply.dev_id == 1 else reply.dev_id
        return reply

    traffic.change = as_the_other
    async with (
        server(climate(1, 305, 546), climate(3, -10, 400)) as port,
        driver(port, (1, "XY-MD02"), (3, "XY-MD02"), timeout_s=0.8) as opened,
    ):
        readings = opened.readings()
        for _ in range(4):
            assert "unit-3 humidity" in await following(readings)
        assert opened.faults["unanswered"] >= 1
        assert opened.faults["stray_bytes"] >= 9 * (opened.faults["unanswered"] - 1)


async def test_what_a_unit_must_be_told_is_told_again_after_a_power_cut(server: Serving, traffic: Traffic) -> None:
    async with (
        server(carbon(), climate(1, 305, 546)) as port,
        driver(port, (0x61, "SCD30"), (1, "XY-MD02"), timeout_s=0.8) as opened,
    ):
        readings = opened.readings()
        while "unit-97 humidity" not in await following(readings):
            pass
        begun = [function for function, _, _ in traffic.asked(0x61)].count(6)
        traffic.silent.add(0x61)
        before = opened.faults["unanswered"]
        while opened.faults["unanswered"] == before:
            await following(readings)
        traffic.silent.clear()
        traffic.requests.clear()
        while "unit-97 humidity" not in await following(readings):
            pass
        told = traffic.asked(0x61)
    assert begun == 1
    assert (3, 0x20, 1) in told
    assert [function for function, _, _ in told].count(6) == 1
    assert told.index((3, 0x28, 6)) > [function for function, _, _ in told].index(6)


def versioned(name: str, scale: float, low: str, high: str) -> tuple[str, FirmwareProfile]:
    table = {
        "name": name,
        "models": ["X"],
        "manufacturer": "x",
        "driver": "modbus",
        "firmware": f">={low},<{high}",
        "sources": {"test": {"title": "made up", "document": "this test"}},
        "modbus": {"version": {"address": 9}},
        "channels": {
            "co2": {
                "quantity": "co2",
                "unit": "[ppm]",
                "scale": scale,
                "minimum": 0,
                "maximum": 1e6,
                "register": {"address": 0},
            }
        },
    }
    return f"{name}.toml", FirmwareProfile.model_validate(table)


@pytest.mark.parametrize(("version", "value"), [(10, 500), (20, 5000), (30, None)])
async def test_a_profile_is_chosen_by_the_version_that_a_unit_states(
    server: Serving, version: int, value: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = ProfileSet([versioned("x-old/1", 1, "10", "20"), versioned("x-new/1", 10, "20", "30")])
    device = unit(1, holding=registers(0, 500) + registers(9, version))
    async with server(device) as port, driver(port, (1, "X"), profiles=profiles) as opened:
        async with asyncio.timeout(20):
            (reading,) = await anext(opened.readings())
    assert reading.series.firmware == str(version)
    if value is None:
        assert reading.frame == bytes.fromhex("010302001e384c")
        assert (reading.series.profile, reading.series.channel) == ("", "raw")
        assert "no profile for firmware 30: unit-1 is not read" in caplog.text
    else:
        assert reading.value == value
