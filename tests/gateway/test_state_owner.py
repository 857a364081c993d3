"""A spool that was filled under one name is not emptied under another: each reading would be there twice."""

import shutil
from pathlib import Path

import pytest

from firmware_profiles.selection import ProfileSet
from gateway.app import CannotStart
from gateway.config import load_config
from gateway.inspection import inspect
from tests.gateway.ledger_server import ledger_server
from tests.gateway.running import NAME, running, write_config
from tests.gateway.scripted_driver import Script
from tests.peers.mosquitto import Broker


async def test_a_renamed_gateway_does_not_send_again_what_was_settled(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    async with ledger_server(mosquitto.port) as server:
        async with running(path, script) as one:
            script.give("a", 1.5, 2.5)
            await one.until(lambda report: report.spool.settled == 2)
        sent = len(server.batches)
        path.write_text(path.read_text().replace('name = "gw-01"', 'name = "gw-02"'))
        with pytest.raises(CannotStart, match=NAME):
            async with running(path, Script()):
                pass
        assert len(server.batches) == sent
        found = inspect(load_config(path, script.kinds()), ProfileSet.load(), script.kinds())
        assert any(NAME in warning for warning in found.warnings)
        # Aside, it is a new gateway's; under its own name, it is the old one's as before.
        shutil.move(tmp_path / "state", tmp_path / "aside")
        async with running(path, script) as one:
            script.give("a", 3.5)
            await one.until(lambda report: report.spool.settled == 1)


async def test_a_folder_of_before_this_check_is_taken_over(tmp_path: Path) -> None:
    path = write_config(tmp_path, 9)
    async with running(path, Script()) as one:
        await one.until(lambda _: True)
    owner = tmp_path / "state" / "gateway-name"
    owner.unlink()
    async with running(path, Script()) as one:
        await one.until(lambda _: owner.exists())
    assert owner.read_text() == f"{NAME}\n"
