"""What an erasure names is in no payload of quarantine either, and every reading of it in the books."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from device_drivers.reading import Reading
from firmware_profiles.selection import ProfileSet
from gateway.link import wire
from ingest_server.decoder import Columns, open_body
from ingest_server.quarantine import Replayed, replay
from ingest_server.screening import AcceptedTime
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure.erasing import Scope
from ingest_server.storage.line import liveness
from ingest_server.storage.line.group import Entry, Rejection, write_group
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.quarantine import entries
from ingest_server.storage.quarantine.entries import Filter
from ingest_server.storage.queries import fleet
from tests.golden.wire import independent
from tests.ingest_server.line import (
    BOUND,
    DAY,
    EPOCH,
    GATEWAY,
    NOW_US,
    RETENTION_DAYS,
    SECOND,
    TEMPERATURE,
    Line,
    books_of,
    connected,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    settle,
    status,
    values,
)
from tests.peers.postgres import Database

NOON = datetime.fromtimestamp(NOW_US / 1e6, UTC)
MINUTE = 60 * SECOND
NAN = float("nan")
PROFILES = ProfileSet.load()
ACCEPTED = AcceptedTime.at(NOW_US, RETENTION_DAYS)
QUARTER = Scope("seoul-1", None, "hall-1", NOON - timedelta(minutes=15), NOON - timedelta(minutes=5))
"""What is erased unless a test says otherwise: hall-1, from 15 to 5 minutes before noon."""


def at(minute: float, value: float | None = None) -> Reading:
    """A reading of that minute from noon on, whose value is the minute."""
    return reading(minute if value is None else value, NOW_US + int(minute * MINUTE))


async def in_force(database: Database, scope: Scope = QUARTER) -> UUID:
    async with connected(database) as connection:
        return (await erasing.request(connection, scope, reason="asked for", by="test"))[0]


async def carry_out(database: Database, erasure_id: UUID) -> int:
    async with connected(database) as connection:
        return await erasing.carry_out(connection, erasure_id)


@asynccontextmanager
async def held_back(database: Database) -> AsyncIterator[Line]:
    """A line that holds back whatever comes: an older instance speaks under the same name."""
    async with open_writer(database) as writer, running_line(database) as line:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for instance, beat in ((11, 0), (1, 0), (11, 1), (11, 2)):
            said = status(instance=instance, beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=9, device_silence_s=9)
        yield line


async def replayed(database: Database, accepted: AcceptedTime = ACCEPTED) -> list[Replayed]:
    async with open_writer(database) as writer:
        results = []
        async for number in entries.waiting_ids(writer.connection, Filter()):
            found = await entries.read_entry(writer.connection, number)
            assert found is not None
            results.append(await replay(writer, *found, accepted=accepted, profiles=PROFILES, now_s=time.monotonic()))
    return results


async def equation(database: Database) -> tuple[int, int, int, int]:
    """(sealed, committed, quarantined, dropped), once the books are known to balance, down to entries and gaps."""
    books = await books_of(database)
    assert books.balanced
    assert books.sealed == books.committed + books.quarantined + books.dropped
    assert database.one("SELECT COALESCE(sum(readings), 0)::int FROM iot_service.quarantine") == books.quarantined
    assert database.one("SELECT COALESCE(sum(readings), 0)::int FROM iot_service.data_gaps") == books.dropped
    return books.sealed, books.committed, books.quarantined, books.dropped


def kept(database: Database) -> dict[int, list[float]]:
    """By seq of the entry, the minutes of every reading that its payload holds."""
    found = {}
    for seq, payload in database.query("SELECT seq, payload FROM iot_service.quarantine ORDER BY quarantine_id"):
        columns = open_body(wire.decode(bytes(payload), GATEWAY))
        assert isinstance(columns, Columns)
        found[seq] = ((columns.times_us - NOW_US) / MINUTE).tolist()
    return found


async def test_what_waits_is_erased_and_the_rest_can_be_replayed(every_database: Database) -> None:
    lobby = reading(-10, NOW_US - 10 * MINUTE, replace(TEMPERATURE, device="lobby-1"))
    untouched = data(2, [at(-4)], before=5)
    async with held_back(every_database) as line:
        await line.settle(data(0, [at(-10), at(-6)]), data(1, [at(-10), lobby, at(0)], before=2), untouched)
    assert await equation(every_database) == (6, 0, 6, 0)
    assert await carry_out(every_database, await in_force(every_database)) == 0
    assert kept(every_database) == {1: [-10, 0], 2: [-4]}
    assert every_database.one("SELECT payload FROM iot_service.quarantine WHERE seq = 2") == untouched
    assert await equation(every_database) == (6, 0, 3, 3)
    assert every_database.query("SELECT reason, readings, seqs::text, from_at, to_at FROM iot_service.data_gaps") == [
        ("erased", 3, "{[0,2)}", NOON - timedelta(minutes=10), NOON - timedelta(minutes=6))
    ]
    assert every_database.query("SELECT readings, refused FROM iot_service.erasures") == [(0, 3)]
    async with connected(every_database) as connection:
        await fleet.resolve(connection, GATEWAY)
    assert [(r.committed, r.left, r.erased) for r in await replayed(every_database)] == [(2, 0, 0), (1, 0, 0)]
    assert values(every_database) == [-10, -4, 0]
    assert await equation(every_database) == (6, 3, 0, 3)


async def test_a_payload_loses_what_was_committed_too(every_database: Database) -> None:
    """An entry for one impossible reading keeps its whole batch."""
    await settle(every_database, data(0, [at(-10), at(1, NAN), at(2)]), data(1, [at(3), at(4, NAN)], before=3))
    assert await carry_out(every_database, await in_force(every_database)) == 1
    assert kept(every_database) == {0: [1], 1: [3, 4]}
    assert await equation(every_database) == (5, 3, 2, 0)
    assert every_database.query("SELECT FROM iot_service.data_gaps") == [], "what was committed is no drop"
    assert [r.left for r in await replayed(every_database)] == [1, 1]


async def test_what_was_replayed_is_erased_too(every_database: Database) -> None:
    old = NOW_US - 500 * DAY
    await settle(every_database, data(0, [reading(1, old)]), data(1, [reading(2, old - DAY)], before=1))
    assert [r.committed for r in await replayed(every_database, AcceptedTime(0, NOW_US))] == [1, 1]
    day = Scope("seoul-1", None, None, NOON - timedelta(days=500), NOON - timedelta(days=499))
    assert await carry_out(every_database, await in_force(every_database, day)) == 1
    assert [row[0] for row in every_database.query("SELECT seq FROM iot_service.quarantine")] == [1]
    assert values(every_database) == [2]
    assert await equation(every_database) == (2, 2, 0, 0)


async def test_what_nobody_can_read_stays(every_database: Database) -> None:
    """Whose readings these are is not known: an operator has to say so."""
    await settle(every_database, independent.Plan(b"\xc1", 1, epoch=EPOCH).payload())
    await carry_out(every_database, await in_force(every_database))
    assert await equation(every_database) == (1, 0, 1, 0)


async def test_another_sites_quarantine_is_its_own(database: Database) -> None:
    elsewhere = "seoul-2/lobby"
    await settle(database, data(0, [at(-10)]))
    await settle(database, data(0, [at(-10, NAN)], gateway=elsewhere), gateway=elsewhere)
    assert await carry_out(database, await in_force(database)) == 1
    assert database.one("SELECT count(*) FROM iot_service.quarantine") == 1


async def test_a_replay_drops_what_an_erasure_has_not_reached_yet(every_database: Database) -> None:
    async with held_back(every_database) as line:
        await line.settle(data(0, [at(-10), at(-6)]), data(1, [at(-10), at(0)], before=2))
    erasure_id = await in_force(every_database)
    async with connected(every_database) as connection:
        await fleet.resolve(connection, GATEWAY)
    assert [(r.committed, r.left, r.erased) for r in await replayed(every_database)] == [(0, 0, 2), (1, 0, 1)]
    assert values(every_database) == [0]
    assert await equation(every_database) == (4, 1, 0, 3)
    # Done before, nothing is dropped twice.
    assert await carry_out(every_database, erasure_id) == 0
    assert await equation(every_database) == (4, 1, 0, 3)


async def test_what_a_held_back_box_sends_later_is_screened(every_database: Database) -> None:
    await carry_out(every_database, await in_force(every_database))
    async with held_back(every_database) as line:
        await line.settle(data(0, [at(-10), at(-6)]), data(1, [at(-20), at(-10), at(0)], before=2))
    assert every_database.query("SELECT seq, reason FROM iot_service.quarantine") == [(1, "identity_conflict")]
    assert kept(every_database) == {1: [-20, 0]}
    assert await equation(every_database) == (5, 0, 2, 3)


@pytest.mark.parametrize(
    "body",
    [b"\xc1", independent.data_body([["d\0", "c", "q", "u", "p", "f"]], [(1, 0, 1.0, 100)])],
    ids=["no msgpack", "a bad name"],
)
async def test_what_a_held_back_box_sends_that_nobody_can_read_waits(database: Database, body: bytes) -> None:
    await in_force(database)
    async with held_back(database) as line:
        await line.settle(independent.Plan(body, 1, epoch=EPOCH, instance=1).payload())
    assert database.query("SELECT reason, readings FROM iot_service.quarantine") == [("identity_conflict", 1)]


async def test_what_the_database_refuses_is_kept_without_what_is_erased(every_database: Database) -> None:
    await carry_out(every_database, await in_force(every_database))
    every_database.query("ALTER TABLE iot_service.series_latest ADD CONSTRAINT sane CHECK (value <> 666)")
    await settle(every_database, data(0, [at(-10), at(-20), at(0, 666)]))
    assert kept(every_database) == {0: [-20, 0]}
    assert await equation(every_database) == (3, 0, 2, 1)
    every_database.query("ALTER TABLE iot_service.series_latest DROP CONSTRAINT sane")
    assert [(r.committed, r.left) for r in await replayed(every_database)] == [(2, 0)]


async def test_quarantine_takes_nothing_that_was_screened_by_older_rules(every_database: Database) -> None:
    """It was judged before the erasure came into force, and would commit after the erasure has looked."""
    await settle(every_database, data(0))
    await in_force(every_database)
    async with open_writer(every_database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        payload = data(1, [at(-10, NAN)])
        rejection = Rejection("value_not_finite", "NaN", 1, None)
        entry = Entry(number, wire.decode(payload, GATEWAY).envelope, payload, rejections=(rejection,))
        with pytest.raises(RulesChanged):
            await write_group(writer.connection, writer.partitions, [entry], BOUND)
    assert every_database.query("SELECT FROM iot_service.quarantine") == []


async def test_a_gap_that_the_database_refuses_goes_to_quarantine_as_before(database: Database) -> None:
    """Also where an erasure is in force: nothing of a gap is ever screened."""
    await in_force(database)
    database.query("ALTER TABLE iot_service.data_gaps ADD CONSTRAINT sane CHECK (reason <> 'bound')")
    await settle(database, gap(1, [dropped(0, [2])], before=2))
    assert database.query("SELECT reason, readings FROM iot_service.quarantine") == [("refused_by_database", 0)]
