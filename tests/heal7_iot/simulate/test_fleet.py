"""Fleets against a real broker, a real server, a real database: all that was simulated is in the table, once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bench.exactness import faults
from heal7_iot.simulate.plan import Late, Outage, Plan
from ingest_server.storage.line.ledger import read_books
from tests.heal7_iot.simulate.running import Simulation, simulation
from tests.ingest_server.conftest import configuration, serving
from tests.ingest_server.line import open_writer
from tests.peers.mosquitto import Broker
from tests.peers.postgres import Database

SMALL = Plan(gateways=30, sensors=3, rate=2.0, jitter=0.3, seed=11)


@pytest.fixture
async def server(database: Database, mosquitto: Broker) -> AsyncIterator[Database]:
    """An ingest server that works; the database it writes to."""
    async with serving(configuration(database.dsn, mosquitto, books={"lost_after_s": 600.0})):
        yield database


async def assert_exact(database: Database, plan: Plan, outcome: dict[str, Any]) -> None:
    """The table is what the plan says, and both books agree on it."""
    assert outcome["all_settled"], outcome
    assert outcome["sealed"] == outcome["settled"] > 0
    assert faults(database.dsn, plan, outcome) == []
    async with open_writer(database) as writer:
        books = await read_books(writer.connection)
    assert len(books) == plan.gateways
    assert all(book.balanced and book.in_flight == 0 for book in books)
    assert sum(book.sealed for book in books) == sum(book.committed for book in books) == outcome["sealed"]


async def until(running: Simulation, key: str, least: float) -> None:
    await asyncio.to_thread(running.until, lambda said: said[key] >= least)


async def test_a_fleet_that_loses_its_broker_puts_every_reading_into_the_table_once(
    server: Database, mosquitto: Broker, tmp_path: Path
) -> None:
    with simulation(SMALL, mosquitto.port, tmp_path) as running:
        await until(running, "settled", 300)
        await asyncio.to_thread(mosquitto.restart)
        known = running.progress["settled"]
        await until(running, "reconnects", SMALL.gateways)
        await until(running, "settled", known + 300)
        running.signal()
        code, outcome = await asyncio.to_thread(running.end)
    await assert_exact(server, SMALL, outcome)
    assert code == 0
    assert outcome["reconnects"] >= SMALL.gateways


@pytest.mark.slow
async def test_late_readings_and_outages_of_single_gateways_lose_nothing(
    server: Database, mosquitto: Broker, tmp_path: Path
) -> None:
    plan = Plan(
        gateways=12, sensors=4, rate=2.0, late=Late(0.3, 1.5), outage=Outage(3.0, 1.0), duration_s=6.0, site="late"
    )
    with simulation(plan, mosquitto.port, tmp_path) as running:
        code, outcome = await asyncio.to_thread(running.end)
    await assert_exact(server, plan, outcome)
    assert code == 0
    assert outcome["reconnects"] > 0
    late = "SELECT count(*) FROM iot_service.sensor_readings WHERE created_at - recorded_at > interval '1.5 s'"
    assert server.one(late) > 0


@pytest.mark.slow
async def test_an_outage_of_all_is_an_outage_of_all(server: Database, mosquitto: Broker, tmp_path: Path) -> None:
    plan = Plan(gateways=10, sensors=2, outage=Outage(3.0, 2.0, together=True), site="all")
    with simulation(plan, mosquitto.port, tmp_path) as running:
        await asyncio.to_thread(running.until, lambda said: said["connected"] == plan.gateways)
        await asyncio.to_thread(running.until, lambda said: said["cut"] == plan.gateways and said["connected"] == 0)
        await asyncio.to_thread(running.until, lambda said: said["connected"] == plan.gateways)
        running.signal()
        _, outcome = await asyncio.to_thread(running.end)
    await assert_exact(server, plan, outcome)


async def test_without_a_server_nothing_is_settled_and_the_exit_code_says_so(mosquitto: Broker, tmp_path: Path) -> None:
    plan = Plan(gateways=3, sensors=2, rate=5.0, duration_s=1.0, patience_s=0.5)
    with simulation(plan, mosquitto.port, tmp_path) as running:
        code, outcome = await asyncio.to_thread(running.end)
    assert code == 1
    assert outcome["in_flight"] == outcome["sealed"] > 0
    assert not outcome["all_settled"]


async def test_a_second_signal_does_not_wait_for_receipts(mosquitto: Broker, tmp_path: Path) -> None:
    with simulation(Plan(gateways=3, sensors=2, rate=5.0), mosquitto.port, tmp_path) as running:
        await until(running, "in_flight_readings", 1)
        running.signal()
        await asyncio.to_thread(running.until, lambda said: not said["reading"])
        running.signal()
        code, outcome = await asyncio.to_thread(running.end)
    assert code == 1
    assert outcome["in_flight"] > 0


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_reader_that_goes_away_ends_it_in_order(
    server: Database, mosquitto: Broker, tmp_path: Path, as_json: bool
) -> None:
    """As `heal7-iot simulate | head -1`."""
    plan = Plan(gateways=3, sensors=2, rate=5.0, site="head")
    with simulation(plan, mosquitto.port, tmp_path, as_json=as_json) as running:
        code, said = await asyncio.to_thread(running.close_after_a_line)
    assert code == 0
    assert said == ""
    async with open_writer(server) as writer:
        books = await read_books(writer.connection)
    assert all(book.balanced and book.in_flight == 0 for book in books)


HARM = {
    "another value": "UPDATE iot_service.sensor_readings SET value = value + 0.01 WHERE {one}",
    "another time": "UPDATE iot_service.sensor_readings SET recorded_at = recorded_at + interval '1 us' WHERE {one}",
    "another series": "UPDATE iot_service.sensor_readings SET series_id = {last} WHERE {one}",
    "missing": "DELETE FROM iot_service.sensor_readings WHERE {one}",
    "there twice": "INSERT INTO iot_service.sensor_readings SELECT * FROM iot_service.sensor_readings WHERE {one}",
    "one twice and another missing": "UPDATE iot_service.sensor_readings SET (recorded_at, value) ="
    " (SELECT recorded_at, value FROM kept WHERE series_id = {last} ORDER BY recorded_at LIMIT 1)"
    " WHERE series_id = {last} AND recorded_at = (SELECT max(recorded_at) FROM kept WHERE series_id = {last})",
}


async def test_a_table_that_is_wrong_is_found_wrong(server: Database, mosquitto: Broker, tmp_path: Path) -> None:
    plan = Plan(gateways=2, sensors=2, rate=10.0, duration_s=1.0)
    with simulation(plan, mosquitto.port, tmp_path) as running:
        _, outcome = await asyncio.to_thread(running.end)
    assert faults(server.dsn, plan, outcome) == []
    server.query("CREATE TABLE kept AS SELECT * FROM iot_service.sensor_readings")
    one = "(series_id, recorded_at) = (SELECT series_id, recorded_at FROM kept ORDER BY 1, 2 LIMIT 1)"
    last = "(SELECT max(series_id) FROM iot_service.series)"
    for harm, statement in HARM.items():
        server.query(statement.format(one=one, last=last))
        assert faults(server.dsn, plan, outcome), harm
        server.query("DELETE FROM iot_service.sensor_readings")
        server.query("INSERT INTO iot_service.sensor_readings SELECT * FROM kept")
        assert faults(server.dsn, plan, outcome) == [], harm


@pytest.mark.slow
async def test_three_hundred_gateways_through_restarts_of_their_broker(
    server: Database, mosquitto: Broker, tmp_path: Path
) -> None:
    plan = Plan(
        gateways=300, sensors=4, rate=0.25, late=Late(0.05, 5.0), outage=Outage(20.0, 3.0), patience_s=300.0, seed=5
    )
    with simulation(plan, mosquitto.port, tmp_path) as running:
        for restarts in range(1, 4):
            await asyncio.to_thread(running.until, lambda said: said["online"] >= 250)
            known = running.progress["settled"]
            await until(running, "settled", known + 1000)
            await asyncio.to_thread(mosquitto.restart)
            await until(running, "reconnects", 250 * restarts)
        known = running.progress["settled"]
        await until(running, "settled", known + 1000)
        running.signal()
        code, outcome = await asyncio.to_thread(running.end)
    await assert_exact(server, plan, outcome)
    assert code == 0
