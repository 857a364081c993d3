"""An emulated sensor, and the proof after each test that no terminal was left open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_drivers.simulator.plantower import EmulatedPms5003
from tests.device_drivers.serial_line.terminals import open_terminals


@pytest.fixture(autouse=True)
def _no_terminal_leaks() -> Iterator[None]:
    before = open_terminals()
    yield
    assert open_terminals() == before


@pytest.fixture
def sensor(tmp_path: Path, _no_terminal_leaks: None) -> Iterator[EmulatedPms5003]:
    with EmulatedPms5003(tmp_path, "0001") as emulated:
        yield emulated
