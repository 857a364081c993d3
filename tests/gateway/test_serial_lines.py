"""Real drivers on emulated lines in a whole gateway: what a shared line carries, and adapters that move."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from serial.tools.list_ports_common import ListPortInfo
from typer.testing import CliRunner

from device_drivers import transport
from device_drivers.registry import DRIVER_KINDS
from device_drivers.simulator.attached import Attached
from device_drivers.simulator.serial_sensors import configuration, emulated
from device_drivers.simulator.terminal import EmulatedLine
from firmware_profiles.selection import ProfileSet
from gateway.collector import DriverHealth
from gateway.commands import app
from gateway.config import Kinds
from gateway.health import LineLoads
from tests.gateway.running import running, write_config
from tests.gateway.scripted_driver import Script
from tests.peers.mosquitto import free_port


class RealDrivers(Script):
    """The registry of the gateway itself."""

    def kinds(self) -> Kinds:
        return DRIVER_KINDS


def toml(table: dict[str, Any], header: str = "[[driver]]") -> str:
    units = table["device"] if isinstance(table["device"], list) else []
    plain = [f"{key} = {json.dumps(value)}\n" for key, value in table.items() if value is not units]
    return "".join([header, "\n", *plain, *(toml(unit, "[[driver.device]]") for unit in units)])


def quick(name: str, port: str) -> dict[str, Any]:
    """Its configuration, with questions as often as may be."""
    table = configuration(name, "hall", port)
    if table["kind"] == "modbus":
        table["device"][0]["interval_s"] = 0.2
    elif table["kind"] == "mhz19b":
        table["interval_s"] = 1
    return table


def test_a_lines_load_is_its_share_of_the_time_between_reports() -> None:
    asks, listens = DriverHealth("modbus on x", line_busy_s=2.0), DriverHealth("pms5003 on y")
    loads = LineLoads(100.0)
    assert loads.of([asks, listens], 110.0) == {"modbus on x": 0.2}
    asks.line_busy_s = 7.0
    assert loads.of([asks, listens], 120.0) == {"modbus on x": 0.5}
    # A wait that began before the last report counts when it ends.
    asks.line_busy_s = 30.0
    assert loads.of([asks, listens], 130.0) == {"modbus on x": 1.0}
    assert loads.of([asks, listens], 140.0) == {"modbus on x": 0.0}


async def test_status_shows_how_busy_a_shared_line_is(tmp_path: Path) -> None:
    """A unit that answers every 0.1 s, and one that is silent for half a second each time."""
    with EmulatedLine(tmp_path, "RS485", "1") as line:
        Attached(line, emulated("xy-md02", ProfileSet.load()))
        table = configuration("xy-md02", "hall", line.port)
        table["device"] = [
            {**table["device"][0], "interval_s": 0.1},
            {"unit": 9, "device": "silent", "model": "XY-MD02", "interval_s": 0.5},
        ]
        path = write_config(tmp_path, free_port(), devices=(), more=toml(table))
        async with running(path, RealDrivers()) as one:
            report = await one.until(lambda r: (r.drivers[0].line_load or 0) > 0 and r.drivers[0].readings > 0)
            assert 0 < (report.drivers[0].line_load or 0) <= 1
            result = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--config", str(path)])
            assert f"driver    modbus on {line.port}: reading" in result.output
            assert "failures, line busy " in result.output
            told = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--json", "--config", str(path)])
            assert 0 <= json.loads(told.output)["drivers"][0]["line_load"] <= 1


@pytest.mark.parametrize("name", ["sds011", "mhz19b", "xy-md02", "climate-node"])
async def test_an_adapter_that_moves_to_another_port_comes_back_by_itself(tmp_path: Path, name: str) -> None:
    """Streams, sensors that are asked, units of a bus and lines of text: the by-id link leads to another terminal."""
    with EmulatedLine(tmp_path, "adapter", "1") as line:
        attached = Attached(line, emulated(name, ProfileSet.load()))
        sending = asyncio.create_task(attached.run())
        path = write_config(tmp_path, free_port(), devices=(), more=toml(quick(name, line.port)))
        async with running(path, RealDrivers()) as one:
            await one.until(lambda r: r.drivers[0].readings > 0)
            line.replug()
            report = await one.until(lambda r: r.drivers[0].failures > 0)
            before = report.drivers[0].readings
            report = await one.until(lambda r: r.drivers[0].state == "reading" and r.drivers[0].readings > before)
            assert report.drivers[0].openings >= 2
        sending.cancel()


@pytest.mark.parametrize("name", ["mhz19b", "xy-md02"])
async def test_an_adapter_is_found_by_its_usb_identity_wherever_it_is_plugged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The list of adapters is made up, as there is no USB here; all behind it is real."""
    with EmulatedLine(tmp_path, "adapter", "1") as line:
        Attached(line, emulated(name, ProfileSet.load()))

        def listed() -> list[ListPortInfo]:
            entry = ListPortInfo(str(line.link.readlink()))
            entry.vid, entry.pid, entry.serial_number = 0x0403, 0x6001, "A10K"
            return [entry]

        monkeypatch.setattr(transport, "comports", listed)
        path = write_config(tmp_path, free_port(), devices=(), more=toml(quick(name, "0403:6001:A10K")))
        async with running(path, RealDrivers()) as one:
            await one.until(lambda r: r.drivers[0].readings > 0)
            before, spare = line.link.readlink(), EmulatedLine(tmp_path, "another", "2")
            # The place where it was is taken by another adapter.
            line.replug()
            assert line.link.readlink() != before
            report = await one.until(lambda r: r.drivers[0].failures > 0)
            readings = report.drivers[0].readings
            await one.until(lambda r: r.drivers[0].state == "reading" and r.drivers[0].readings > readings)
            spare.close()
