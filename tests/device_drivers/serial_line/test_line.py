"""Microcontrollers that print lines, read by profiles alone, over a pseudo-terminal and over TCP."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Reading
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line import line as line_driver
from device_drivers.simulator.attached import Line
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock


def driver(line: Line, profiles: ProfileSet | None = None, **options: object) -> Driver:
    known = DRIVER_KINDS["line"]
    table = {"kind": "line", "device": "hall", "port": line.port, "model": "climate-node", **options}
    return known.open(known.options.model_validate(table), profiles or ProfileSet.load(), HandClock())


async def following(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, Reading]:
    async with asyncio.timeout(5):
        return {reading.series.channel: reading for reading in await anext(readings)}


def profile(name: str, line: dict[str, Any], firmware: str = "", scale: float = 1) -> FirmwareProfile:
    channel = {
        "quantity": "temperature",
        "unit": "Cel",
        "minimum": -40,
        "maximum": 125,
        "scale": scale,
        "field": "temp",
    }
    table = {
        "name": name,
        "models": ["node"],
        "manufacturer": "x",
        "driver": "line",
        "sources": {"test": {"title": "made up", "document": "this test"}},
        "line": line,
        "channels": {"temperature": channel},
    }
    return FirmwareProfile.model_validate(table | ({"firmware": firmware} if firmware else {}))


def only(*profiles: FirmwareProfile) -> ProfileSet:
    return ProfileSet((f"{n}.toml", profile) for n, profile in enumerate(profiles))


async def test_a_node_by_its_profile_alone(line: Line) -> None:
    async with driver(line) as opened:
        line.write(b'in the middle of a li\r\n# node 1.2 starts\r\n{"fw":"1.2","temp":21.5,"hum":45.2,"light":310}\r\n')
        found = await following(opened.readings())
        assert opened.faults == {"skipped_bytes": 0, "too_long": 0, "malformed": 2}
    assert {channel: (r.value, r.series.unit) for channel, r in found.items()} == {
        "temperature": (21.5, "°C"),
        "humidity": (45.2, "%"),
        "illuminance": (310, "lx"),
    }
    assert {(r.series.firmware, r.series.profile) for r in found.values()} == {("1.2", "generic-climate-node/1")}


async def test_a_firmware_that_no_profile_knows_is_kept_raw(line: Line) -> None:
    said = b'{"fw":"2.0","temp":215}'
    async with driver(line) as opened:
        line.write(said + b"\n")
        found = await following(opened.readings())
    assert found["raw"].frame == said
    assert (found["raw"].series.firmware, found["raw"].series.profile) == ("2.0", "")


async def test_lines_of_a_model_that_no_profile_knows_are_kept_raw(line: Line) -> None:
    async with driver(line, model="somebody's own") as opened:
        line.write(b"the rest of one\n21.5 45\n")
        found = await following(opened.readings())
    assert found["raw"].frame == b"21.5 45"


async def test_the_profile_is_chosen_by_the_firmware_that_a_line_states(line: Line) -> None:
    """Its program was changed: tenths of a degree, and then another format altogether."""
    profiles = only(
        profile("a/1", {"format": "key_value", "firmware_field": "fw"}, "<2", scale=0.1),
        profile("b/1", {"format": "key_value", "firmware_field": "fw"}, ">=2,<3"),
        profile("c/1", {"format": "json", "firmware_field": "fw"}, ">=3"),
    )
    async with driver(line, profiles, model="node") as opened:
        readings = opened.readings()
        line.write(b'\nfw=1,temp=215\nfw=2,temp=21.5\n{"fw":3,"temp":21.5}\n')
        found = [(await following(readings))["temperature"] for _ in range(3)]
        assert opened.faults == {"skipped_bytes": 0, "too_long": 0}
    assert [(r.value, r.series.profile, r.series.firmware) for r in found] == [
        (21.5, "a/1", "1"),
        (21.5, "b/1", "2"),
        (21.5, "c/1", "3"),
    ]


async def test_a_torn_first_line_is_no_reading(line: Line) -> None:
    """Of `21.5,…` the gateway heard `1.5,…`: a sound line, and a wrong one."""
    profiles = only(profile("a/1", {"format": "csv", "columns": ["temp", "hum"]}))
    async with driver(line, profiles, model="node") as opened:
        line.write(b"1.5,45\n21.6,46\n")
        assert (await following(opened.readings()))["temperature"].value == 21.6
        assert opened.faults["skipped_bytes"] == 6


async def test_a_flood_of_nonsense_is_counted_and_the_next_line_is_read(line: Line) -> None:
    async with driver(line) as opened:
        coming = asyncio.create_task(following(opened.readings()))
        bad = [b"[" * 900, b'{"fw":"1","temp":NaN}', b"\xff\xfe", b'{"fw":"1","temp":1,"temp":2}', b"x" * 3000]
        for piece in bad:
            assert line.write(piece + b"\n") == len(piece) + 1
            await asyncio.sleep(0)
        line.write(b'{"fw":"1","temp":21.5}\n')
        assert (await coming)["temperature"].value == 21.5
        assert opened.faults == {
            "skipped_bytes": 3000,
            "too_long": 1,
            "malformed": 1,
            "bad_text": 1,
            "duplicate_keys": 1,
            "not_numbers": 1,
            "missing_fields": 4,  # of the line with NaN, and of the last one
        }


async def test_a_new_firmware_with_each_line_does_not_fill_the_memory(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_driver, "_MOST_FIRMWARES", 2)
    async with driver(line) as opened:
        readings = opened.readings()
        line.write(b"".join(b'{"fw":"1.%d","temp":21}\n' % n for n in range(5)) + b'{"fw":"1.1","temp":22}\n')
        found = [(await following(readings))["temperature"] for _ in range(3)]
        assert [(r.series.firmware, r.value) for r in found] == [("1.0", 21), ("1.1", 21), ("1.1", 22)]
        assert opened.faults["many_firmwares"] == 3


async def test_a_silent_node_loses_its_line(line: Line) -> None:
    async with driver(line, silence_s=0.05) as opened:
        with pytest.raises(LinkLost, match=r"climate-node on .*: silent for 0\.05 s; is the sensor powered"):
            await following(opened.readings())


def test_a_model_of_another_kind_is_refused(line: Line) -> None:
    with pytest.raises(ProfileError, match="SDS011: line: nova-sds011/1 is of no device that sends lines"):
        driver(line, model="SDS011")
