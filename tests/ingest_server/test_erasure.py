"""What is erased is gone from everywhere, and nothing brings it back; nothing else goes with it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_drivers.reading import Reading, Series
from gateway.link import wire
from ingest_server.decoder import Columns, open_body
from ingest_server.storage.connection import sql, transaction
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from ingest_server.storage.erasure.erasing import Scope
from ingest_server.storage.keeping.rollups import lock_rollups, refresh_all
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.registry import places
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    HUMIDITY,
    NOW_US,
    SECOND,
    TEMPERATURE,
    books_of,
    connected,
    data,
    open_writer,
    reading,
    running_line,
    settle,
    until_waiting_for_a_lock,
    values,
)
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]
NOON = datetime.fromtimestamp(NOW_US / 1e6, UTC)
MINUTE = 60 * SECOND
LOBBY = Series("lobby-1", "temperature", "temperature", "°C", "bthome_v2", "2.1")
ROLLUPS = ("rollup_1m", "rollup_1h", "rollup_1d", "rollup_site_day")


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def measured(value: float, series: Series = TEMPERATURE) -> Reading:
    """A reading whose value is the minute, from noon on, at which it was taken."""
    return reading(value, NOW_US + int(value * MINUTE), series)


def batch(*minutes: float, seq: int = 0, epoch: int = EPOCH, before: int = 0, series: Series = TEMPERATURE) -> bytes:
    return data(seq, [measured(m, series) for m in minutes], epoch=epoch, before=before)


async def erase(database: Database, scope: Scope) -> int:
    """As the command does it; rows removed."""
    async with connected(database) as connection:
        erasure_id, _ = await erasing.request(connection, scope, reason="asked for", by="test")
        removed = await erasing.carry_out(connection, erasure_id)
        await refresh_all(connection)
    return removed


async def refresh(database: Database) -> None:
    async with connected(database) as connection:
        await refresh_all(connection)


def between(from_min: float, to_min: float, *, zone: str | None = None, device: str | None = None) -> Scope:
    return Scope(SITE, zone, device, at(from_min), at(to_min))


def series_ids(database: Database) -> list[int]:
    return [row[0] for row in database.query("SELECT series_id FROM iot_service.series ORDER BY 1")]


def latest(database: Database) -> dict[str, float]:
    return dict(
        database.query(
            "SELECT d.device || ' ' || r.channel, r.value FROM iot_service.latest_readings r"
            " JOIN iot_service.iot_devices d USING (device_id)"
        )
    )


def gaps(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT reason, readings, from_at, to_at FROM iot_service.data_gaps ORDER BY gap_id")


async def test_readings_are_gone_from_raw_rollups_and_latest(every_database: Database) -> None:
    await settle(
        every_database,
        data(0, [measured(m, s) for m in (-1500, -70, -65, -1, 0, 1) for s in (TEMPERATURE, HUMIDITY, LOBBY)]),
    )
    await refresh(every_database)
    assert await erase(every_database, between(-65, 2, device="hall-1")) == 8
    kept = [-1500.0] * 3 + [-70.0] * 3 + [-65.0, -1.0, 0.0, 1.0]
    assert values(every_database) == kept
    ids = series_ids(every_database)
    assert stored(every_database, ids) == brute_force(every_database, ids, "UTC")
    # The newest that remains takes the place of the one that was erased; another device's stays.
    assert latest(every_database) == {"hall-1 temperature": -70, "hall-1 humidity": -70, "lobby-1 temperature": 1}
    # All the rest of the site: nothing remains, no latest value either.
    assert await erase(every_database, Scope(SITE, None, None, None, at(10))) == len(kept)
    assert values(every_database) == []
    assert latest(every_database) == {}
    assert all(every_database.query(f"SELECT FROM iot_service.{table}") == [] for table in ROLLUPS)


async def test_what_was_erased_comes_back_from_no_spool(every_database: Database) -> None:
    """A re-imaged gateway sends all again in a new epoch; an unsettled batch arrives late."""
    await settle(every_database, batch(-20, -10, 0))
    await erase(every_database, between(-15, -5))
    await settle(every_database, batch(-20.5, -10, -0.5, epoch=EPOCH + 1))
    await settle(every_database, batch(-12, -11, -10, seq=1, before=3))
    assert values(every_database) == [-20.5, -20, -0.5, 0]
    books = await books_of(every_database)
    assert books.balanced
    assert (books.sealed, books.committed, books.quarantined, books.dropped) == (9, 5, 0, 4)
    # One was committed before it was erased: the ledger tells what became of what arrived, the audit trail the rest.
    assert [(g[0], g[1]) for g in gaps(every_database)] == [("erased", 1), ("erased", 3)]
    assert gaps(every_database)[1][2:] == (at(-12), at(-10))
    assert every_database.query("SELECT readings, refused FROM iot_service.erasures") == [(1, 4)]
    assert every_database.query("SELECT FROM iot_service.quarantine") == []
    # The same batch once more is a duplicate, and no second drop.
    await settle(every_database, batch(-12, -11, -10, seq=1, before=3))
    assert (await books_of(every_database)).dropped == 4


async def test_quarantine_keeps_nothing_that_is_erased(every_database: Database) -> None:
    """What is both impossible and erased is dropped; what else is wrong in its batch is kept without it."""
    await settle(every_database, batch(0))
    await erase(every_database, between(-15, -5))
    nan = float("nan")
    erased = reading(nan, NOW_US - 10 * MINUTE)
    await settle(every_database, data(0, [erased, erased], epoch=EPOCH + 1))
    assert every_database.query("SELECT FROM iot_service.quarantine") == []
    mixed = [erased, measured(1), reading(nan, NOW_US), measured(-10)]
    await settle(every_database, data(1, mixed, epoch=EPOCH + 1, before=2))
    ((indices, payload),) = every_database.query("SELECT indices, payload FROM iot_service.quarantine")
    columns = open_body(wire.decode(payload, GATEWAY))
    assert isinstance(columns, Columns)
    assert (columns.times_us.tolist(), indices) == ([NOW_US + MINUTE, NOW_US], [1])
    books = await books_of(every_database)
    assert (books.balanced, books.committed, books.quarantined, books.dropped) == (True, 2, 1, 4)


async def test_rows_screened_by_older_rules_are_refused(every_database: Database) -> None:
    await settle(every_database, batch(0))
    await erase(every_database, between(-15, -5))
    one = Rows(
        np.array([NOW_US - 10 * MINUTE]),
        np.array(series_ids(every_database)[:1], dtype=np.int32),
        np.array([-10.0]),
        np.array([100], dtype=np.int32),
        np.array([0], dtype=np.int32),
    )
    async with connected(every_database) as connection:
        with pytest.raises(RulesChanged):
            async with transaction(connection):
                await copy_rows(connection, [one], 0)
    assert values(every_database) == [0.0]


async def test_an_erasure_waits_for_who_is_writing(any_database: Database) -> None:
    """Rows that were screened before it, and commit after it began: it sees and removes them."""
    await settle(any_database, batch(0))
    async with open_writer(any_database) as writer:
        await writer.catalogue.rules.follow(writer.connection)
        one = Rows(
            np.array([NOW_US - 10 * MINUTE]),
            np.array(series_ids(any_database)[:1], dtype=np.int32),
            np.array([-10.0]),
            np.array([100], dtype=np.int32),
            np.array([0], dtype=np.int32),
        )
        async with transaction(writer.connection):
            await copy_rows(writer.connection, [one], 0)
            task = asyncio.create_task(erase(any_database, between(-15, -5)))
            await until_waiting_for_a_lock(any_database)
        assert await task == 1
    assert values(any_database) == [0.0]


async def test_a_zones_erasure_follows_the_placements_of_that_time(every_database: Database) -> None:
    minutes = (-40, -30, -20, -10, 0)
    await settle(every_database, data(0, [measured(m, s) for m in minutes for s in (TEMPERATURE, LOBBY)]))
    async with connected(every_database) as connection:
        await places.place(connection, SITE, "hall-1", "hall", None, at(-30))
        await places.place(connection, SITE, "hall-1", "attic", None, at(-10))
        await places.place(connection, SITE, "lobby-1", "hall", None, at(-20))
        affected = await erasing.survey(connection, between(-60, 0, zone="hall"))
        assert [(a.device, a.readings, a.first, a.last) for a in affected] == [
            ("hall-1", 2, at(-30), at(-20)),
            ("lobby-1", 2, at(-20), at(-10)),
        ]
    assert await erase(every_database, between(-60, 0, zone="hall")) == 4
    assert values(every_database) == [-40, -40, -30, -10, 0, 0]
    # Its own time in the attic may still arrive, its time in the hall may not.
    await settle(every_database, batch(-35, -25, -5, epoch=EPOCH + 1))
    assert values(every_database) == [-40, -40, -35, -30, -10, -5, 0, 0]
    assert (await books_of(every_database)).balanced


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        (Scope("nowhere", None, None, None, NOON), "no site is called nowhere"),
        (Scope(SITE, None, "hall-2", None, NOON), "no device hall-2 at site seoul-1"),
        (Scope(SITE, "hal", None, None, NOON), "no zone hal at site seoul-1"),
        (Scope(SITE, "hall", None, at(-90), at(-60)), "no device was in zone hall of seoul-1 then"),
    ],
)
async def test_a_scope_that_names_nothing_is_refused(every_database: Database, scope: Scope, why: str) -> None:
    await settle(every_database, batch(0))
    async with connected(every_database) as connection:
        await places.place(connection, SITE, "hall-1", "hall", None, at(-60))
        with pytest.raises(places.NoSuchThing, match=why):
            await erasing.survey(connection, scope)


async def test_a_months_readings_go_by_themselves(any_database: Database) -> None:
    """What was removed before an interruption stays removed, and counts; other months' rollups do not wait for all."""
    january, february, march = (-310 * 1440, -280 * 1440, -250 * 1440)
    await settle(any_database, batch(january, january + 1, february, march, 0))
    (series_id,) = series_ids(any_database)
    async with connected(any_database) as holder, connected(any_database) as connection:
        erasure_id, _ = await erasing.request(holder, between(january, 0), reason="asked for", by="test")
        async with transaction(holder):
            await holder.execute(
                "SELECT FROM iot_service.sensor_readings WHERE series_id = %s AND recorded_at = %s FOR UPDATE",
                (series_id, at(february)),
            )
            task = asyncio.create_task(erasing.carry_out(connection, erasure_id))
            await until_waiting_for_a_lock(any_database)
            assert values(any_database) == [february, march, 0]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        (told,) = await erasing.listed(holder)
        assert (told.readings, told.done_at) == (2, None)
        await refresh_all(holder)
        assert stored(any_database, [series_id]) == brute_force(any_database, [series_id], "UTC")
        assert await erasing.carry_out(holder, erasure_id) == 2
        (told,) = await erasing.listed(holder)
        assert (told.readings, told.done_at is not None) == (4, True)
        await refresh_all(holder)
    assert values(any_database) == [0]
    assert stored(any_database, [series_id]) == brute_force(any_database, [series_id], "UTC")


async def test_an_interrupted_erasure_is_finished_later(any_database: Database) -> None:
    """Between its transactions: the rule is in force, the latest values are right, the rows are still there."""
    await settle(any_database, batch(-20, -10, 0))
    async with connected(any_database) as holder:
        async with transaction(holder):
            await lock_rollups(holder)
            task = asyncio.create_task(erase(any_database, between(-15, 5)))
            await until_waiting_for_a_lock(any_database)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert values(any_database) == [-20, -10, 0]
        assert latest(any_database) == {"hall-1 temperature": -20}
        await settle(any_database, batch(-12, epoch=EPOCH + 1))
        assert values(any_database) == [-20, -10, 0]
        (left,) = await erasing.unfinished(holder)
        assert await erasing.carry_out(holder, left) == 2
        assert await erasing.unfinished(holder) == []
        # Once more does no harm.
        assert await erasing.carry_out(holder, left) == 0
        (told,) = await erasing.listed(holder)
    assert (told.readings, told.refused, told.done_at is not None) == (2, 1, True)
    assert values(any_database) == [-20]


async def test_archived_months_are_erased_too(any_database: Database) -> None:
    october = -30 * 1440
    day = 1440
    await settle(any_database, batch(october, october + 1, october + 70, october + day, 0))
    await refresh(any_database)
    for table in ("sensor_readings", "rollup_1m"):
        any_database.query("CREATE SCHEMA IF NOT EXISTS archive")
        any_database.query(f"ALTER TABLE iot_service.{table} DETACH PARTITION iot_service.{table}_2026_10")
        any_database.query(f"ALTER TABLE iot_service.{table}_2026_10 SET SCHEMA archive")
    any_database.query("UPDATE iot_service.raw_horizon SET begins = '2026-11-01+00'")
    async with connected(any_database) as connection:
        (affected,) = await erasing.survey(connection, between(october, 5))
        assert (affected.readings, affected.first, affected.last) == (5, at(october), at(0))
    assert await erase(any_database, between(october + 1, october + 2)) == 1
    assert any_database.query("SELECT value FROM archive.sensor_readings_2026_10 ORDER BY 1") == [
        (october,), (october + 70,), (october + day,),
    ]  # fmt: skip
    assert any_database.query("SELECT bucket FROM archive.rollup_1m_2026_10 ORDER BY 1") == [
        (at(october),), (at(october + 70),), (at(october + day),),
    ]  # fmt: skip
    # What can't be computed again goes whole: its hour, its day, and no other.
    hours = any_database.query("SELECT bucket FROM iot_service.rollup_1h ORDER BY 1")
    assert hours == [(at(october + 60),), (at(october + day),), (at(0),)]
    for days in (
        "SELECT bucket::date FROM iot_service.rollup_1d",
        "SELECT reading_date FROM iot_service.rollup_site_day",
    ):
        assert any_database.query(f"{days} ORDER BY 1") == [(at(october + day).date(),), (NOON.date(),)]
    assert latest(any_database) == {"hall-1 temperature": 0}


DAY = 1440
NOVEMBER = -20.5 * DAY


@pytest.mark.parametrize(
    ("erased", "removed", "minutes", "hours", "days"),
    [
        ((-5, -1), 0, (-2 * DAY, -70, 300, 1.5 * DAY), (-2 * DAY, -120, 300, 1.5 * DAY), (-2 * DAY, 0, DAY)),
        # After the horizon; the first of November in Seoul is a day that began before it all the same.
        ((299, 301), 1, (-2 * DAY, -70, -3, 1.5 * DAY), (-2 * DAY, -120, -60, 1.5 * DAY), (-2 * DAY, -DAY, DAY)),
    ],
    ids=["before the horizon", "after it"],
)
async def test_what_cannot_be_computed_again_goes_whole(
    every_database: Database,
    erased: tuple[float, float],
    removed: int,
    minutes: tuple[float, ...],
    hours: tuple[float, ...],
    days: tuple[float, ...],
) -> None:
    """Readings of October have left the table. By Seoul's calendar the first of November began before the horizon."""
    await settle(every_database, data(0, [measured(NOVEMBER + m) for m in (-2 * DAY, -70, -3, 300, 1.5 * DAY)]))
    async with connected(every_database) as connection:
        await places.set_time_zone(connection, SITE, "Asia/Seoul")
    await refresh(every_database)
    every_database.query("UPDATE iot_service.raw_horizon SET begins = '2026-11-01+00'")
    every_database.query("DELETE FROM iot_service.sensor_readings WHERE recorded_at < '2026-11-01+00'")
    assert await erase(every_database, between(NOVEMBER + erased[0], NOVEMBER + erased[1])) == removed
    for table, left in (("rollup_1m", minutes), ("rollup_1h", hours), ("rollup_1d", days)):
        found = every_database.query(f"SELECT bucket FROM iot_service.{table} ORDER BY 1")
        assert found == [(at(NOVEMBER + m),) for m in left], table
    dates = "SELECT reading_date::text FROM iot_service.fact_sensor_daily ORDER BY 1"
    assert every_database.query(dates) == [("2026-10-30",), ("2026-11-02",)]


@pytest.mark.parametrize("seed", range(3))
async def test_erasures_while_two_write(every_database: Database, seed: int) -> None:
    """Nothing that is erased remains, nothing else is lost, and the books balance."""
    starts = np.random.default_rng(seed).integers(-60, -10, 5).tolist()
    erasing, known = asyncio.Event(), asyncio.Barrier(3)
    sent: list[float] = []
    devices = ("hall-1", None, "lobby-1", None, "hall-1")
    scopes = [between(start, start + 7, device=device) for start, device in zip(starts, devices, strict=True)]
    own = {
        name: [replace(TEMPERATURE, device=device), replace(HUMIDITY, device=device)]
        for name, device in (("lobby", "lobby-1"), ("hall", "hall-1"))
    }

    async def write(name: str) -> int:
        draw = np.random.default_rng([seed, len(name)])
        epoch, seq, gateway = EPOCH + len(name), 0, f"{SITE}/{name}"
        async with running_line(every_database, group=3) as line:
            last = False
            while not last:
                last = seq >= 30 and erasing.is_set()
                payloads = []
                for _ in range(3):
                    # The first of each is among what is erased of the whole site.
                    minutes = [starts[1] + 3.5, *draw.uniform(-60, 0, 19).round(3).tolist()]
                    held = [measured(m, own[name][n % 2]) for n, m in enumerate(minutes)]
                    payloads.append(data(seq, held, before=20 * seq, epoch=epoch, gateway=gateway))
                    sent.extend(m for m in minutes if not _erased(scopes, own[name][0].device, m))
                    seq += 1
                await line.settle(*payloads, gateway=gateway)
                if seq == 3:
                    await known.wait()
        return 20 * seq

    async def erase_all() -> None:
        await known.wait()
        try:
            for scope in scopes:
                await erase(every_database, scope)
        finally:
            erasing.set()

    hall, lobby, _ = await asyncio.gather(write("hall"), write("lobby"), erase_all())
    assert values(every_database) == sorted(sent)
    for name, sealed in (("hall", hall), ("lobby", lobby)):
        books = await books_of(every_database, f"{SITE}/{name}")
        assert (books.balanced, books.sealed, books.quarantined) == (True, sealed, 0)
    removed, refused = every_database.query("SELECT sum(readings)::int, sum(refused)::int FROM iot_service.erasures")[0]
    assert len(sent) + removed + refused == hall + lobby
    assert refused > 0
    await refresh(every_database)
    ids = series_ids(every_database)
    found, expected = stored(every_database, ids), brute_force(every_database, ids, "UTC")
    assert {k: (b.readings, b.minimum, b.maximum) for k, b in found.minutes.items()} == {
        k: (b.readings, b.minimum, b.maximum) for k, b in expected.minutes.items()
    }
    newest = every_database.query(
        "SELECT series_id, max(recorded_at) FROM iot_service.sensor_readings GROUP BY 1 ORDER BY 1"
    )
    assert newest == every_database.query("SELECT series_id, recorded_at FROM iot_service.series_latest ORDER BY 1")


def _erased(scopes: list[Scope], device: str, minute: float) -> bool:
    moment = NOON + timedelta(microseconds=int(minute * MINUTE))
    return any(s.device in (None, device) and s.from_at is not None and s.from_at <= moment < s.to_at for s in scopes)


async def test_a_journal_brings_erasures_back_into_force(every_database: Database, tmp_path: Path) -> None:
    """The database is restored from a backup that is older than the erasure."""
    journal = tmp_path / "erasures.jsonl"
    await settle(every_database, batch(-20, -10, 0))
    async with connected(every_database) as connection:
        for scope in (between(-15, -5), Scope(SITE, None, "hall-1", None, at(-18))):
            erasure_id, _ = await erasing.request(connection, scope, reason="한 번", by="test")
            told = next(e for e in await erasing.listed(connection) if e.erasure_id == erasure_id)
            erasure_journal.append(journal, told, await erasing.intervals(connection, erasure_id))
        audit = await erasing.listed(connection)
        entries = erasure_journal.read(journal)
        assert [e for e, _ in entries] == audit[::-1]
        assert [rule.from_at for _, rules in entries for rule in rules][1] == "-infinity"
        every_database.query("TRUNCATE iot_service.erasures, iot_service.erased_intervals")
        assert [await erasing.enforce(connection, *entry) for entry in entries] == [True, True]
        assert [await erasing.enforce(connection, *entry) for entry in entries] == [False, False]
        for left in await erasing.unfinished(connection):
            await erasing.carry_out(connection, left)
        assert [(e.reason, e.scope, e.requested_at) for e in await erasing.listed(connection)] == [
            (e.reason, e.scope, e.requested_at) for e in audit
        ]
    assert values(every_database) == [0]
    journal.write_text(journal.read_text() + '{"erasure": {"erasure_id": "x"\n')
    with pytest.raises(ValueError, match="line 3: this is no erasure"):
        erasure_journal.read(journal)


async def test_an_erasure_is_done_when_its_rollups_follow(any_database: Database) -> None:
    """An average tells of what was erased: whoever is interrupted before it is gone finds the erasure unfinished."""
    await settle(any_database, batch(-20, -10, 0))
    await refresh(any_database)

    def cut(_entries: int) -> None:
        raise InterruptedError

    async with connected(any_database) as connection:
        erasure_id, _ = await erasing.request(connection, between(-15, -5), reason="asked for", by="test")
        with pytest.raises(InterruptedError):
            await erasing.carry_out(connection, erasure_id, cut)
        assert await erasing.unfinished(connection) == [erasure_id]
        worked_off: list[int] = []
        await erasing.carry_out(connection, erasure_id, worked_off.append)
        (told,) = await erasing.listed(connection)
    assert (told.readings, told.done_at is not None, len(worked_off)) == (1, True, 1)
    ids = series_ids(any_database)
    assert stored(any_database, ids) == brute_force(any_database, ids, "UTC")


async def test_a_survey_of_an_hour_looks_into_its_month_alone(any_database: Database) -> None:
    await settle(any_database, batch(-31 * 1440, 0))
    survey = sql("erasure/erase_survey").decode()
    scope = "SELECT %s::text AS site, NULL::text AS device, %s::timestamptz AS from_at, %s::timestamptz AS to_at"
    asked = survey.format(scope=scope, readings="iot_service.sensor_readings")
    rows = any_database.query(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {asked}", SITE, at(-60), at(60))
    looked = {
        line.split("sensor_readings_")[1][:7]: "never executed" not in line
        for (line,) in rows
        if " on " in line and "sensor_readings_" in line
    }
    assert looked[f"{at(0):%Y_%m}"] is True
    assert looked.get(f"{at(-31 * 1440):%Y_%m}", False) is False
