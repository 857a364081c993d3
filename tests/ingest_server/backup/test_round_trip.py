"""What is restored is what was backed up, and the line goes on with it."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.backup.loading import open_backup
from ingest_server.storage.backup.tables import BEFORE_HORIZON, DERIVED, KEPT
from ingest_server.storage.backup.verifying import verify_backup
from ingest_server.storage.connection import connect
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.keeping import months
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.partitions import Month
from ingest_server.storage.schema import drift
from ingest_server.storage.schema.migrations import migrate
from tests.ingest_server.backup.conftest import NOW, UNWATCHED, content, give_a_history, made, restored
from tests.ingest_server.line import DAY, GATEWAY, NOW_US, books_of, data, open_writer, reading, settle
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.ingest_server.test_migrations import dump as schema_of
from tests.peers.postgres import Database, new_database


def test_every_table_is_backed_up_or_known_to_be_derived(database: Database) -> None:
    """Whoever adds a table decides which: `ingest_server/storage/backup/tables.py`."""
    there = {
        name
        for (name,) in database.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'iot_service'::regnamespace"
            " AND relkind IN ('r', 'p', 'm', 'f') AND NOT relispartition"
        )
    }
    former = {"latest_readings"}
    assert there == {*KEPT, *BEFORE_HORIZON, *DERIVED} - former


async def test_every_row_comes_back(any_database: Database, any_target: Database, directory: Path) -> None:
    give_a_history(any_database)
    before = content(any_database)
    # All but these: nobody could say of an empty table that it came back.
    assert {name for name, rows in before.items() if not rows} <= {
        "gateway_instances",
        "ledger_archive",
        "device_successions",
    }
    done = await restored(made(any_database, directory), any_target)
    assert content(any_target) == before == content(any_database)
    assert (done.flavour, done.readings) == (Flavour.NATIVE, len(before["sensor_readings"]))


async def test_the_schema_is_as_if_it_had_been_migrated(history: Database, target: Database, directory: Path) -> None:
    """Indexes that were made after the rows, too."""
    await restored(made(history, directory), target)
    assert schema_of(target) == schema_of(history)
    async with open_writer(target) as writer:
        assert await drift.differences(writer.connection) == []


async def test_a_backup_of_one_version_of_postgresql_fits_another(
    database: Database, debian_empty_database: Database, directory: Path
) -> None:
    give_a_history(database)
    await restored(made(database, directory), debian_empty_database)
    assert content(debian_empty_database) == content(database)


async def test_a_database_that_was_just_migrated_is_filled(
    history: Database, postgres: EmbeddedPostgres, migrated: str, directory: Path
) -> None:
    with new_database(postgres, migrated) as target:
        # The templates of these tests have one ledger_id, migrations make each their own.
        target.query("UPDATE iot_service.ledger_identity SET ledger_id = gen_random_uuid()")
        # A server that has just started put them there.
        target.query("INSERT INTO iot_service.profile_channels VALUES ('other', 'x', null, null, null)")
        await restored(made(history, directory), target)
        assert content(target) == content(history)


async def test_the_line_goes_on(any_database: Database, any_target: Database, directory: Path) -> None:
    """The same epoch: what it had is a duplicate, what is new is settled. New names get new numbers."""
    give_a_history(any_database)
    await restored(made(any_database, directory), any_target)
    before = await books_of(any_target)
    await settle(any_target, data(3, [reading()], before=60))
    await settle(any_target, data(19, [reading(77.0), reading(78.0)], before=303))
    after = await books_of(any_target)
    assert after.committed == before.committed + 2
    assert after.duplicates == before.duplicates + 1
    # A number that was drawn before the backup is not drawn again, though its row was gone.
    await settle(any_target, data(20, [reading(float("nan"))], before=305))
    drawn = any_database.one("SELECT last_value FROM iot_service.quarantine_quarantine_id_seq")
    assert any_target.one("SELECT max(quarantine_id) FROM iot_service.quarantine") == drawn + 1


async def test_a_copy_has_a_ledger_of_its_own(history: Database, target: Database, directory: Path) -> None:
    """Gateways of the same broker believe none of its receipts."""
    done = await restored(made(history, directory), target, as_copy=True)
    identity = "SELECT ledger_id::text FROM iot_service.ledger_identity"
    assert target.one(identity) == done.ledger_id != history.one(identity)
    rest = {name: rows for name, rows in content(history).items() if name != "ledger_identity"}
    assert {name: rows for name, rows in content(target).items() if name != "ledger_identity"} == rest


async def test_rollups_are_computed_again(history: Database, target: Database, directory: Path) -> None:
    await restored(made(history, directory), target)
    series = [n for (n,) in target.query("SELECT series_id FROM iot_service.series")]
    assert not stored(target, series).minutes
    async with open_writer(target) as writer:
        assert await refresh_all(writer.connection) > 0
    assert stored(target, series) == brute_force(target, series, "Asia/Seoul") == stored(history, series)


async def archive_august(database: Database) -> None:
    async with open_writer(database) as writer:
        assert await months.archive(writer.connection, Month(2026, 9)) == [Month(2026, 8)]


async def test_rollups_from_before_the_horizon_are_kept(history: Database, target: Database, directory: Path) -> None:
    """Their readings are gone: nothing could make them again."""
    series = [n for (n,) in history.query("SELECT series_id FROM iot_service.series")]
    await archive_august(history)
    expected = stored(history, series)
    assert min(at for _, at in expected.hours) < min(at for _, at in expected.minutes)
    path = made(history, directory)
    await restored(path, target)
    async with open_writer(target) as writer:
        await refresh_all(writer.connection)
    assert stored(target, series) == expected
    assert target.one("SELECT to_regclass('archive.sensor_readings_2026_08')") is None
    verified = await verify_backup(path, target.dsn, UNWATCHED)
    assert verified.sound


def indexes_of(database: Database, archived: str) -> list[str]:
    """Without their names."""
    return [
        definition.partition(" ON ")[2]
        for (definition,) in database.query(
            f"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'archive.{archived}'::regclass"
        )
    ]


async def test_archived_months_are_left_out_or_asked_for(history: Database, target: Database, directory: Path) -> None:
    august = "SELECT t::text FROM archive.{} t ORDER BY 1"
    names = ["sensor_readings_2026_08", "rollup_1m_2026_08"]
    await archive_august(history)
    done = made(history, directory)
    assert [line.split(":")[0] for line in sorted(open_backup(done).manifest.left_out, reverse=True)] == [
        f"archive.{n}" for n in names
    ]
    await restored(made(history, directory / "whole", with_archive=True), target)
    for name in names:
        rows = history.query(august.format(name))
        assert rows
        assert target.query(august.format(name)) == rows
        assert indexes_of(target, name) == indexes_of(history, name) != []


async def test_a_month_on_its_way_to_the_archive_is_neither_lost_nor_doubled(
    history: Database, target: Database, directory: Path
) -> None:
    """The archive job was killed between DETACH and SET SCHEMA."""
    august = "SELECT t::text FROM {} t ORDER BY 1"
    rows = history.query(august.format("iot_service.sensor_readings_2026_08"))
    history.query("UPDATE iot_service.raw_horizon SET begins = '2026-09-01T00:00:00Z'")
    history.query("ALTER TABLE iot_service.sensor_readings DETACH PARTITION iot_service.sensor_readings_2026_08")
    (left,) = open_backup(made(history, directory)).manifest.left_out
    assert left.startswith("iot_service.sensor_readings_2026_08: an archived month")
    done = await restored(made(history, directory / "whole", with_archive=True), target)
    assert target.query(august.format("archive.sensor_readings_2026_08")) == rows
    assert done.readings == target.one("SELECT count(*) FROM iot_service.sensor_readings")
    owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{}'::regclass"
    assert target.one(owner.format("archive.sensor_readings_2026_08")) == target.one(
        owner.format("iot_service.sensor_readings")
    )


async def test_rollups_of_minutes_from_before_the_horizon_find_room(
    history: Database, target: Database, directory: Path
) -> None:
    """The horizon moved, and the month has not followed yet."""
    history.query("UPDATE iot_service.raw_horizon SET begins = '2026-10-01T00:00:00Z'")
    history.query("DELETE FROM iot_service.sensor_readings WHERE recorded_at < '2026-10-01T00:00:00Z'")
    series = [n for (n,) in history.query("SELECT series_id FROM iot_service.series")]
    await restored(made(history, directory), target)
    async with open_writer(target) as writer:
        await refresh_all(writer.connection)
    assert stored(target, series) == stored(history, series)


class Writing:
    """A batch is committed after each block that the backup has read."""

    def __init__(self, database: Database) -> None:
        self.database, self.seq = database, 100

    def begin(self, stage: str, total: int) -> None:
        self.advance(0)

    def advance(self, amount: int) -> None:
        # Every other one into a month that is read early, or has none yet.
        at_us = NOW_US - (self.seq % 4) * 40 * DAY
        asyncio.run(settle(self.database, data(self.seq, [reading(1.0, at_us)], before=1_000 + self.seq)))
        self.seq += 1


async def test_a_backup_is_one_moment_though_writers_go_on(
    history: Database, target: Database, directory: Path
) -> None:
    before = content(history)
    writing = Writing(history)
    path = await asyncio.to_thread(made, history, directory, writing)
    assert writing.seq > 120, "it wrote meanwhile"
    assert len(content(history)["sensor_readings"]) > len(before["sensor_readings"]) + 20
    await restored(path, target)
    assert content(target) == before


class Detaching:
    """Somebody takes the oldest month out of the table as soon as the backup has its snapshot."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def begin(self, stage: str, total: int) -> None:
        with psycopg.connect(self.database.dsn, autocommit=True) as other:
            other.execute("SET lock_timeout = '200ms'")
            with pytest.raises(LockNotAvailable):
                other.execute(
                    "ALTER TABLE iot_service.sensor_readings DETACH PARTITION iot_service.sensor_readings_2026_08"
                )

    def advance(self, amount: int) -> None:
        pass


async def test_a_month_is_not_taken_away_beneath_a_backup(history: Database, target: Database, directory: Path) -> None:
    """It would be in neither place: not in the table any more, not yet in the archive."""
    await restored(made(history, directory, Detaching(history)), target)
    assert content(target) == content(history)


async def test_a_backup_from_before_an_upgrade(
    postgres: EmbeddedPostgres, empty_database: Database, directory: Path
) -> None:
    """Version 2 had another name for a table, and none of those that came later."""
    connection = await connect(empty_database.dsn, "test", 30)
    try:
        await migrate(connection, to=2)
    finally:
        await connection.close()
    for statement in (
        "INSERT INTO iot_service.gateways (name) VALUES ('s/g')",
        "INSERT INTO iot_service.iot_devices (site, device, home_gateway_id) VALUES ('s', 'd', 1)",
        "INSERT INTO iot_service.series (device_id, channel, quantity, unit) VALUES (1, 't', 't', 'x')",
        "SELECT iot_service.make_month('2026-11-05T00:00:00Z')",
        (
            "INSERT INTO iot_service.sensor_readings (recorded_at, value, series_id, causes, reliability)"
            " VALUES ('2026-11-05T01:00:30Z', 2.5, 1, 0, 100)"
        ),
        "INSERT INTO iot_service.latest_readings VALUES (1, '2026-11-05T01:00:30Z', 2.5, 100, 0)",
        (
            "INSERT INTO iot_service.ledger (gateway_id, epoch, settled, next_seq, sealed, committed)"
            " VALUES (1, 7, '{[0,1)}', 1, 1, 1)"
        ),
    ):
        empty_database.query(statement)
    path = made(empty_database, directory)
    with new_database(postgres, "template1") as target:
        await restored(path, target)
        assert target.query("SELECT value FROM iot_service.series_latest") == [(2.5,)]
        async with open_writer(target) as writer:
            await refresh_all(writer.connection)
        assert stored(target, [1]) == brute_force(target, [1], "UTC")
        assert (await verify_backup(path, target.dsn, UNWATCHED)).sound


async def test_what_was_erased_after_the_backup_stays_erased(
    history: Database, target: Database, directory: Path, tmp_path: Path
) -> None:
    path, journal = made(history, directory), tmp_path / "erasures.jsonl"
    scope = erasing.Scope("seoul-1", "hall", None, None, NOW)
    async with open_writer(history) as writer:
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="asked for again", by="test")
        removed = await erasing.carry_out(writer.connection, erasure_id)
        for entry in await erasing.listed(writer.connection):
            erasure_journal.append(journal, entry, await erasing.intervals(writer.connection, entry.erasure_id))
    assert removed > 100
    done = await restored(path, target, erasures=erasure_journal.read(journal))
    assert (done.erasures, done.erased) == (1, removed), "the other was in the backup"
    for table in ("sensor_readings", "series_latest"):
        assert content(target)[table] == content(history)[table]
    # A spool that still has it does not bring it back.
    before = await books_of(target)
    await settle(target, data(40, [reading(5.0, NOW_US - 3 * DAY)], before=400))
    assert content(target)["sensor_readings"] == content(history)["sensor_readings"]
    assert (await books_of(target)).dropped > before.dropped
    series = [n for (n,) in target.query("SELECT series_id FROM iot_service.series")]
    async with open_writer(target) as writer:
        await refresh_all(writer.connection)
    assert stored(target, series) == brute_force(target, series, "Asia/Seoul")


@pytest.mark.parametrize("users", ["integer", "uuid"])
async def test_patterns_fit_whatever_numbers_the_platform_gives_its_users(
    postgres: EmbeddedPostgres, empty_database: Database, target: Database, directory: Path, users: str
) -> None:
    """Their column is of the type of `public.users` in the one database, and of none in the other."""
    empty_database.query(f"CREATE TABLE public.users (id {users} PRIMARY KEY)")
    connection = await connect(empty_database.dsn, "test", 30)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    give_a_history(empty_database)
    assert GATEWAY in content(empty_database)["gateways"][0]
    await restored(made(empty_database, directory), target)
    assert content(target)["user_behavior_patterns"] == content(empty_database)["user_behavior_patterns"]
