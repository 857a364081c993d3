"""A disk without a byte left, or without an answer: the daemon goes on, and what it could not enter comes again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from tests.gateway.ledger_server import ledger_server
from tests.gateway.running import running, write_config
from tests.gateway.scripted_driver import Script
from tests.peers.mosquitto import Broker


def failing(monkeypatch: pytest.MonkeyPatch, method: str, times: int) -> list[str]:
    """Has a method of the spool fail so many times; the calls that failed."""
    failed: list[str] = []
    whole: Callable[..., Any] = getattr(Spool, method)

    def work(spool: Spool, *arguments: Any, **named: Any) -> Any:
        if len(failed) < times:
            failed.append(method)
            raise SpoolUnavailable("spool.sqlite3: database or disk is full")
        return whole(spool, *arguments, **named)

    monkeypatch.setattr(Spool, method, work)
    return failed


@pytest.mark.parametrize("method", ["apply_receipt", "sendable", "load", "books", "usage"])
async def test_what_the_disk_refuses_is_tried_again(
    mosquitto: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It ended the daemon, which then could not start either: readings were lost as long as the disk was full."""
    script = Script()
    async with ledger_server(mosquitto.port) as server, running(write_config(tmp_path, mosquitto.port), script) as one:
        await one.until(lambda report: report.uplink.session == "sending")
        failed = failing(monkeypatch, method, 3)
        script.give("a", 1.5, 2.5)
        await one.until(lambda _: len(failed) == 3)
        script.give("a", 3.5)
        await server.until(lambda: server.readings() == 3)
        report = await one.until(lambda report: report.spool.settled == 3)
        assert report.spool.held_batches == 0
        assert report.uplink.sessions == 1


async def test_a_stop_is_clean_though_its_last_report_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(write_config(tmp_path, 9), Script()) as one:
        await one.until(lambda _: True)
        failing(monkeypatch, "usage", 1_000_000)
    assert "stopped; no last health report: spool.sqlite3: database or disk is full" in caplog.text


async def test_an_operator_sees_what_found_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    async with running(write_config(tmp_path, 9), script) as one:
        assert (await one.until(lambda _: True)).spool.reserve

        def no_room(spool: Spool, _body: object, _readings: int, _first_us: int, _last_us: int) -> None:
            spool._reserve.release()

        monkeypatch.setattr(Spool, "append", no_room)
        script.give("a", 1.5, 2.5)
        report = await one.until(lambda report: report.no_room == 2)
        assert not report.spool.reserve
        assert "the disk is full, 2 readings found no room" in report.line()
