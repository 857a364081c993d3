"""The group transaction, through the pipeline that runs it: settled once, whole, or not at all."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from device_drivers.reading import Series
from gateway.link import wire
from gateway.link.ranges import RangeSet
from gateway.link.wire import Gap
from ingest_server.decoder import Columns, open_body
from ingest_server.errors import StorageUnavailable
from ingest_server.storage.line import group
from ingest_server.storage.line.group import Entry, Rejection, SettledMeanwhile
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.pools import Pool, PoolOptions
from tests.golden.wire import independent
from tests.ingest_server.line import (
    BOUND,
    DAY,
    EPOCH,
    GATEWAY,
    HUMIDITY,
    NOW_US,
    TEMPERATURE,
    TOPICS,
    books_of,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    settle,
    settled,
    until_waiting_for_a_lock,
    values,
    writer_options,
)
from tests.peers.postgres import Database

GOLDEN = Path(__file__).parents[1] / "golden" / "wire" / "v1"


async def test_a_batch_becomes_rows_a_ledger_entry_and_a_receipt(database: Database) -> None:
    line = await settle(database, data(0, [reading(21.5), reading(40.25, NOW_US + 1, HUMIDITY)]))
    assert database.query(
        "SELECT d.device, s.channel, s.unit, r.value, r.reliability, r.causes, r.revision,"
        " (extract(epoch FROM r.recorded_at) * 1000000)::bigint FROM iot_service.sensor_readings r"
        " JOIN iot_service.series s USING (series_id) JOIN iot_service.iot_devices d USING (device_id) ORDER BY value"
    ) == [
        ("hall-1", "temperature", "°C", 21.5, 100, 0, 0, NOW_US),
        ("hall-1", "humidity", "%", 40.25, 100, 0, 0, NOW_US + 1),
    ]
    ((topic, receipt),) = line.receipts
    assert topic == TOPICS.receipt(GATEWAY)
    assert receipt.epochs[0].settled == RangeSet([(0, 1)])
    assert receipt.nonce is None
    assert receipt.ledger == str(database.one("SELECT ledger_id FROM iot_service.ledger_identity"))
    books = await books_of(database)
    assert (books.sealed, books.committed, books.in_flight, books.balanced) == (2, 2, 0, True)


async def test_a_redelivery_in_one_group_is_written_once(database: Database) -> None:
    line = await settle(database, data(0), data(1), data(0), data(0))
    assert values(database) == [0.25, 0.5, 1.25, 1.5]
    assert (await books_of(database)).duplicates == 2
    assert line.counters.duplicates == 2
    assert line.receipts[0][1].epochs[0].settled == RangeSet([(0, 2)])


async def test_a_redelivery_over_groups_is_written_once_and_receipted_again(database: Database) -> None:
    async with running_line(database) as line:
        for _ in range(3):
            await line.settle(data(0), data(1))
    assert values(database) == [0.25, 0.5, 1.25, 1.5]
    assert [r.epochs[0].settled for _, r in line.receipts] == [RangeSet([(0, 2)])] * 3
    assert (await books_of(database)).duplicates == 4


async def test_the_same_seq_in_another_epoch_or_of_another_gateway_is_another_batch(database: Database) -> None:
    async with running_line(database) as line:
        events = line.feed(data(0), data(0, epoch=EPOCH + 1))
        events += line.feed(
            data(
                0, [reading(7.0, series=Series("attic-1", "t", "temperature", "°C", "p", "1"))], gateway="seoul-1/attic"
            ),
            gateway="seoul-1/attic",
        )
        await line.acknowledged(events)
    assert values(database) == [0.25, 0.25, 0.5, 0.5, 7.0]
    assert {topic for topic, _ in line.receipts} == {TOPICS.receipt(GATEWAY), TOPICS.receipt("seoul-1/attic")}


async def test_a_batch_that_another_worker_settles_between_copy_and_claim_is_written_once(database: Database) -> None:
    """Worker B holds the ledger while worker A has run its COPY; when B commits, A must undo its own."""
    await settle(database, data(100, [reading()], before=200))  # gateway, series and partition are there
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database) as a, running_line(database) as b:
            # B's group holds the lock of the ledger, since it waits to enter its quarantined reading.
            blocker.execute("LOCK TABLE iot_service.quarantine IN ACCESS EXCLUSIVE MODE")
            from_b = b.feed(data(0), data(1, [reading(1.0), reading(float("nan"))]))
            await until_waiting_for_a_lock(database, 1)
            from_a = a.feed(data(0), data(2))
            await until_waiting_for_a_lock(database, 2)
            assert not any(event.is_set() for event in from_a + from_b)
            assert not a.receipts
            blocker.rollback()
            await a.acknowledged(from_a + from_b)
    assert values(database) == [0.25, 0.5, 1.0, 2.25, 2.5, 21.5]
    assert (a.counters.conflicts, b.counters.conflicts) == (1, 0)
    assert settled(database) == "{[0,3),[100,101)}"
    assert a.receipts[-1][1].epochs[0].settled == RangeSet([(0, 3), (100, 101)])
    assert (await books_of(database)).duplicates == 1


async def test_writing_what_was_settled_meanwhile_raises_and_writes_nothing(database: Database) -> None:
    async with open_writer(database) as writer:
        entry = await _entry(writer, data(0))
        await group.write_group(writer.connection, writer.partitions, [entry], BOUND)
        with pytest.raises(SettledMeanwhile):
            await group.write_group(writer.connection, writer.partitions, [entry], BOUND)
    assert values(database) == [0.25, 0.5]


async def _entry(writer: Writer, payload: bytes) -> Entry:
    """As the pipeline makes it of a batch of TEMPERATURE readings."""
    batch = wire.decode(payload, GATEWAY)
    body = open_body(batch)
    assert isinstance(body, Columns)
    number = await writer.catalogue.gateway_id(GATEWAY)
    table = (await writer.catalogue.tables([(GATEWAY, body.table)], 0.0))[GATEWAY, body.table]
    assert not isinstance(table, Exception)
    rows = Rows(body.times_us, table.ids[body.series], body.values, body.reliability, body.causes)
    return Entry(number, batch.envelope, payload, rows)


async def _terminate(database: Database) -> None:
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'heal7-iot write'"
    )


async def test_a_series_cached_before_a_rollback_is_not_used(database: Database) -> None:
    """The connection is cut after the registration; a restored database gives the same number to something else."""
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database) as line:
            blocker.execute("LOCK TABLE iot_service.series_latest IN ACCESS EXCLUSIVE MODE")
            events = line.feed(data(0))
            await until_waiting_for_a_lock(database)
            number = database.one("SELECT series_id FROM iot_service.series")
            # What a restore of an older copy would leave: that number belongs to another series.
            database.query("UPDATE iot_service.series SET channel = 'other', unit = 'x' WHERE series_id = %s", number)
            await _terminate(database)
            blocker.rollback()
            await line.acknowledged(events)
    assert line.counters.storage_retries >= 1
    assert database.query(
        "SELECT DISTINCT s.channel, s.series_id = %s FROM iot_service.sensor_readings JOIN iot_service.series s"
        " USING (series_id)",
        number,
    ) == [("temperature", False)]
    assert values(database) == [0.25, 0.5]


async def test_a_connection_cut_within_the_group_leaves_nothing_and_is_repeated(database: Database) -> None:
    await settle(database, data(100, [reading()], before=200))
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database) as line:
            blocker.execute("LOCK TABLE iot_service.ledger IN SHARE MODE")
            events = line.feed(data(0), data(1))
            await until_waiting_for_a_lock(database)
            await _terminate(database)
            assert not any(event.is_set() for event in events)
            assert not line.receipts
            blocker.rollback()
            await line.acknowledged(events)
    assert values(database) == [0.25, 0.5, 1.25, 1.5, 21.5]
    # The repetition is the server's own, not the gateway's.
    assert (await books_of(database)).duplicates == 0


async def test_data_wins_over_a_gap_of_the_same_group_in_either_order(database: Database) -> None:
    for epoch, in_order in ((1, True), (2, False)):
        batches = [data(0, epoch=epoch), gap(1, [dropped(0, [2], epoch=epoch)], epoch=epoch, before=2)]
        await settle(database, *(batches if in_order else reversed(batches)))
        assert settled(database, epoch) == "{[0,2)}"
    books = await books_of(database)
    assert (books.sealed, books.committed, books.dropped, books.balanced) == (4, 4, 0, True)
    assert database.one("SELECT count(*) FROM iot_service.data_gaps") == 0


async def test_the_first_settlement_wins_over_groups(database: Database) -> None:
    async with running_line(database) as line:
        await line.settle(gap(2, [dropped(0, [2, 2])], before=4))
        await line.settle(data(0), data(1))  # late: they were counted as dropped
        await line.settle(data(3, before=4))
        await line.settle(gap(4, [dropped(3, [2])], before=6))  # late: it was committed
    books = await books_of(database)
    assert values(database) == [3.25, 3.5]
    assert (books.sealed, books.committed, books.dropped, books.duplicates) == (6, 2, 4, 2)
    assert books.balanced
    assert settled(database) == "{[0,5)}"
    assert database.query("SELECT reason, readings, seqs::text, from_at IS NULL FROM iot_service.data_gaps") == [
        ("bound", 4, "{[0,2)}", False)
    ]


async def test_a_gap_counts_only_what_it_newly_settles(database: Database) -> None:
    await settle(database, data(1))
    await settle(
        database,
        gap(5, [dropped(0, [2, 2, 7]), dropped(2, [7, 1]), dropped(0, [2])], before=12),
        gap(6, [dropped(3, [1, 3])], before=12),
    )
    assert settled(database) == "{[0,7)}"
    books = await books_of(database)
    assert (books.committed, books.dropped) == (2, 2 + 7 + 1 + 3)
    assert database.query("SELECT readings, seqs::text FROM iot_service.data_gaps ORDER BY gap_id") == [
        (9, "{[0,1),[2,3)}"),
        (1, "{[3,4)}"),
        (3, "{[4,5)}"),
    ]


async def test_a_gap_settles_seqs_of_an_older_epoch(database: Database) -> None:
    line = await settle(database, gap(0, [dropped(4, [5], epoch=99)]))
    assert settled(database, 99) == "{[4,5)}"
    assert {(e.epoch, e.settled) for e in line.receipts[0][1].epochs} == {
        (EPOCH, RangeSet([(0, 1)])),
        (99, RangeSet([(4, 5)])),
    }


async def test_readings_that_were_never_sealed_are_told_and_not_in_the_equation(database: Database) -> None:
    gaps = [Gap("unclean_stop", 0, 0, (), None, None, NOW_US), Gap("overrun", 0, 0, (), 12, -1, 2**60)]
    await settle(database, gap(0, gaps))
    assert database.query(
        "SELECT reason, readings, epoch, seqs::text, from_at IS NULL, to_at IS NULL"
        " FROM iot_service.data_gaps ORDER BY 1"
    ) == [("overrun", 12, None, None, True, True), ("unclean_stop", None, None, None, True, False)]
    books = await books_of(database)
    assert (books.sealed, books.dropped, books.balanced) == (0, 0, True)


async def test_impossible_readings_are_quarantined_and_the_rest_commits(database: Database) -> None:
    held = [
        reading(1.0),
        reading(float("nan")),
        reading(float("inf"), NOW_US - 500 * DAY),
        reading(4.0, NOW_US - 500 * DAY),
        reading(5.0, NOW_US + 3600 * 1_000_000),
        reading(6.0, 0),
        reading(7.0, 4_102_444_800_000_000),
        reading(8.0),
    ]
    line = await settle(database, data(0, held))
    assert values(database) == [1.0, 8.0]
    assert database.query("SELECT reason, readings, indices FROM iot_service.quarantine ORDER BY quarantine_id") == [
        ("value_not_finite", 2, [1, 2]),
        ("time_too_old", 2, [3, 5]),
        ("time_in_future", 2, [4, 6]),
    ]
    books = await books_of(database)
    assert (books.sealed, books.committed, books.quarantined, books.balanced) == (8, 2, 6, True)
    assert line.receipts[0][1].epochs[0].settled == RangeSet([(0, 1)])


async def test_the_bounds_of_accepted_time_are_accepted(database: Database) -> None:
    earliest, latest = NOW_US - 400 * DAY, NOW_US + 300 * 1_000_000
    held = [reading(float(n), at) for n, at in enumerate((earliest - 1, earliest, latest, latest + 1))]
    await settle(database, data(0, held))
    assert values(database) == [1.0, 2.0]


async def test_frames_of_unknown_firmware_are_quarantined(database: Database) -> None:
    unknown = Series("hall-2", "frame", "frame", "", "", "9.9")
    body = independent.data_body(
        [[TEMPERATURE.device, "t", "temperature", "°C", "p", "1"], [unknown.device, "frame", "frame", "", "", "9.9"]],
        [(1_000_000_000, 0, 20.0, 100), (1_000_000_001, 1, float("nan"), 0)],
        frames={1: b"\x42\x4d"},
    )
    payload = independent.Plan(body, 2, offset=NOW_US - 1_000_000_000).payload()
    await settle(database, payload)
    assert values(database) == [20.0]
    assert database.query("SELECT reason, indices, payload FROM iot_service.quarantine") == [
        ("unknown_firmware", [1], payload)
    ]


async def test_many_refused_series_make_one_entry_of_quarantine(database: Database) -> None:
    """Each entry carries the payload: one for each series would make gigabytes of a hostile batch."""
    held = [reading(n, series=Series(f"d{n}", "frame", "frame", "", "", "9.9")) for n in range(200)]
    await settle(database, data(0, held))
    assert database.query("SELECT reason, readings FROM iot_service.quarantine") == [("unknown_firmware", 200)]


@pytest.mark.parametrize(
    "body",
    [
        independent.data_body([["d", "c", "q", "u", "p", "f"]], [(1, 3, 1.0, 100)]),
        independent.data_body([["d\0", "c", "q", "u", "p", "f"]], [(1, 0, 1.0, 100)]),
        independent.data_body([["d", "c", "q", "u", "p", "f"]], [(2**62, 0, 1.0, 100)]),
        b"\xc1",
    ],
    ids=["series index", "control character", "overflow", "no msgpack"],
)
async def test_an_unusable_batch_is_quarantined_whole_and_settled(database: Database, body: bytes) -> None:
    payload = independent.Plan(body, 1, epoch=EPOCH).payload()
    line = await settle(database, payload, data(1, [reading(1.0)], before=1))
    assert values(database) == [1.0]
    assert database.query("SELECT reason, readings, indices, payload FROM iot_service.quarantine") == [
        ("unusable", 1, None, payload)
    ]
    assert settled(database) == "{[0,2)}"
    assert line.receipts
    assert (await books_of(database)).balanced


async def test_damaged_and_unsupported_batches_are_acknowledged_and_not_settled(database: Database) -> None:
    newer = independent.Plan(b"", 1, version=2, epoch=EPOCH).payload()
    async with running_line(database) as line:
        await line.settle(b"", b"garbage" * 9, data(0)[:-1], newer)
        await line.settle(data(1))
    assert (line.counters.damaged, line.counters.unsupported) == (3, 1)
    assert settled(database) == "{[1,2)}"
    assert len(line.receipts) == 1


async def test_a_batch_that_the_database_refuses_is_isolated_and_quarantined(database: Database) -> None:
    """A constraint that an operator added stands for all that a database may refuse."""
    await settle(database, data(100, [reading()], before=200))
    database.query("ALTER TABLE iot_service.series_latest ADD CONSTRAINT sane CHECK (value <> 666)")
    line = await settle(database, data(0), data(1, [reading(666.0, NOW_US + 1)], before=2), data(2, before=3))
    assert values(database) == [0.25, 0.5, 2.25, 2.5, 21.5]
    assert database.query("SELECT seq, reason, readings FROM iot_service.quarantine") == [(1, "refused_by_database", 1)]
    assert settled(database) == "{[0,3),[100,101)}"
    assert line.counters.quarantined == 1
    assert line.receipts[0][1].epochs[0].settled == RangeSet([(0, 3), (100, 101)])


async def test_readings_before_that_would_leave_64_bits_poison_nothing(database: Database) -> None:
    """Once, the sum of both left the column's range, and quarantining it failed again, without an end."""
    async with running_line(database) as line:
        body = independent.data_body([["d", "c", "q", "u", "p", "f"]], [(1, 0, 1.0, 100)])
        for before in (2**53, 2**63 - 1, 2**64 - 1):
            await line.settle(independent.Plan(body, 1, before=before, epoch=3).payload(), data(0))
        await line.settle(data(1))
    assert line.counters.damaged == 2
    assert settled(database) == "{[0,2)}"


async def test_a_gateway_that_was_deleted_beneath_a_connection_is_made_anew(database: Database) -> None:
    """Once, the refusal of the foreign key was taken for the batch's fault, and its quarantine refused for ever."""
    async with running_line(database) as line:
        await line.settle(data(0))
        database.query(
            "TRUNCATE iot_service.gateways, iot_service.ledger, iot_service.iot_devices, iot_service.series,"
            " iot_service.series_profiles, iot_service.sensor_readings, iot_service.series_latest CASCADE"
        )
        await line.settle(data(1))
    assert values(database) == [1.25, 1.5]
    assert line.counters.storage_retries == 1
    assert database.one("SELECT count(*) FROM iot_service.quarantine") == 0


async def test_the_latest_reading_is_the_newest_of_the_table_to_the_microsecond(database: Database) -> None:
    times = [NOW_US - 7, NOW_US + 1, NOW_US - 90 * DAY, NOW_US, NOW_US + 1 - DAY]
    async with running_line(database) as line:
        for seq, at in enumerate(times):
            held = [reading(seq + 0.5, at), reading(seq + 0.75, at - 1, HUMIDITY), reading(seq, at - 2)]
            await line.settle(data(seq, held, before=3 * seq))
    newest = database.query(
        "SELECT DISTINCT ON (series_id) series_id, recorded_at, value, reliability, causes"
        " FROM iot_service.sensor_readings ORDER BY series_id, recorded_at DESC"
    )
    latest = database.query(
        "SELECT series_id, recorded_at, value, reliability, causes FROM iot_service.series_latest ORDER BY series_id"
    )
    assert latest == newest
    assert {row[2] for row in latest} == {1.5, 1.75}


async def test_what_is_in_an_archive_far_away_in_time_keeps_its_microseconds(database: Database) -> None:
    """An interval is multiplied as a floating point number: it must not round."""
    now = 4_102_444_800_123_457  # 2100
    async with running_line(database, now_us=now) as line:
        await line.settle(data(0, [reading(1.0, now)]))
    sql = "SELECT (extract(epoch FROM recorded_at) * 1000000)::bigint FROM iot_service.{}"
    assert [database.one(sql.format(table)) for table in ("sensor_readings", "series_latest")] == [now, now]


async def test_the_line_runs_as_a_member_of_iot_ingest(database: Database) -> None:
    """Partitions included: whoever writes readings must be able to make room for them."""
    database.query(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'line') THEN"
        " CREATE ROLE line LOGIN IN ROLE iot_ingest; END IF; END $$"
    )
    options = writer_options(database)
    as_line = Pool(PoolOptions("write", database.dsn.replace("user=postgres", "user=line"), 1, 30.0, 30.0))
    writer = await Writer.open(replace(options, pool=as_line))
    try:
        entry = await _entry(writer, data(0))
        await group.write_group(writer.connection, writer.partitions, [entry], BOUND)
    finally:
        await writer.close()
    assert values(database) == [0.25, 0.5]


def whole(entry: Entry, reason: str) -> Entry:
    return Entry(
        entry.gateway_id,
        entry.envelope,
        entry.payload,
        rejections=(Rejection(reason, "", entry.envelope.readings, None),),
    )


async def test_an_unreachable_database_is_told_as_such(database: Database) -> None:
    async with open_writer(database) as writer:
        entry = await _entry(writer, data(0))
        await _terminate(database)
        with pytest.raises(StorageUnavailable):
            await group.write_group(writer.connection, writer.partitions, [whole(entry, "x")], BOUND)


async def test_two_workers_that_settle_different_batches_run_side_by_side(database: Database) -> None:
    """The ledger is claimed last: a worker in its COPY holds nobody up."""
    await settle(database, data(100, [reading()], before=200))
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database) as a, running_line(database) as b:
            blocker.execute("LOCK TABLE iot_service.series_latest IN ACCESS EXCLUSIVE MODE")
            from_a = a.feed(data(0))
            await until_waiting_for_a_lock(database, 1)
            nothing_to_copy = independent.Plan(b"\xc1", 1, epoch=EPOCH, seq=1, before=2).payload()
            await b.settle(nothing_to_copy)
            assert not from_a[0].is_set()
            blocker.rollback()
            await a.acknowledged(from_a)
    assert settled(database) == "{[0,2),[100,101)}"


async def test_two_workers_meet_the_same_new_gateway_device_and_month(database: Database) -> None:
    async with running_line(database) as a, running_line(database) as b:
        events = []
        for seq in range(0, 40, 2):
            series = Series(f"d{seq}", "t", "temperature", "°C", "p", "1")
            at = NOW_US - seq * 9 * DAY
            events += a.feed(data(seq, [reading(seq, at, series)], before=seq))
            events += b.feed(data(seq + 1, [reading(seq + 1, at, series)], before=seq + 1))
        await asyncio.gather(a.acknowledged(events))
    assert values(database) == [float(n) for n in range(40)]
    assert settled(database) == "{[0,40)}"
    assert database.one("SELECT count(*) FROM iot_service.series") == 20
    assert database.one("SELECT count(*) FROM iot_service.quarantine") == 0


async def test_every_golden_vector_ends_as_it_is_described(database: Database) -> None:
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    fates = {}
    async with running_line(database) as line:
        for vector in vectors:
            before = line.counters.damaged, line.counters.unsupported, len(line.receipts)
            await line.settle((GOLDEN / vector["file"]).read_bytes())
            damaged, unsupported, receipts = (
                line.counters.damaged - before[0],
                line.counters.unsupported - before[1],
                len(line.receipts) - before[2],
            )
            assert damaged + unsupported + receipts == 1
            # Most vectors are of one identity: what the last one settled must not hide the next.
            removed = database.query("DELETE FROM iot_service.quarantine WHERE indices IS NULL RETURNING reason")
            database.query("UPDATE iot_service.ledger SET settled = '{}'")
            fate = "unusable" if removed else "sound"
            fates[vector["file"]] = "damaged" if damaged else "unsupported" if unsupported else fate
    assert fates == {vector["file"]: vector["fate"] for vector in vectors}


async def test_a_server_that_answers_what_it_has_is_not_stalled(database: Database) -> None:
    """A fleet that sends again what is settled had it restarted by its watchdog after two minutes."""
    async with running_line(database) as line:
        await line.settle(data(0), data(1))
        groups = line.counters.groups
        for payload in (data(0), data(1), b"junk"):
            moves = line.counters.moves()
            await line.settle(payload)
            assert line.counters.moves() > moves
        assert line.counters.groups == groups
