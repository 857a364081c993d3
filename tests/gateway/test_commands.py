"""The command line: what it says, and its exit codes."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_drivers.registry import DRIVER_KINDS
from gateway.commands import app
from gateway.housekeeping import trust_file
from tests.gateway.running import running, write_config
from tests.gateway.scripted_driver import Script
from tests.peers.mosquitto import Broker, free_port

GATEWAY = '[gateway]\nsite = "seoul-1"\nname = "gw-01"\nstate_dir = "{state}"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(GATEWAY.format(state=tmp_path / "state") + f"[mqtt]\nport = {free_port()}\n")
    return path


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["run", "check", "trust", "status"])
def test_each_command_shows_an_example(command: str) -> None:
    code, output = call(command, "--help")
    assert code == 0
    assert f"Example: heal7-iot gateway {command}" in " ".join(output.split())


@pytest.mark.parametrize("command", [["run"], ["check"], ["trust", "x"], ["status"]])
def test_mistakes_end_each_command_with_code_2_and_their_lines(file: Path, command: list[str]) -> None:
    file.write_text(file.read_text() + 'keepalive = 5\nhost = "10.0.0.1"\n[[driver]]\nkind = "pms"\n')
    code, output = call(*command, "--config", str(file))
    known = ", ".join(f'"{kind}"' for kind in DRIVER_KINDS)
    assert code == 2
    assert output.splitlines() == [
        f"{file}: mqtt.keepalive: unknown key; did you mean keepalive_s?",
        f"{file}: driver[0].kind: 'pms' is no kind of driver; write one of {known}",
    ]


def test_check_gives_mistakes_to_programs(file: Path) -> None:
    file.write_text("[gateway]\nsite = 5\n")
    code, output = call("check", "--json", "--config", str(file))
    assert code == 2
    found = json.loads(output)
    assert not found["ok"]
    assert found["mistakes"][0] == {
        "key": "gateway.site",
        "wrong": "5 is wrong",
        "right": 'write text in quotes, such as "text"',
    }


def test_check_says_what_the_daemon_would_do(mosquitto: Broker, tmp_path: Path, file: Path) -> None:
    master, slave = os.openpty()
    port = os.ttyname(slave)
    try:
        file.write_text(
            GATEWAY.format(state=tmp_path / "state")
            + f"[mqtt]\nport = {mosquitto.port}\n[spool]\nbound_bytes = 4194304\n"
            + f'[[driver]]\nkind = "pms5003"\ndevice = "lobby"\nport = "{port}"\n'
        )
        code, output = call("check", "--config", str(file))
    finally:
        os.close(master)
        os.close(slave)
    assert code == 0, output
    assert "seoul-1/gw-01" in output
    assert f"127.0.0.1:{mosquitto.port} (answers)" in output
    assert str(tmp_path / "state" / "spool.sqlite3") in output
    assert f"driver    pms5003 on {port}: found" in output
    assert "device  lobby: PMS5003, profile by the firmware that it states" in output


def test_check_says_what_is_not_there(tmp_path: Path, file: Path) -> None:
    file.write_text(
        file.read_text()
        + '[[driver]]\nkind = "pms5003"\ndevice = "lobby"\nport = "/dev/serial/by-id/none"\nfirmware = "999.1"\n'
        + '[[driver]]\nkind = "pms5003"\ndevice = "hall"\nport = "ffff:ffff:NONE"\n'
        + '[[driver]]\nkind = "ble"\nadapters = ["hci99"]\naccept = ["bthome"]\n'
    )
    code, output = call("check", "--json", "--config", str(file))
    assert code == 1
    found = json.loads(output)
    assert [driver["found"] for driver in found["drivers"]] == [False, False, False]
    assert not found["broker_answers"]
    said = "\n".join(found["warnings"])
    for part in (
        "driver[0]: /dev/serial/by-id/none is not there",
        "driver[1]: no adapter ffff:ffff:NONE is plugged in",
        "driver[2]: no Bluetooth adapter hci99",
        "mqtt: nothing answers at 127.0.0.1:",
    ):
        assert part in said
    assert not (tmp_path / "state").exists()


def test_check_says_that_no_profile_knows_a_model(file: Path) -> None:
    """Which is no mistake in the file: the frames are kept, and somebody may write the profile later."""
    file.write_text(
        file.read_text()
        + '[[driver]]\nkind = "pms5003"\ndevice = "lobby"\nport = "/dev/serial/by-id/none"\nmodel = "PMSA003"\n'
        + '[[driver]]\nkind = "pms5003"\ndevice = "hall"\nport = "/dev/serial/by-id/other"\nmodel = "PMS7003"\n'
    )
    code, output = call("check", "--config", str(file))
    assert code == 1
    assert "device  lobby: PMSA003, NO PROFILE" in output
    assert "driver[0]: no firmware profile for model PMSA003: lobby would give raw bytes only" in output
    assert "device  hall: PMS7003, profile by the firmware that it states" in output
    assert "PMS7003: hall" not in output


LEDGER, OTHER = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def test_trust_leaves_the_ledger_for_the_daemon(tmp_path: Path, file: Path) -> None:
    code, output = call("trust", LEDGER.upper(), "--config", str(file))
    assert (code, "run this as the gateway's user" in output) == (1, True)
    (tmp_path / "state").mkdir()
    code, output = call("trust", LEDGER.upper(), "--config", str(file))
    assert code == 0
    assert trust_file(tmp_path / "state").read_text() == LEDGER
    # As root under a strict umask: the daemon is another user.
    before = os.umask(0o077)
    try:
        assert call("trust", OTHER, "--config", str(file))[0] == 0
    finally:
        os.umask(before)
    assert trust_file(tmp_path / "state").stat().st_mode & 0o777 == 0o644
    # Whoever mistypes it would have the gateway refuse the receipts of the real one.
    for mistyped in ("x" * 65, "foo", LEDGER[:-1]):
        code, output = call("trust", mistyped, "--config", str(file))
        assert (code, "is no ledger id" in output) == (1, True)
    assert trust_file(tmp_path / "state").read_text() == OTHER


async def test_status_shows_what_the_daemon_says(tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, free_port(), devices=())
    async with running(path, script) as one:
        await one.until(lambda _: True)
        code, output = call("status", "--config", str(path))
        assert code == 0
        assert "seoul-1/gw-01: runs" in output
        code, output = call("status", "--json", "--config", str(path))
        assert (code, json.loads(output)["running"]) == (0, True)
    # The last thing it said is seconds old, and that it has stopped.
    code, output = call("status", "--config", str(path), "--json")
    assert (code, json.loads(output)["running"], json.loads(output)["stopped"]) == (1, False, True)


def test_status_of_a_gateway_that_never_ran(file: Path) -> None:
    assert call("status", "--config", str(file))[0] == 1
    code, output = call("status", "--json", "--config", str(file))
    assert (code, json.loads(output)) == (1, {"running": False})
