"""Failures that lost data elsewhere, tried on the ingest server. Each test bears the failure's name.

The gateway's are in `test_what_others_lost_gateway.py`.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest

from device_drivers.reading import Series
from gateway.link.broker import BrokerOptions
from gateway.link.manual_ack_session import ManualAckSession
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from gateway.link.wire import Gap
from ingest_server.config import IngestConfig
from ingest_server.counters import Counters
from ingest_server.source import MqttSource
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from tests.golden.wire import independent
from tests.ingest_server.conftest import config, configuration, peer_of, serving
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    NOW_US,
    PATIENCE_S,
    SECOND,
    TOPICS,
    Line,
    books_of,
    data,
    dropped,
    gap,
    reading,
    running_line,
    settle,
    status,
    until_waiting_for_a_lock,
    values,
)
from tests.peers.mosquitto import Broker
from tests.peers.postgres import Database

__all__ = ["config"]

ATTIC = "seoul-1/attic"


def fresh(seq: int, *, series: Series | None = None, instance: int = 1) -> bytes:
    """Two readings of this moment, whose values tell seq and place."""
    at = time.time_ns() // 1000 - SECOND
    named = series or Series("hall-1", "t", "temperature", "°C", "p", "1")
    return data(seq, [reading(seq + n / 2, at, named) for n in range(2)], instance=instance)


def both(*seqs: int) -> list[float]:
    return sorted(seq + n / 2 for seq in seqs for n in range(2))


# -- acknowledging before it was durable


@contextmanager
def held_at_commit(database: Database) -> Iterator[psycopg.Connection]:
    """COMMIT of whatever settles a batch waits until the yielded connection lets go."""
    database.query(
        "CREATE FUNCTION public.wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END $$"
    )
    database.query(
        "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON iot_service.ledger DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION public.wait_at_commit()"
    )
    with psycopg.connect(database.dsn, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(77)")
        yield holder


async def test_acknowledging_before_it_was_durable(database: Database) -> None:
    """Others acknowledged what they had received, or written, and not what the disk had: a crash in between lost it."""
    await settle(database, data(100, before=200))
    with held_at_commit(database) as holder:
        async with running_line(database) as line:
            events = line.feed(data(0), data(1))
            await until_waiting_for_a_lock(database)
            # Written, and in the middle of COMMIT.
            assert not any(event.is_set() for event in events)
            assert line.receipts == []
            assert line.counters.committed == 0
            database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'heal7-iot write'"
            )
            await until_waiting_for_a_lock(database)
            assert line.counters.storage_retries == 1
            assert not any(event.is_set() for event in events), "that COMMIT failed"
            assert line.receipts == []
            assert values(database) == [100.25, 100.5]
            holder.execute("SELECT pg_advisory_unlock(77)")
            await line.acknowledged(events)
    assert values(database) == [0.25, 0.5, 1.25, 1.5, 100.25, 100.5]
    assert line.counters.committed == 4


# -- prefetch against delete


@contextmanager
def worker_process(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server as a process; killed at the end, if it has not been before."""
    with config.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "heal7_iot", "ingest", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("share", [False, True], ids=["one worker", "a worker beside it"])
async def test_prefetch_against_delete(database: Database, mosquitto: Broker, tmp_path: Path, share: bool) -> None:
    """Others deleted at the sender what a consumer had merely prefetched, or brought back what was deleted since.

    A worker dies with batches that the broker has handed to it. Meanwhile the gateway's spool is full: it drops some of
    them and says so. What the broker then delivers again may come before that gap, or after it.
    """
    file = tmp_path / "ingest.toml"
    share_line = 'share = "workers"\n' if share else ""
    file.write_text(
        f'[mqtt]\nport = {mosquitto.port}\nkeepalive_s = 2\n[database]\ndsn = "{database.dsn}"\n'
        f"[ingest]\nreceive_maximum = 40\n{share_line}"
    )
    config = configuration(database.dsn, mosquitto, ingest={"share": "workers"} if share else {})
    held, given_up = [*range(5), *range(10, 20)], range(5, 10)
    async with peer_of(config) as peer:
        with psycopg.connect(database.dsn) as blocker, worker_process(file) as dying:
            await peer.online()
            await peer.send(fresh(100))
            await peer.receipted(EPOCH, 100)
            blocker.execute("LOCK TABLE iot_service.series_latest IN ACCESS EXCLUSIVE MODE")
            await peer.send(*(fresh(seq) for seq in range(20)))
            await until_waiting_for_a_lock(database)
            receipts = len(peer.receipts)
            dying.kill()
            dying.wait()
            blocker.rollback()
        assert len(peer.receipts) == receipts, "nothing of what it had prefetched was settled"
        async with serving(config):
            await peer.until(lambda: peer.servers[-1].state == "online" and len(peer.servers) > 1)
            lost = gap(20, [dropped(5, [2] * 5)], before=40)
            await peer.send(*(fresh(seq) for seq in held), lost)
            await peer.receipted(EPOCH, *range(21))
            # Stale copies: of what was dropped meanwhile, of what is settled.
            await peer.send(*(fresh(seq) for seq in range(20)), fresh(101))
            await peer.receipted(EPOCH, 101)
    seen = values(database)
    assert [v for v in seen if int(v) not in given_up] == both(*held, 100, 101)
    books = await books_of(database)
    brought_back = len([v for v in seen if int(v) in given_up])
    assert brought_back + books.dropped == 2 * len(given_up), "each was committed or dropped, and none both"
    assert (books.committed, books.presumed_lost) == (len(seen), 0)


# -- an ack slot leaked on a parse error


def malformed(n: int) -> bytes:
    """A payload that is no sound batch, each in another way."""
    good = fresh(n)
    bad_body = independent.Plan(b"\xc1", 1, epoch=9, seq=n).payload()
    kinds = (b"", b"H7IB", good[:-1], good + b"x", bytes([good[0] ^ 1]) + good[1:], b"{}" * n, bytes(200_000))
    version = independent.Plan(b"", 1, version=2).payload()
    other_name = data(n, gateway=ATTIC)
    return (*kinds, bad_body, version, other_name)[n % 10]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_an_ack_slot_leaked_on_a_parse_error(database: Database, mosquitto: Broker, protocol: str) -> None:
    """Others left unacknowledged what they could not parse: after as many as the window, the line stood still."""
    config = configuration(database.dsn, mosquitto, mqtt={"protocol": protocol}, ingest={"receive_maximum": 3})
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        for n in range(60):
            await peer.send(malformed(n))
            await peer.session.publish(TOPICS.status(GATEWAY), malformed(n))
            await peer.session.publish(f"{TOPICS.root}/a b/c/batch", malformed(n))
        await peer.send(*(fresh(seq) for seq in range(20)))
        await peer.receipted(EPOCH, *range(20))
    assert values(database) == both(*range(20))


async def _broker_that_sends_no_text(acknowledged: asyncio.Event, left: asyncio.Event) -> asyncio.Server:
    """Takes one connection and a subscription, then delivers with QoS 1 on a topic that is not UTF-8."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.read(1):
            length = (await reader.readexactly(1))[0]
            packet = await reader.readexactly(length)
            kind = header[0] >> 4
            if kind == 1:  # CONNECT
                writer.write(b"\x20\x02\x00\x00")
            elif kind == 8:  # SUBSCRIBE
                writer.write(b"\x90\x03" + packet[:2] + b"\x01")
                writer.write(b"\x32\x08" + b"\x00\x03\xff\xfe/" + b"\x00\x07" + b"x")
            elif kind == 4 and packet == b"\x00\x07":  # PUBACK
                acknowledged.set()
        writer.close()
        await writer.wait_closed()
        left.set()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_an_ack_slot_leaked_on_a_topic_that_is_no_text() -> None:
    """Not every broker checks: once the error left the callback, and the place was never freed."""
    acknowledged, left = asyncio.Event(), asyncio.Event()
    server = await _broker_that_sends_no_text(acknowledged, left)
    source = MqttSource(
        BrokerOptions(), ledger_id="", worker="w", receive_maximum=1, share=None, clock_s=time.monotonic
    )
    options = BrokerOptions(port=server.sockets[0].getsockname()[1])
    async with server, asyncio.timeout(PATIENCE_S):
        async with ManualAckSession(options, "w", ("w", b""), False, 1, source._on_message) as session:
            await session.subscribe(["a"])
            await acknowledged.wait()
        await left.wait()
    assert source.alien == 1


# -- a poison record retried for ever

POISON = Series("poison", "t", "temperature", "°C", "p", "1")


def poisoned_in(what: str) -> tuple[str, ...]:
    """Statements that make a database of the platform's refuse what the wire allows."""
    function = (
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.device = 'poison' THEN RAISE EXCEPTION 'not one of our devices'; END IF; RETURN NEW; END $$"
    )
    trigger = (
        "CREATE TRIGGER refuse BEFORE INSERT ON iot_service.iot_devices FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    return {
        "device": ("ALTER TABLE iot_service.iot_devices ADD CONSTRAINT no_poison CHECK (device <> 'poison')",),
        "device, by a trigger": (function, trigger),
        "reading": ("ALTER TABLE iot_service.sensor_readings ADD CONSTRAINT no_poison CHECK (value <> 666)",),
    }[what]


@pytest.mark.parametrize("what", ["device", "device, by a trigger", "reading"])
async def test_a_poison_record_retried_for_ever(database: Database, what: str) -> None:
    """Others tried the record that the database refuses again and again, and everything behind it waited."""
    for statement in poisoned_in(what):
        database.query(statement)
    held = [reading(666.0, NOW_US, POISON), reading(7.0, NOW_US + 1)]
    async with running_line(database) as line:
        good = [data(seq, [reading(float(seq))], before=seq) for seq in range(40)]
        await line.settle(*good[:20], data(40, held, before=40), *good[20:])
        await line.settle(data(41, [reading(41.0)], before=42))
        assert line.counters.storage_retries == 0
    ((seq, reason, readings),) = database.query("SELECT seq, reason, readings FROM iot_service.quarantine")
    assert (seq, reason) == (40, "refused_by_database")
    # A name is refused by itself; a row that COPY refuses takes its batch with it.
    assert readings == (2 if what == "reading" else 1)
    others = [float(seq) for seq in range(40)] + [41.0] + ([] if what == "reading" else [7.0])
    assert values(database) == sorted(others)
    assert database.one("SELECT settled::text FROM iot_service.ledger") == "{[0,42)}"
    assert (await books_of(database)).balanced


async def test_a_poison_record_among_thousands_of_poisoned_names(database: Database) -> None:
    """The search for the one at fault is bounded, too: who brings nothing else must not keep the line busy."""
    database.query("ALTER TABLE iot_service.iot_devices ADD CONSTRAINT no_poison CHECK (device NOT LIKE 'poison%')")
    many = [reading(1.0, series=Series(f"poison-{n}", "t", "q", "u", "p", "1")) for n in range(3_000)]
    async with running_line(database) as line:
        await line.settle(data(0, many, before=0), data(1, [reading(5.0)], before=3_000))
        await line.settle(data(2, [reading(6.0)], before=3_001))
    assert values(database) == [5.0, 6.0]
    books = await books_of(database)
    assert (books.quarantined, books.balanced) == (3_000, True)


@pytest.mark.parametrize("table", ["gateways", "quarantine"])
async def test_a_poison_record_that_can_be_kept_nowhere(database: Database, table: str) -> None:
    """Neither settled nor tried for ever: the broker forgets it, the gateway's spool holds it, the others commit."""
    if table == "gateways":
        database.query(f"ALTER TABLE iot_service.gateways ADD CONSTRAINT known CHECK (name <> '{ATTIC}')")
    else:
        for statement in poisoned_in("reading"):
            database.query(statement)
        database.query("ALTER TABLE iot_service.quarantine ADD CONSTRAINT known CHECK (seq <> 7)")
    async with running_line(database) as line:
        if table == "gateways":
            events = line.feed(data(7, gateway=ATTIC), data(8, gateway=ATTIC), gateway=ATTIC)
            events += line.feed(data(0), data(1))
        else:
            events = line.feed(data(0), data(7, [reading(666.0)], before=14), data(1))
        await line.acknowledged(events)
        refused = 2 if table == "gateways" else 1
        assert (line.counters.refused, line.counters.settled) == (refused, 2)
        assert line.counters.storage_retries <= 1
        assert values(database) == [0.25, 0.5, 1.25, 1.5]
        assert [(e.epoch, e.settled) for _, r in line.receipts for e in r.epochs] == [(EPOCH, RangeSet([(0, 2)]))]
        # Once the platform has mended its constraint, what the gateway sends again is settled.
        database.query(f"ALTER TABLE iot_service.{table} DROP CONSTRAINT known")
        again = data(7, gateway=ATTIC) if table == "gateways" else data(7, [reading(666.0)], before=14)
        await line.acknowledged(line.feed(again, gateway=ATTIC if table == "gateways" else GATEWAY))
    assert line.counters.settled == 3


async def test_a_poison_status_ends_no_status_of_others(database: Database, config: IngestConfig) -> None:
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        poison = json.loads(status(EpochBook(epoch=5, next=1, sealed=1, held=RangeSet())).payload())
        for bad in ({"version": "a\0b"}, {"sent_at_us": 10**30}, {"epochs": [{"epoch": 1}]}):
            await peer.session.publish(TOPICS.status(ATTIC), json.dumps(poison | bad).encode())
        await peer.say(status(nonce=0xF))
        await peer.until(lambda: any(r.nonce == 0xF for _, r in peer.receipts))


# -- success counted where data was discarded


@asynccontextmanager
async def counted(database: Database, bound: QuarantineBound) -> AsyncIterator[Line]:
    """A line whose counters are compared with the table and the ledger at the end."""
    async with running_line(database, bound=bound) as line:
        yield line
    count, books = line.counters, await books_of(database)
    assert count.committed == books.committed == len(values(database))
    assert count.quarantined == books.quarantined
    told = "SELECT COALESCE(sum(readings), 0)::bigint FROM iot_service.data_gaps WHERE reason = 'quarantine_bound'"
    assert count.dropped == database.one(told)
    assert count.duplicates == books.duplicates
    assert books.balanced


def fates(count: Counters) -> int:
    """Batches of which something is said to have become."""
    return count.settled + count.duplicates + count.damaged + count.unsupported + count.postponed + count.refused


async def test_success_counted_where_data_was_discarded(database: Database) -> None:
    """Others counted as written what a full buffer, a failed flush or a filter had thrown away."""
    for statement in poisoned_in("reading"):
        database.query(statement)
    bad = [reading(float("nan")), reading(1.0)]
    async with counted(database, QuarantineBound(entries=2)) as line:
        await line.settle(data(0), data(0), data(1, bad, before=2), data(0)[:-1])
        await line.settle(data(2, [reading(666.0)], before=4), data(3, bad, before=5), data(0))
        await line.settle(gap(4, [dropped(5, [9])], before=7), independent.Plan(b"", 1, version=7).payload())
        assert fates(line.counters) == 9
        assert (line.counters.settled, line.counters.duplicates) == (5, 2)
        assert (line.counters.quarantined, line.counters.dropped) == (2, 1)


async def test_success_counted_where_a_transaction_failed(database: Database) -> None:
    """Nothing is counted for an attempt that was rolled back, and once what its repetition wrote."""
    await settle(database, data(100, before=200))
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database) as line:
            blocker.execute("LOCK TABLE iot_service.ledger IN SHARE MODE")
            events = line.feed(data(0), data(1), data(1))
            await until_waiting_for_a_lock(database)
            database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'heal7-iot write'"
            )
            blocker.rollback()
            await line.acknowledged(events)
    count = line.counters
    assert (count.committed, count.settled, count.duplicates) == (4, 2, 1)
    assert count.storage_retries >= 1
    assert (await books_of(database)).committed == 6


async def test_success_counted_where_nobody_was_told(database: Database) -> None:
    """Receipts without a broker, statuses without a database: each is counted as what it is."""
    database.query("UPDATE iot_service.ledger_identity SET created_at = now()")
    async with running_line(database) as line:
        line.pipeline._receipts._publish = lambda _topic, _payload: False
        await line.settle(data(0), gap(1, [Gap("overrun", 0, 0, (), 3, None, None)], before=2))
    assert line.counters.receipts_unsent == 1
    assert line.counters.committed == 2
