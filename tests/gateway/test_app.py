"""The daemon as a whole: draining, reloading, surviving."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from device_drivers.errors import LinkLost
from gateway.app import CannotStart, Gateway
from gateway.health import HealthReport, write_report
from gateway.loading import load_gateway
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions, Usage
from tests.firmware_profiles.written import GOOD
from tests.gateway.ledger_server import ledger_server
from tests.gateway.running import running, write_config
from tests.gateway.scripted_driver import Script
from tests.peers.mosquitto import Broker, free_port

PLANTOWER = bytes.fromhex("424d001c0005000d00160005000d001602fd00fc001d000f00060006970003c5")


def spool_of(directory: Path) -> Usage:
    """What is in the spool that a gateway left."""
    spool = Spool.open(directory / "state" / "spool.sqlite3", SpoolOptions(2**30, 3600.0), Boot("later", 0), None)
    try:
        return spool.usage()
    finally:
        spool.close()


async def test_a_stop_seals_what_is_not_full_and_sends_it(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    path.write_text(path.read_text().replace("linger_s = 0.05", "linger_s = 300"))
    async with ledger_server(mosquitto.port) as server:
        async with running(path, script) as one:
            await one.until(lambda report: report.uplink.session == "sending")
            script.give("a", 1.0, 2.0, 3.0)
            await one.until(lambda report: report.waiting == 3)
            assert server.batches == []
        assert server.readings() == 3
        report = one.report()
        assert report is not None
        assert (report.spool.sealed, report.spool.settled, report.waiting) == (3, 3, 0)
    assert spool_of(tmp_path).batches == 0


async def test_without_a_broker_a_stop_keeps_all_and_is_quick(tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, free_port())
    path.write_text(path.read_text().replace("linger_s = 0.05", "linger_s = 300"))
    async with running(path, script) as one:
        script.give("a", 1.0, 2.0, 3.0)
        await one.until(lambda report: report.waiting == 3)
    usage = spool_of(tmp_path)
    assert (usage.batches, usage.readings) == (1, 3)


async def test_one_driver_that_keeps_failing_harms_no_other(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    script.open_fault["broken"] = RuntimeError("a bug in a driver")
    async with (
        ledger_server(mosquitto.port),
        running(write_config(tmp_path, mosquitto.port, devices=("broken", "gone", "good")), script) as one,
    ):
        script.fail("gone", LinkLost("unplugged"))
        script.give("good", 1.0, 2.0)
        report = await one.until(lambda report: report.spool.settled == 2)
        broken, gone, good = report.drivers
        assert (good.state, good.failures) == ("reading", 0)
        assert broken.last_error == "RuntimeError: a bug in a driver"
        assert gone.last_error == "unplugged"


async def test_what_was_kept_is_sent_by_the_next_start(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    async with running(path, script) as one:
        script.give("a", 1.0)
        await one.until_held(1)
    async with ledger_server(mosquitto.port) as server:
        async with running(path, script) as one:
            script.give("a", 2.0)
            report = await one.until(lambda report: report.spool.settled == 2)
            assert report.spool.held_batches == 0
        assert len({batch.envelope.epoch for batch in server.batches}) == 2


async def test_a_reload_restarts_what_changed_and_refuses_what_is_wrong(
    mosquitto: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port, devices=("a", "b"))
    async with ledger_server(mosquitto.port) as server, running(path, script) as one:
        script.give("a", 1.0)
        script.give("b", 1.0)
        await one.until(lambda report: report.spool.settled == 2)
        good = path.read_text()
        path.write_text(good.replace('device = "b"', 'devise = "b"'))
        os.kill(os.getpid(), signal.SIGHUP)
        await one.until(lambda _: "the old one goes on" in caplog.text)
        assert "driver[1].devise: unknown key; did you mean device?" in caplog.text
        write_config(tmp_path, mosquitto.port, devices=("a", "c"))
        path.write_text(path.read_text().replace("linger_s = 0.05", "linger_s = 0.06"))
        os.kill(os.getpid(), signal.SIGHUP)
        script.give("a", 2.0)
        script.give("c", 2.0)
        report = await one.until(lambda report: report.spool.settled == 4)
        assert [driver.name for driver in report.drivers] == ["scripted a", "scripted c"]
        assert (script.opened.count("a"), script.closed) == (1, ["b"])
        assert "changes of [batch] count from the next start" in caplog.text
        assert len({batch.envelope.epoch for batch in server.batches}) == 1


async def test_a_reload_takes_up_profiles(mosquitto: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.app")
    script = Script()
    path = write_config(tmp_path, mosquitto.port, devices=("a", "b"))
    own = tmp_path / "profiles"
    own.mkdir()
    path.write_text(path.read_text() + f'[profiles]\ndirectory = "{own}"\n')
    async with ledger_server(mosquitto.port), running(path, script) as one:
        await one.until(lambda _: script.opened == ["a", "b"])
        (own / "thing.toml").write_text(GOOD.replace("scale", "scael"))
        os.kill(os.getpid(), signal.SIGHUP)
        await one.until(lambda _: "the old one goes on" in caplog.text)
        assert f"{own}/thing.toml: channels.temperature.scael: unknown key; did you mean scale?" in caplog.text
        (own / "thing.toml").write_text(GOOD)
        os.kill(os.getpid(), signal.SIGHUP)
        # Whichever of them it is of: none goes on with what its profile said before.
        await one.until(lambda _: sorted(script.opened) == ["a", "a", "b", "b"])
        assert "2 drivers stopped, 2 started" in caplog.text
        os.kill(os.getpid(), signal.SIGHUP)
        await one.until(lambda _: "0 drivers stopped, 0 started" in caplog.text)


async def test_two_daemons_on_one_spool_are_refused(tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, free_port())
    async with running(path, script) as one:
        await one.until(lambda _: True)
        kinds = script.kinds()
        second = Gateway(*load_gateway(path, kinds), load=lambda: load_gateway(path, kinds), kinds=kinds)
        with pytest.raises(CannotStart, match="only one gateway may own a spool"):
            await second.run(asyncio.Event())


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    script = Script()
    kinds = script.kinds()
    path = write_config(tmp_path, free_port())
    gateway = Gateway(*load_gateway(path, kinds), load=lambda: load_gateway(path, kinds), kinds=kinds)
    with pytest.raises(CannotStart, match="make the folder and give it to this user"):
        await gateway.run(asyncio.Event())


def test_the_real_daemon_reads_a_line_and_drains_on_sigterm(tmp_path: Path) -> None:
    master, slave = os.openpty()
    path = write_config(tmp_path, free_port(), devices=())
    port = os.ttyname(slave)
    driver = f'[[driver]]\nkind = "pms5003"\ndevice = "lobby"\nport = "{port}"\n'
    path.write_text(path.read_text().replace("linger_s = 0.05", "linger_s = 300") + driver)
    program = "from gateway.commands import app; app()"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program, "run", "--config", str(path)], stderr=log)
    try:
        health = tmp_path / "state" / "health.json"
        waiting = 0
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "log").read_text()
            os.write(master, PLANTOWER)
            if health.exists() and (waiting := json.loads(health.read_text())["waiting"]) > 0:
                break
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        assert waiting > 0, (tmp_path / "log").read_text()
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
        os.close(slave)
    last = json.loads(health.read_text())
    usage = spool_of(tmp_path)
    assert usage.readings == last["readings"] == last["spool"]["sealed"] >= waiting
    assert last["waiting"] == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_the_last_report_waits_for_the_one_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop on a slow disk mixed both in one draft, and the file was none of them."""
    begun, at_once, most = threading.Event(), 0, 0

    def slowly(path: Path, report: HealthReport) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        write_report(path, report)
        begun.set()
        time.sleep(0.5)
        at_once -= 1

    monkeypatch.setattr("gateway.reporter.write_report", slowly)
    async with running(write_config(tmp_path, 9), Script()):
        await asyncio.to_thread(begun.wait)
    assert most == 1
