"""A test that does not run is not silent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NO_SKIPS
from tests.contracts.sources import ROOT
from tests.peers.needs import needs, wanted, wants

CONFTEST = "from tests.conftest import pytest_sessionfinish, pytest_terminal_summary\n"
TESTS = """
import pytest
from tests.peers.needs import needs

@pytest.mark.parametrize("n", range(3))
def test_that_wants_a_tool(n):
    needs("no-such-tool")

def test_that_runs():
    pass
"""


@pytest.mark.parametrize(("no_skips", "code"), [("", 0), ("1", 1)])
def test_skips_are_counted_by_tool_and_may_fail_the_session(tmp_path: Path, no_skips: str, code: int) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), NO_SKIPS: no_skips},
    )
    assert "SKIPPED LOUDLY: 3 tests want no-such-tool" in ended.stdout
    assert ended.returncode == code


def test_a_reason_says_what_was_wanted() -> None:
    assert wanted(wants("mosquitto")) == "mosquitto"
    assert wanted(f"Skipped: {wants('x', 'apt install x')}") == "x"
    assert wanted("root may open everything") is None
    assert needs("sh").endswith("/sh")
