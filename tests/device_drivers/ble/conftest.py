"""A bus of either kind, an emulated BlueZ on it, and real bleak in between."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from device_drivers.ble.options import BleOptions
from device_drivers.simulator.bluez import EmulatedBlueZ
from device_drivers.simulator.private_bus import BusKind, private_bus
from firmware_profiles.selection import ProfileSet
from tests.peers.needs import needs

TIMEOUT_S = 10.0
"""For waits that end at once unless something is broken."""

ADDRESS = "A4:C1:38:8D:18:B2"


@pytest.fixture(scope="session")
def profiles() -> ProfileSet:
    return ProfileSet.load()


@pytest.fixture
def options() -> BleOptions:
    return BleOptions.model_validate({"device": [{"address": ADDRESS, "device": "hall-1"}]})


@pytest.fixture(params=["python", "dbus-daemon"])
def bus_kind(request: pytest.FixtureRequest) -> BusKind:
    if request.param == "dbus-daemon":
        needs("dbus-daemon")
    kind: BusKind = request.param
    return kind


@pytest.fixture
def bus_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short, since a socket's path is bounded; bleak looks for the system bus there."""
    with tempfile.TemporaryDirectory(prefix="bus-") as name:
        directory = Path(name)
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={directory / 'bus.sock'}")
        yield directory


@pytest.fixture
async def bus_address(bus_kind: BusKind, bus_directory: Path) -> AsyncIterator[str]:
    async with private_bus(bus_directory, bus_kind) as address:
        yield address
    await bleak_has_noticed()


@pytest.fixture
async def bluez(bus_address: str) -> AsyncIterator[EmulatedBlueZ]:
    async with EmulatedBlueZ(bus_address) as bluez:
        yield bluez


async def bleak_has_noticed() -> None:
    """Waits for the tasks that end when the bus is gone: bleak closes its socket with the last of them."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        _, pending = await asyncio.wait(others, timeout=TIMEOUT_S)
        assert not pending


def monotonic_us() -> int:
    return time.monotonic_ns() // 1000
