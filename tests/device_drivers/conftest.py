"""Emulated lines of every kind that a gateway reads, and the proof after each test that no terminal was left open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_drivers.simulator.device_server import EmulatedDeviceServer
from device_drivers.simulator.terminal import EmulatedLine
from tests.device_drivers.serial_line.terminals import open_terminals


@pytest.fixture(autouse=True)
def _no_terminal_leaks() -> Iterator[None]:
    before = open_terminals()
    yield
    assert open_terminals() == before


@pytest.fixture(params=["pty", "socket"])
def line(
    request: pytest.FixtureRequest, tmp_path: Path, _no_terminal_leaks: None
) -> Iterator[EmulatedLine | EmulatedDeviceServer]:
    """The same tests over a pseudo-terminal and a device server's TCP port."""
    with EmulatedLine(tmp_path, "sensor", "0001") if request.param == "pty" else EmulatedDeviceServer() as emulated:
        yield emulated
