"""The database is restored, emptied or exchanged beneath a server that runs: nothing that it knew is believed on."""

import asyncio

import psycopg
import pytest

from ingest_server.errors import OtherLedger, StorageUnavailable
from tests.ingest_server.line import GATEWAY, HUMIDITY, data, open_writer, reading, running_line, settle
from tests.peers.postgres import Database


async def test_numbers_known_before_a_restore_under_a_live_connection_are_not_used(database: Database) -> None:
    """A restore need not break the connection: a remembered series number may mean another series now."""
    async with running_line(database) as line:
        await line.settle(data(0))
        database.query(
            "TRUNCATE iot_service.series, iot_service.series_profiles, iot_service.sensor_readings,"
            " iot_service.series_latest, iot_service.ledger"
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


TABLES = ("gateways", "iot_devices", "series", "series_profiles", "ledger", "ledger_identity")


def take(database: Database, suffix: str) -> None:
    for table in TABLES:
        database.query(f"CREATE TABLE public.{table}_{suffix} AS SELECT * FROM iot_service.{table}")


def put_back(database: Database, suffix: str, *tables: str) -> None:
    """As `pg_restore --data-only` into emptied tables, in one transaction: no table is made anew."""
    with psycopg.connect(database.dsn) as connection:
        for table in reversed(tables):
            connection.execute(f"DELETE FROM iot_service.{table}".encode())
        for table in tables:
            columns = connection.execute(
                "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                (f"iot_service.{table}",),
            ).fetchone()
            assert columns is not None
            connection.execute(
                f"INSERT INTO iot_service.{table} ({columns[0]}) OVERRIDING SYSTEM VALUE"
                f" SELECT {columns[0]} FROM public.{table}_{suffix}".encode()
            )


@pytest.mark.parametrize("tables", [TABLES, TABLES[:-1]], ids=["everything", "all but the identity"])
async def test_rows_that_were_put_back_under_a_live_connection_are_noticed(
    database: Database, tables: tuple[str, ...]
) -> None:
    """DELETE and COPY leave the tables' files as they are: once the numbers that were known before were used on."""
    async with running_line(database) as line:
        await line.settle(data(0))
        take(database, "old")
        await line.settle(data(1, [reading(series=HUMIDITY)], before=2))
        number = database.one("SELECT series_id FROM iot_service.series WHERE channel = 'humidity'")
        put_back(database, "old", *tables)
        # The number that humidity had goes to something else, as after a restore that winds the sequence back.
        database.query(
            "INSERT INTO iot_service.series (series_id, device_id, channel, quantity, unit) OVERRIDING SYSTEM VALUE"
            " SELECT %s, device_id, 'co2', 'co2', 'ppm' FROM iot_service.iot_devices",
            number,
        )
        await line.settle(data(2, [reading(series=HUMIDITY)], before=3))
        assert line.counters.storage_retries == 1
        await line.settle(data(3, [reading(series=HUMIDITY)], before=4))
        assert line.counters.storage_retries == 1, "once"
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings WHERE series_id = %s", number) == 1
    assert (
        database.one(
            "SELECT count(*) FROM iot_service.sensor_readings JOIN iot_service.series USING (series_id)"
            " WHERE channel = 'humidity'"
        )
        == 2
    )


async def test_a_connection_that_knows_gateways_alone_notices_a_restore_too(database: Database) -> None:
    """As that of heartbeats does: their books would be entered under a number that another gateway has now."""
    ledger = str(database.one("SELECT ledger_id FROM iot_service.ledger_identity"))
    async with open_writer(database) as writer:
        await writer.catalogue.gateway_id(GATEWAY)
        await writer.catalogue.confirm(ledger)
        await writer.catalogue.confirm(ledger)
        take(database, "old")
        put_back(database, "old", *TABLES)
        with pytest.raises(StorageUnavailable, match="restored"):
            await writer.catalogue.confirm(ledger)


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
