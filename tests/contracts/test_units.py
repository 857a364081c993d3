"""The units are ones that systemd takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts.sources import ROOT
from tests.peers.needs import needs

UNITS = sorted((ROOT / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.name)
def test_a_unit_passes_verification(unit: Path, tmp_path: Path) -> None:
    needs("systemd-analyze")
    needs("kill")  # what the gateway's unit reloads with
    # The one thing that this machine lacks is the installed program: any other that can be run stands for it.
    copy = tmp_path / unit.name
    program = shutil.which("true")
    assert program is not None
    text = unit.read_text()
    assert "/usr/bin/heal7-iot " in text
    copy.write_text(text.replace("/usr/bin/heal7-iot ", f"{program} "))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_both_daemons_have_one() -> None:
    assert {unit.stem for unit in UNITS} == {"heal7-iot-gateway", "heal7-iot-ingest"}
