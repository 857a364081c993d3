"""The configuration files that the demonstration writes: what a technician would write, and nothing more."""

import json
from collections.abc import Mapping
from pathlib import Path

from heal7_iot.demo.center import ROOMS
from heal7_iot.demo.sensors import ble_sensors, dust_sensor

SITE, GATEWAY = "demo", "gw-01"


def gateway_file(*, state_dir: Path, port: int, serial: Mapping[str, Path], health: Path) -> str:
    """serial: the link of each PMS5003, by its name."""
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
    return "\n\n".join(tables) + "\n"


def ingest_file(*, port: int, dsn: str, health: Path) -> str:
    """The server's."""
    return f"[mqtt]\nport = {port}\n\n[database]\ndsn = {_text(dsn)}\n\n[ingest]\nhealth_file = {_text(health)}\n"


def _text(value: Path | str) -> str:
    # A JSON string is a TOML string.
    return json.dumps(str(value))
