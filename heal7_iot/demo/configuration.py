"""The configuration files that the demonstration writes: what a technician would write, and nothing more."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heal7_iot.demo.center import ROOMS
from heal7_iot.demo.sensors import ble_sensors, dust_sensor
from heal7_iot.demo.variety import driver_tables, heard_tables

SITE, GATEWAY = "demo", "gw-01"


def gateway_file(*, state_dir: Path, port: int, serial: Mapping[str, Path], health: Path) -> str:
    """serial: the link of each line, by its name."""
    tables = [
        f'[gateway]\nsite = "{SITE}"\nname = "{GATEWAY}"\nstate_dir = {_text(state_dir)}',
        f"[mqtt]\nport = {port}",
        # Nobody's clock is at stake here, and a container has no kernel that would vouch for it.
        '[clock]\ntrust = "system"',
        "[batch]\nlinger_s = 0.5",
        # The books are compared every second, so that the table shows them as they are. The longest drain that may be
        # said: what is sealed last is to arrive before the line is taken down.
        "[uplink]\nheartbeat_s = 1.0\nspread_s = 0.0\ndrain_s = 15.0\nreconnect_longest_s = 2.0",
        f"[health]\nfile = {_text(health)}\nwrite_s = 0.5",
    ]
    for room in ROOMS:
        name = dust_sensor(room)
        tables.append(f'[[driver]]\nkind = "pms5003"\ndevice = "{name}"\nport = {_text(serial[name])}')
    tables.append('[[driver]]\nkind = "ble"\nadapters = ["hci0"]')
    tables += [f'[[driver.device]]\naddress = "{s.address}"\ndevice = "{s.device}"' for s in ble_sensors()]
    tables += [_table("driver.device", table) for table in heard_tables()]
    tables += [_table("driver", table) for table in driver_tables(serial)]
    return "\n\n".join(tables) + "\n"


def ingest_file(*, port: int, dsn: str, health: Path) -> str:
    """The server's."""
    return f"[mqtt]\nport = {port}\n\n[database]\ndsn = {_text(dsn)}\n\n[ingest]\nhealth_file = {_text(health)}\n"


def _table(name: str, table: Mapping[str, Any]) -> str:
    """Of an array of tables, with the devices below it."""
    lines = [f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if key != "device")]
    devices = table.get("device", [])
    if isinstance(devices, str):
        lines.append(f"device = {_text(devices)}")
        devices = []
    return "\n\n".join(["\n".join(lines), *(_table(f"{name}.device", device) for device in devices)])


def _text(value: Path | str) -> str:
    # A JSON string is a TOML string.
    return json.dumps(str(value))
