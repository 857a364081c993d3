"""Gateways that lie, invent and exaggerate: they harm themselves, not the books and the memory of the others."""

import sys
from zlib import crc32

import msgpack
import pytest
import zstandard

from gateway.link import wire
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from gateway.link.wire import Batch, Body, Encoding, Envelope, Gap, Kind
from ingest_server import pipeline
from ingest_server.storage.line import catalogue
from ingest_server.storage.line.catalogue import CatalogueLimits, Table
from ingest_server.storage.line.liveness import hear
from tests.ingest_server.line import (
    ANCHOR,
    EPOCH,
    GATEWAY,
    NOW_US,
    TEMPERATURE,
    books_of,
    data,
    gap,
    open_writer,
    running_line,
    settle,
    status,
)
from tests.peers.postgres import Database


async def test_absurd_books_of_one_gateway_leave_those_of_the_others_readable(database: Database) -> None:
    liar = status(*(EpochBook(epoch=n + 1, next=1, sealed=2**53, held=RangeSet()) for n in range(1100)))
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id("seoul-1/liar")
        await hear(
            writer.connection,
            number,
            liar,
            lost_after_s=600.0,
            device_silence_s=900.0,
            new_epochs_per_hour=2_000,
        )
    await settle(database, data(0))
    assert (await books_of(database)).balanced
    assert (await books_of(database, "seoul-1/liar")).sealed == sys.maxsize


async def test_thousands_of_gaps_are_written_at_once(database: Database) -> None:
    """One statement each took more than a second for a batch: a few hundred of them starved the watchdog."""
    named = [Gap(f"reason-{n}", EPOCH, n, (1,), 0, None, None) for n in range(wire.MAX_GAP_SEQS)]
    unsealed = [Gap("overrun", 0, 0, (), None, -1, NOW_US)]
    await settle(database, gap(5000, named), gap(5001, unsealed), gap(5002, []))
    assert database.query(
        "SELECT reason, epoch, seqs::text, readings, from_at IS NULL, to_at IS NULL FROM iot_service.data_gaps"
        " WHERE reason IN ('reason-0', 'reason-4095', 'overrun') ORDER BY gap_id"
    ) == [
        ("reason-0", EPOCH, "{[0,1)}", 1, True, True),
        ("reason-4095", EPOCH, "{[4095,4096)}", 1, True, True),
        ("overrun", None, None, None, True, False),
    ]
    assert (await books_of(database)).dropped == wire.MAX_GAP_SEQS


async def test_a_group_is_bounded_by_what_it_unpacks_to(database: Database) -> None:
    """One reading with 1 MiB of raw frame is a few hundred bytes on the wire, and 500 of them came as one group."""
    payloads = [_swollen(seq) for seq in range(20)]
    async with running_line(database) as line:
        await line.settle(*payloads)
    assert line.counters.groups == -(-20 // (pipeline.MAX_GROUP_BYTES // wire.MAX_BODY))
    assert (await books_of(database)).committed == 20


def _swollen(seq: int) -> bytes:
    content = {
        "series": msgpack.packb([tuple(getattr(TEMPERATURE, name) for name in TEMPERATURE.__slots__)]),
        "t": (NOW_US - ANCHOR.offset_us).to_bytes(8, "little"),
        "s": bytes(2),
        "v": bytes(8),
        "q": bytes(1),
        "frames": {0: b""},
    }
    content["frames"] = {0: bytes(wire.MAX_BODY - len(msgpack.packb(content)) - 3)}
    packed = msgpack.packb(content)
    assert len(packed) == wire.MAX_BODY
    stored = zstandard.compress(packed)
    envelope = Envelope(Kind.DATA, GATEWAY, EPOCH, seq, 1, seq, ANCHOR, 1)
    return wire.encode(Batch(envelope, Body(Encoding.ZSTD, stored, len(packed), crc32(stored))))


async def test_remembered_tables_are_bounded_by_bytes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same series in another order is another table; radio gives another order in each batch."""
    names = [("hall-1", f"channel-{n}", "temperature", "°C", "bthome_v2", "2.1") for n in range(50)]
    tables = [msgpack.packb(names[n:] + names[:n]) for n in range(50)]
    size = len(tables[0]) + 4 * len(names)
    async with open_writer(database) as writer:
        small = 5 * size
        monkeypatch.setattr(catalogue, "_MAX_TABLES_BYTES", small)
        for table in tables:
            found = await writer.catalogue.tables([(GATEWAY, table)], 0.0)
            assert isinstance(found[GATEWAY, table], Table)
            assert sum(len(packed) for _, packed in writer.catalogue._tables) <= small


async def test_epochs_beyond_the_bound_wait_in_the_spool_of_who_begins_them(database: Database) -> None:
    """Each is a row of the ledger, for long: but a batch is not given up for it."""
    async with running_line(database, new_epochs_per_hour=3) as line:
        await line.settle(*(data(0, epoch=n) for n in (1, 2, 3)))
        await line.settle(*(data(0, epoch=n) for n in (4, 5, 1, 2)), data(1, epoch=3))
        await line.settle(gap(2, [Gap("bound", n, 0, (1,), 0, None, None) for n in (1, 6)], epoch=1, before=2))
        await line.acknowledged(line.feed(data(0, gateway="seoul-1/attic"), gateway="seoul-1/attic"))
        assert line.counters.postponed == 3
        assert database.query(
            "SELECT epoch FROM iot_service.ledger JOIN iot_service.gateways USING (gateway_id)"
            " WHERE name = %s ORDER BY 1",
            GATEWAY,
        ) == [(1,), (2,), (3,)]
        receipted = {e.epoch for _, r in line.receipts for e in r.epochs}
        assert receipted == {1, 2, 3, EPOCH}
        # Another hour, and there is room.
        database.query("UPDATE iot_service.ledger SET first_seen_at = first_seen_at - interval '61 min'")
        await line.settle(data(0, epoch=4), data(0, epoch=5))
    books = await books_of(database)
    assert (books.committed, books.duplicates, books.epochs) == (12, 2, 5)


async def test_a_status_begins_no_more_epochs_than_batches_may(database: Database) -> None:
    listed = [EpochBook(epoch=n, next=1, sealed=1, held=RangeSet([(0, 1)])) for n in range(1, 9)]
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for beat in range(2):
            said = status(*listed, beat=beat)
            heard = await hear(
                writer.connection, number, said, lost_after_s=9, device_silence_s=9, new_epochs_per_hour=5
            )
            # The answer is whole all the same: of what is not entered nothing is settled.
            assert heard.settled == {n: RangeSet() for n in range(1, 9)}
    assert database.one("SELECT count(*) FROM iot_service.ledger") == 5


async def test_a_home_that_comes_back_is_refused_what_was_handed_over(database: Database) -> None:
    """By the worker that handed it over at once, by another that knew the old home within half a minute."""
    limits = CatalogueLimits(handover_silence_s=0.05)
    async with running_line(database, limits=limits) as line, open_writer(database, limits) as other:
        await line.settle(data(0, gateway="seoul-1/a"), gateway="seoul-1/a")
        packed = msgpack.packb([tuple(getattr(TEMPERATURE, name) for name in TEMPERATURE.__slots__)])
        wanted = [("seoul-1/a", packed)]
        known = (await other.catalogue.tables(wanted, 0.0))[wanted[0]]
        assert isinstance(known, Table)
        assert not known.refusals
        database.query("UPDATE iot_service.iot_devices SET home_since = now() - interval '1 hour'")
        database.query("UPDATE iot_service.gateways SET first_seen_at = now() - interval '1 hour'")
        database.query("UPDATE iot_service.ledger SET last_batch_at = now() - interval '1 hour'")
        await line.settle(data(0, gateway="seoul-1/b"), gateway="seoul-1/b")
        database.query("UPDATE iot_service.iot_devices SET home_since = now() + interval '1 hour'")
        await line.settle(data(1, gateway="seoul-1/a"), gateway="seoul-1/a")
        known = (await other.catalogue.tables(wanted, 31.0))[wanted[0]]
        assert isinstance(known, Table)
        assert {refusal.reason for refusal in known.refusals.values()} == {"device_elsewhere"}
    assert (await books_of(database, "seoul-1/a")).quarantined == 2
    assert (await books_of(database, "seoul-1/b")).committed == 2
