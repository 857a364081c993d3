"""What a person is told who gets it wrong."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from heal7_iot.cli import EXIT_MISSING_EXTRA, main
from tests.contracts.sources import ROOT
from tests.contracts.test_extras import WITHOUT

EXIT_USAGE = 2


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """Exit code and the only line on standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    return ended.value.code, line


@pytest.fixture
def nobody() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_broker_that_is_not_there_is_named_with_what_to_do(nobody: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, "--port", str(nobody))
    assert code == 1
    assert f"127.0.0.1:{nobody}" in line
    assert "--host and --port" in line


def test_something_that_is_no_broker_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = tmp_path / "any.toml"
        config.write_text(f"[mqtt]\nport = {port}\nconnect_timeout_s = 0.2\n")
        code, line = said(capsys, "--config", str(config))
    assert code == 1
    assert f"127.0.0.1:{port}" in line


@pytest.mark.parametrize(
    ("arguments", "named", "right"),
    [
        (["--late", "2:3"], "--late", "SHARE:SECONDS"),
        (["--outage", "3/3"], "--outage", "EVERY/FOR"),
        (["--together"], "--together", "--outage"),
        (["--site", "a/b"], "--site", "1 to 64 letters"),
        (["--site", "server"], "--site", "not server"),
        (["--port", "0"], "mqtt.port", "at least 1"),
        (["--host", "broker.example.org"], "mqtt", "--insecure"),
        (["--config", "/nowhere/at-all.toml"], "/nowhere/at-all.toml", "--config FILE"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_right(
    arguments: list[str], named: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = said(capsys, *arguments)
    assert code == EXIT_USAGE
    assert line.startswith(named)
    assert right in line


def test_a_mistake_in_the_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[mqtt]\nport = "1883"\n')
    code, line = said(capsys, "--config", str(config))
    assert code == EXIT_USAGE
    assert line.startswith(f"{config}: mqtt.port")


def test_a_missing_extra_is_named() -> None:
    script = WITHOUT.format(absent={"aiomqtt"}, module="heal7_iot.cli") + '\nheal7_iot.cli.main(["simulate"])\n'
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert ended.returncode == EXIT_MISSING_EXTRA
    (line,) = ended.stderr.strip().splitlines()
    assert "heal7-iot[gateway]" in line


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--help"])
    assert ended.value.code == 0
    assert "Example: heal7-iot simulate --gateways" in capsys.readouterr().out
