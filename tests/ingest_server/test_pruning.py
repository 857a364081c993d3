"""What of the books is folded together, and what must be remembered as long as a spool may hold it."""

from ingest_server.storage.line import liveness
from ingest_server.storage.line.ledger import Books, prune_ledger
from ingest_server.storage.quarantine import entries
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    NOW_US,
    RETENTION_DAYS,
    books_of,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    settle,
    status,
)
from tests.ingest_server.test_liveness import book
from tests.peers.postgres import Database

AGO = f"interval '{RETENTION_DAYS + 3} days'"


def grow_old(database: Database, *epochs: int) -> None:
    database.query(
        f"UPDATE iot_service.ledger SET first_seen_at = now() - {AGO}, last_batch_at = now() - {AGO},"
        f" last_heartbeat_at = CASE WHEN last_heartbeat_at IS NOT NULL THEN now() - {AGO} END"
        " WHERE epoch = ANY(%s)",
        list(epochs),
    )
    # It is there, and has ceased to list them.
    database.query("UPDATE iot_service.gateways SET last_heartbeat_at = now()")


async def prune(database: Database) -> int:
    async with open_writer(database) as writer:
        return await prune_ledger(writer.connection, RETENTION_DAYS)


async def totals(database: Database) -> Books:
    books = await books_of(database)
    assert books.balanced
    return books


async def test_the_sums_stay_when_old_epochs_are_folded_together(database: Database) -> None:
    async with running_line(database) as line:
        for epoch in (1, 2, 3):
            await line.settle(data(0, epoch=epoch), data(0, epoch=epoch))
            await line.settle(gap(2, [dropped(1, [5], epoch=epoch)], epoch=epoch, before=7))
        before = await totals(database)
        assert (before.epochs, before.committed, before.dropped, before.duplicates) == (3, 6, 15, 3)
        assert await prune(database) == 0
        grow_old(database, 1)
        assert await prune(database) == 1
        grow_old(database, 2)
        assert await prune(database) == 1
    assert await totals(database) == before
    assert database.query("SELECT epoch FROM iot_service.ledger") == [(3,)]


async def test_what_may_still_be_asked_for_stays(database: Database) -> None:
    """An epoch that has a hole, a presumed loss or something in quarantine, or that its gateway lists."""
    nan = [reading(1.0), reading(float("nan"))]
    whole = [data(0, epoch=epoch) for epoch in (2, 4, 5, 6, 7)]
    await settle(database, data(1, epoch=1), data(0, nan, epoch=3), *whole)
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id("seoul-1/lobby")
        grow_old(database, *range(1, 8))
        # Of epochs 2 and 7 the gateway has spoken of more than anybody has now; what is open of 6 and 7 are gaps.
        lost = book(3, 6, epoch=2), book(2, 2, epoch=7)
        held = book(2, 4, (0, 1), epoch=1), book(1, 2, epoch=4), book(2, 2, (1, 2), epoch=6)
        for beat in range(2):
            said = status(*lost, *held, beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=9)
        database.query(f"UPDATE iot_service.ledger SET last_heartbeat_at = now() - {AGO} WHERE epoch <> 4")
    lost_now = "SELECT epoch, presumed_lost::text FROM iot_service.ledger WHERE NOT isempty(presumed_lost) ORDER BY 1"
    assert database.query(lost_now) == [(2, "{[1,3)}"), (7, "{[1,2)}")]
    assert await prune(database) == 1
    assert database.query("SELECT epoch FROM iot_service.ledger ORDER BY 1") == [(n,) for n in (1, 2, 3, 4, 6, 7)]


async def test_an_old_spool_that_comes_back_after_all_writes_nothing_twice(database: Database) -> None:
    """Its epoch is forgotten, and its readings are older than anything that is accepted."""
    await settle(database, data(0))
    grow_old(database, EPOCH)
    assert await prune(database) == 1
    later = NOW_US + (RETENTION_DAYS + 3) * 86_400_000_000
    async with running_line(database, now_us=later) as line:
        await line.settle(data(0))
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == 2
    books = await totals(database)
    assert (books.sealed, books.committed, books.quarantined) == (4, 2, 2)


async def test_what_a_silent_gateway_will_list_again_stays(database: Database) -> None:
    """After a winter without power it listed its last epochs; forgotten, they were presumed lost, and counted twice."""
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        await settle(database, data(0), data(1))
        said = status(book(2, 4), beat=1)
        await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=9)
        grow_old(database, EPOCH)
        database.query(f"UPDATE iot_service.gateways SET last_heartbeat_at = now() - {AGO}")
        assert await prune(database) == 0
        for beat in (2, 3):
            said = status(book(2, 4), beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=9)
    books = await totals(database)
    assert (books.sealed, books.committed, books.presumed_lost) == (4, 4, 0)


async def test_what_a_replay_needs_is_there_until_it_was_replayed(database: Database) -> None:
    await settle(database, data(0, [reading(1.0), reading(2.0, NOW_US - 450 * 86_400_000_000)]))
    grow_old(database, EPOCH)
    assert await prune(database) == 0
    async with open_writer(database) as writer:
        (entry,) = await entries.list_entries(writer.connection, entries.Filter(), waiting_only=True, limit=9)
        assert await entries.discard(writer.connection, entry, None)
    assert await prune(database) == 1
    books = await totals(database)
    assert (books.committed, books.dropped) == (1, 1)
