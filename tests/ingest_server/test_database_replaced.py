"""The database is restored, emptied or exchanged beneath a server that runs: nothing that it knew is believed on."""

import asyncio

import pytest

from ingest_server.errors import OtherLedger
from tests.ingest_server.line import data, running_line, settle
from tests.peers.postgres import Database


async def test_numbers_known_before_a_restore_under_a_live_connection_are_not_used(database: Database) -> None:
    """A restore need not break the connection: a remembered series number may mean another series now."""
    async with running_line(database) as line:
        await line.settle(data(0))
        database.query(
            "TRUNCATE iot_service.series, iot_service.series_profiles, iot_service.sensor_readings,"
            " iot_service.latest_readings, iot_service.ledger"
        )
        database.query(
            "INSERT INTO iot_service.series (series_id, device_id, channel, quantity, unit) OVERRIDING SYSTEM VALUE"
            " SELECT 1, device_id, 'co2', 'co2', 'ppm' FROM iot_service.iot_devices"
        )
        database.query("SELECT setval(pg_get_serial_sequence('iot_service.series', 'series_id'), 1)")
        await line.settle(data(0))
    assert database.query(
        "SELECT s.channel, count(*) FROM iot_service.sensor_readings JOIN iot_service.series s USING (series_id)"
        " GROUP BY 1"
    ) == [("temperature", 2)]


async def test_no_receipt_names_another_database_than_the_one_that_was_written(database: Database) -> None:
    """An exchanged database has a ledger of its own: the process ends, and its next start says which it is."""
    line = await settle(database, data(0))
    database.query("UPDATE iot_service.ledger_identity SET ledger_id = gen_random_uuid()")
    event = line.feed(data(1))[0]
    with pytest.raises(OtherLedger, match="another database"):
        await line.pipeline.run(asyncio.Event())
    assert not event.is_set()
    assert len(line.receipts) == 1
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == 2
