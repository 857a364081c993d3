"""Who is there: heartbeats, goodbyes, silence, and two boxes under one name."""

import asyncio
import time
from dataclasses import replace

import psycopg
import pytest

from device_drivers.reading import Series
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook, Status
from gateway.link.wire import Gap
from ingest_server.errors import BatchRejected
from ingest_server.storage.line import liveness
from ingest_server.storage.line.liveness import Heard
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.queries import fleet
from tests.ingest_server.line import (
    DAY,
    EPOCH,
    GATEWAY,
    NOW_US,
    SECOND,
    books_of,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    settle,
    status,
    until_waiting_for_a_lock,
    values,
)
from tests.peers.postgres import Database

ATTIC = "seoul-1/attic"


def book(next_seq: int, sealed: int, *held: tuple[int, int], epoch: int = EPOCH) -> EpochBook:
    return EpochBook(epoch=epoch, next=next_seq, sealed=sealed, held=RangeSet(held))


async def hear(writer: Writer, said: Status, *, gateway: str = GATEWAY, lost_after_s: float = 600) -> Heard:
    number = await writer.catalogue.gateway_id(gateway)
    return await liveness.hear(writer.connection, number, said, lost_after_s=lost_after_s, device_silence_s=900)


def gateway_row(database: Database, name: str = GATEWAY) -> tuple[str, int | None]:
    ((state, instance),) = database.query("SELECT state, instance FROM iot_service.gateways WHERE name = %s", name)
    return state, instance


async def test_a_heartbeat_is_entered_and_answered_with_all_that_is_settled(database: Database) -> None:
    await settle(database, data(0), data(1), data(3))
    async with open_writer(database) as writer:
        heard = await hear(writer, status(book(5, 10, (2, 3), (4, 5)), book(0, 0, epoch=9), instance=77, beat=3))
    assert heard == Heard({EPOCH: RangeSet([(0, 2), (3, 4)]), 9: RangeSet()}, False, (), {})
    assert gateway_row(database) == ("online", 77)
    books = await books_of(database)
    assert (books.sealed, books.committed, books.in_flight, books.balanced) == (10, 6, 4, True)
    ((offset, *spool),) = database.query(
        "SELECT clock_offset_us, spool_bytes, spool_bound_bytes, spool_batches, spool_readings"
        " FROM iot_service.gateways"
    )
    assert spool == [1, 2, 3, 4]
    assert isinstance(offset, int)


async def test_a_beat_that_was_overtaken_is_ignored(database: Database) -> None:
    async with open_writer(database) as writer:
        await hear(writer, status(book(9, 18, (0, 9)), beat=5))
        stale = await hear(writer, status(book(4, 8, (0, 4)), beat=4))
        again = await hear(writer, status(book(9, 18, (0, 9)), beat=5))
    assert (stale.stale, stale.settled) == (True, {})
    assert not again.stale, "the same beat may come twice, and each is answered"
    assert database.one("SELECT held::text FROM iot_service.ledger") == "{[0,9)}"


async def test_an_epoch_that_is_not_listed_any_more_is_not_held(database: Database) -> None:
    async with open_writer(database) as writer:
        await hear(writer, status(book(2, 4, (0, 2)), book(3, 6, (0, 3), epoch=9), beat=0))
        assert (await books_of(database)).balanced
        await hear(writer, status(book(2, 4, (0, 2)), beat=1))
    books = await books_of(database)
    assert (books.balanced, books.epochs_with_missing) == (False, 1)


async def test_what_nobody_has_is_presumed_lost_and_corrected_when_it_arrives(database: Database) -> None:
    async with open_writer(database) as writer:
        await settle(database, data(0))
        first = await hear(writer, status(book(4, 9), beat=0), lost_after_s=0)
        assert first.presumed_lost == {}, "the silence begins when it is first noticed"
        second = await hear(writer, status(book(4, 9), beat=1), lost_after_s=0)
        assert second.presumed_lost == {EPOCH: 7}
        assert second.settled == {EPOCH: RangeSet([(0, 1)])}, "never settled"
        third = await hear(writer, status(book(4, 9), beat=2), lost_after_s=0)
        assert third.presumed_lost == {}
    books = await books_of(database)
    assert (books.sealed, books.committed, books.presumed_lost, books.balanced) == (9, 2, 7, True)
    assert database.query("SELECT reason, readings, corrected, seqs::text FROM iot_service.data_gaps") == [
        ("presumed_lost", 7, 0, "{[1,4)}")
    ]
    # Seq 2 comes after all, seq 1 turns out to have been dropped.
    await settle(database, data(2, [reading(2.0), reading(2.5), reading(2.75)], before=4))
    await settle(database, gap(4, [dropped(1, [2])], before=9))
    books = await books_of(database)
    assert (books.committed, books.dropped, books.presumed_lost, books.balanced) == (5, 2, 2, True)
    assert database.query("SELECT reason, readings, corrected, seqs::text FROM iot_service.data_gaps ORDER BY 1") == [
        ("bound", 2, 0, "{[1,2)}"),
        ("presumed_lost", 7, 5, "{[3,4)}"),
    ]
    await settle(database, data(3, before=7))
    books = await books_of(database)
    assert (books.sealed, books.committed, books.presumed_lost, books.in_flight, books.balanced) == (9, 7, 0, 0, True)


async def test_nothing_is_presumed_while_the_gateway_holds_something_or_speaks(database: Database) -> None:
    async with open_writer(database) as writer:
        for beat in range(3):
            heard = await hear(writer, status(book(4, 8, (3, 4)), beat=beat), lost_after_s=0)
            assert heard.presumed_lost == {}
        for beat in range(3, 6):
            heard = await hear(writer, status(book(4, 8), beat=beat), lost_after_s=600)
            assert heard.presumed_lost == {}
        await settle(database, data(0))  # it speaks: its silence begins anew
        heard = await hear(writer, status(book(4, 8), beat=6), lost_after_s=0)
        assert heard.presumed_lost == {}


async def test_a_goodbye_and_a_last_will_of_an_older_instance(database: Database) -> None:
    async with open_writer(database) as writer:
        await hear(writer, status(instance=1))
        await hear(writer, status(instance=2))
        await liveness.gateway_left(writer.connection, GATEWAY, 1)
        assert gateway_row(database) == ("online", 2), "the will of a process that another has followed"
        await liveness.gateway_left(writer.connection, GATEWAY, 2)
        assert gateway_row(database) == ("offline", 2)
        await hear(writer, status(instance=2, beat=1))
        assert gateway_row(database) == ("online", 2)
        await liveness.gateway_left(writer.connection, "no/body", 2)


async def test_two_boxes_with_one_identity(database: Database) -> None:
    old, new = 11, 22
    async with open_writer(database) as writer, running_line(database) as line:
        assert not (await hear(writer, status(instance=old, beat=0))).newly_held
        assert not (await hear(writer, status(instance=new, beat=0))).newly_held
        # One more beat of the older may be a straggler of a process that is gone; a repetition says nothing.
        for beat in (0, 1, 1):
            assert not (await hear(writer, status(instance=old, beat=beat))).newly_held
        assert (await hear(writer, status(instance=old, beat=2))).newly_held == (new,)
        assert not (await hear(writer, status(instance=old, beat=3))).newly_held, "told once"
        await line.settle(data(0, instance=new, epoch=5), data(0, instance=old))
        assert values(database) == [0.25, 0.5]
        assert database.query("SELECT epoch, reason, readings, indices FROM iot_service.quarantine") == [
            (5, "identity_conflict", 2, None)
        ]
        books = await books_of(database)
        assert (books.committed, books.quarantined, books.balanced) == (2, 2, True)
        # Its gaps are taken: in quarantine their seqs would end as presumed lost, with a name that is not theirs.
        await line.settle(gap(2, [dropped(1, [4], epoch=5)], before=6, epoch=5, instance=new))
        assert database.query("SELECT reason, readings FROM iot_service.data_gaps") == [("bound", 4)]
        assert database.one("SELECT count(*) FROM iot_service.quarantine") == 1
        assert await fleet.resolve(writer.connection, GATEWAY) == 2
        await line.settle(data(3, instance=new, epoch=5, before=6))
        assert values(database) == [0.25, 0.5, 3.25, 3.5]
        # The hold shows again if both still speak.
        told = [
            (await hear(writer, status(instance=instance, beat=beat))).newly_held
            for beat in (4, 5, 6)
            for instance in (old, new)
        ]
        assert told == [(), (), (), (), (new,), ()]


async def beat(writer: Writer, instance: int, number: int, *, sent_ago_s: float, arrived_ago_s: float) -> bool:
    """Enters a beat now that was sent and that arrived some time ago; whether somebody is held from now on."""
    gateway = await writer.catalogue.gateway_id(GATEWAY)
    said = status(instance=instance, beat=number, sent_at_us=time.time_ns() // 1000 - int(sent_ago_s * SECOND))
    heard = await liveness.hear(
        writer.connection, gateway, said, lost_after_s=600, device_silence_s=900, age_s=arrived_ago_s
    )
    return bool(heard.newly_held)


async def test_beats_of_a_dead_process_that_waited_at_several_workers_hold_nobody(database: Database) -> None:
    """Three workers share the topics; the database was away while the gateway was started anew."""
    old, new = 11, 22
    async with open_writer(database) as writer:
        for n in range(3):
            assert not await beat(writer, old, n, sent_ago_s=300 - 30 * n, arrived_ago_s=300 - 30 * n)
        # The worker that heard the new process was the first to reach the database again.
        assert not await beat(writer, new, 0, sent_ago_s=60, arrived_ago_s=60)
        for n, ago_s in ((3, 180), (4, 150), (5, 120)):
            assert not await beat(writer, old, n, sent_ago_s=ago_s, arrived_ago_s=ago_s)
        # One that was stopped finds in its socket what was sent long before, and takes it for what comes now.
        for n, ago_s in ((6, 90), (7, 75)):
            assert not await beat(writer, old, n, sent_ago_s=ago_s, arrived_ago_s=0)
        assert not await beat(writer, new, 1, sent_ago_s=0, arrived_ago_s=0)
        # The same process, if it does live, is told all the same.
        assert not await beat(writer, old, 8, sent_ago_s=50, arrived_ago_s=50)
        assert await beat(writer, old, 9, sent_ago_s=20, arrived_ago_s=20)
    assert database.one("SELECT instance FROM iot_service.gateway_instances WHERE held") == new


async def test_a_process_that_is_heard_of_late_is_still_the_older(database: Database) -> None:
    """All its beats waited at another worker: entered last, it is not what came last."""
    old, new = 11, 22
    async with open_writer(database) as writer:
        assert not await beat(writer, new, 0, sent_ago_s=60, arrived_ago_s=60)
        assert not await beat(writer, old, 0, sent_ago_s=90, arrived_ago_s=90)
        for n in (1, 2, 3):
            assert not await beat(writer, new, n, sent_ago_s=60 - 20 * n, arrived_ago_s=60 - 20 * n)


@pytest.mark.parametrize("offset_s", [-86_400, 86_400], ids=["a day behind", "a day ahead"])
@pytest.mark.parametrize("step_s", [0, -7_200, 7_200], ids=["steady", "set back", "set ahead"])
async def test_a_wrong_clock_hides_no_second_box(database: Database, offset_s: int, step_s: int) -> None:
    """Only its own clock's course counts, and not even that where it leaps."""
    old, new = 11, 22
    async with open_writer(database) as writer:
        assert not await beat(writer, old, 0, sent_ago_s=90 - offset_s, arrived_ago_s=90)
        assert not await beat(writer, new, 0, sent_ago_s=80, arrived_ago_s=80)
        assert not await beat(writer, old, 1, sent_ago_s=60 - offset_s - step_s, arrived_ago_s=60)
        assert await beat(writer, old, 2, sent_ago_s=30 - offset_s - step_s, arrived_ago_s=30)


@pytest.mark.parametrize("new_epoch", [False, True], ids=["both are known", "one is new"])
async def test_a_heartbeat_and_a_group_do_not_wait_for_each_other_in_a_circle(
    database: Database, new_epoch: bool
) -> None:
    """Once a heartbeat locked what it lists, then lower epochs that it does not list: a group does it the other way."""
    low, high = EPOCH, EPOCH + 5
    await settle(database, data(0, epoch=low), data(1, epoch=high))
    if new_epoch:
        # Known to the heartbeat from its list alone.
        await settle(database, data(1, epoch=low))
        database.query("DELETE FROM iot_service.ledger WHERE epoch = %s", high)
    else:
        database.query("UPDATE iot_service.ledger SET next_seq = 9 WHERE epoch = %s", low)
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        with psycopg.connect(database.dsn) as group:
            lock = "SELECT FROM iot_service.ledger WHERE epoch = %s FOR UPDATE"
            if new_epoch:
                group.execute("INSERT INTO iot_service.ledger (gateway_id, epoch) VALUES (%s, %s)", (number, high))
                listed = [book(1, 2, epoch=low), book(1, 2, epoch=high)]
            else:
                group.execute(lock, (low,))
                listed = [book(1, 2, epoch=high)]
            hearing = asyncio.create_task(hear(writer, status(*listed)))
            await until_waiting_for_a_lock(database)
            # In a circle PostgreSQL would end one of the two after a second.
            group.execute(lock, (low if new_epoch else high,))
            group.commit()
        assert not (await hearing).stale


async def test_processes_that_have_long_gone_are_forgotten(database: Database) -> None:
    async with open_writer(database) as writer:
        for instance in (1, 2, 3, 4):
            await hear(writer, status(instance=instance))
        database.query("UPDATE iot_service.gateway_instances SET last_heard_at = now() - interval '25 h'")
        database.query("UPDATE iot_service.gateway_instances SET held = true WHERE instance = 2")
        database.query("UPDATE iot_service.gateway_instances SET last_heard_at = now() WHERE instance = 3")
        assert await liveness.prune_instances(writer.connection, 1.0) == 1
    left = database.query("SELECT instance FROM iot_service.gateway_instances ORDER BY 1")
    assert left == [(2,), (3,), (4,)], "held; heard of; the gateway's latest"


async def test_restarts_are_no_second_box(database: Database) -> None:
    async with open_writer(database) as writer:
        for instance in range(1, 6):
            for beat in range(3):
                assert not (await hear(writer, status(instance=instance, beat=beat))).newly_held


async def test_nobody_is_resolved_who_does_not_exist(database: Database) -> None:
    async with open_writer(database) as writer:
        assert await fleet.resolve(writer.connection, "no/body") is None


async def test_devices_show_their_battery_signal_and_last_reading(database: Database) -> None:
    series = [
        Series("a", "battery", "battery", "%", "p", "1"),
        Series("a", "rssi", "rssi", "dBm", "p", "1"),
        Series("a", "t", "temperature", "°C", "p", "1"),
    ]
    now = int(database.one("SELECT extract(epoch FROM now()) * 1000000"))
    async with open_writer(database) as writer, running_line(database, now_us=now) as line:
        held = [
            reading(87.0, now - 5, series[0]),
            reading(-60.0, now - 4, series[1]),
            reading(20.0, now - 3, series[2]),
        ]
        old = [reading(1.0, now - 3600 * SECOND, replace(series[2], device="b"))]
        await line.settle(data(0, held, before=0), data(1, old, before=3))
        await hear(writer, status())
    assert database.query(
        "SELECT device, status, battery_level, signal_strength,"
        " (extract(epoch FROM last_heartbeat_at) * 1000000)::bigint"
        " FROM iot_service.iot_devices ORDER BY device"
    ) == [("a", "active", 87.0, -60.0, now - 3), ("b", "inactive", None, None, now - 3600 * SECOND)]


async def test_maintenance_is_an_operators_to_lift_and_silence_makes_devices_inactive(database: Database) -> None:
    now = int(database.one("SELECT extract(epoch FROM now()) * 1000000"))
    async with open_writer(database) as writer, running_line(database, now_us=now) as line:
        mine = [reading(1.0, now, Series(name, "t", "temperature", "°C", "p", "1")) for name in ("a", "b")]
        await line.settle(data(0, mine))
        await hear(writer, status())
        database.query("UPDATE iot_service.iot_devices SET status = 'maintenance' WHERE device = 'b'")
        await hear(writer, status(beat=1))
        assert await liveness.mark_silent(writer.connection) == []
        database.query("UPDATE iot_service.gateways SET last_heartbeat_at = now() - interval '96 s'")
        assert await liveness.mark_silent(writer.connection) == [GATEWAY]
        assert await liveness.mark_silent(writer.connection) == []
    assert gateway_row(database)[0] == "offline"
    assert database.query("SELECT device, status FROM iot_service.iot_devices ORDER BY 1") == [
        ("a", "inactive"),
        ("b", "maintenance"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        status(version="a\0b"),
        status().model_copy(update={"sent_at_us": 10**30}),
        status(book(2**62, 2**53, (0, 2**62))),
    ],
    ids=["NUL in the version", "a clock of the far future", "everything at its bound"],
)
async def test_odd_statuses_do_not_look_like_an_outage(database: Database, said: Status) -> None:
    async with open_writer(database) as writer:
        try:
            await hear(writer, said)
        except BatchRejected:
            assert gateway_row(database)[0] == "offline", "nothing of it was entered"
        await hear(writer, status(beat=1))
    assert gateway_row(database)[0] == "online"


async def test_the_books_of_a_gateway_can_always_be_added_up(database: Database) -> None:
    """Once, two epochs with the greatest number of readings made the audit of the whole fleet fail."""
    books = [book(1, 2**53, epoch=n) for n in range(1, 40)]
    async with open_writer(database) as writer:
        await hear(writer, status(*books))
    assert (await books_of(database)).sealed == 39 * 2**53


async def test_late_gaps_of_readings_that_were_never_sealed_keep_the_balance(database: Database) -> None:
    async with open_writer(database) as writer:
        await settle(database, gap(0, [Gap("unclean_stop", 0, 0, (), None, NOW_US - DAY, NOW_US)]))
        await hear(writer, status(book(1, 0)))
    assert (await books_of(database)).balanced
