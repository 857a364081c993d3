"""An emulated sensor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_drivers.simulator.plantower import EmulatedPms5003


@pytest.fixture
def sensor(tmp_path: Path, _no_terminal_leaks: None) -> Iterator[EmulatedPms5003]:
    with EmulatedPms5003(tmp_path, "0001") as emulated:
        yield emulated
