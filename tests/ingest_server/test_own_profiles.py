"""The server's own profiles: the same files as its gateways have, for what was kept raw until there were any."""

import asyncio
from pathlib import Path

import pytest

from device_drivers.serial_line.plantower import Frame, encode
from tests.firmware_profiles.written import GOOD
from tests.ingest_server.command_line import run
from tests.ingest_server.line import settle
from tests.ingest_server.test_quarantine import profile_of_new_firmware, raw_batch
from tests.peers.postgres import Database


@pytest.mark.parametrize("command", [("ingest", "run"), ("ingest", "check"), ("quarantine", "replay")], ids=" ".join)
def test_a_profile_that_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, str]
) -> None:
    file, own = tmp_path / "ingest.toml", tmp_path / "profiles"
    own.mkdir()
    file.write_text(f'[database]\ndsn = "host=/nowhere dbname=x"\n[profiles]\ndirectory = "{own}"\n')
    (own / "thing.toml").write_text(GOOD.replace("scale", "scael"))
    said = run(capsys, *command, "--config", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"{own}/thing.toml: channels.temperature.scael: unknown key; did you mean scale?\n"


def test_a_replay_decodes_what_an_own_profile_explains(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, database: Database
) -> None:
    asyncio.run(_settled(database, raw_batch("250", encode(Frame(version=250)))))
    own = tmp_path / "profiles"
    own.mkdir()
    profile_of_new_firmware(own, "plantower-new/1")
    (own / "shipped.toml").unlink()
    file = tmp_path / "ingest.toml"
    file.write_text(f'[database]\ndsn = "{database.dsn}"\n')
    replay = ("quarantine", "replay", "--config", str(file), "--retention-days", "100000")
    assert "0 readings committed, 1 left" in run(capsys, *replay).out
    file.write_text(file.read_text() + f'[profiles]\ndirectory = "{own}"\n')
    assert "1 reading committed, 0 left" in run(capsys, *replay).out
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == 12


async def _settled(database: Database, payload: bytes) -> None:
    await settle(database, payload)
