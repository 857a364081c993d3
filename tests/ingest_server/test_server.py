"""The whole server against a real broker and a real database: what it takes, what it survives, when it answers."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_drivers.reading import Series
from firmware_profiles.selection import ProfileSet
from gateway.link.ranges import RangeSet
from gateway.link.receipts import Receipt
from gateway.link.status import EpochBook
from ingest_server.config import IngestConfig
from tests.golden.wire import independent
from tests.ingest_server.conftest import configuration, peer_of, serving
from tests.ingest_server.line import EPOCH, GATEWAY, PATIENCE_S, SECOND, TOPICS, books_of, data, reading, status, values
from tests.peers.mosquitto import Broker
from tests.peers.postgres import Database, make_template, new_database, running_postgres


def now_us() -> int:
    return time.time_ns() // 1000


def fresh(seq: int, count: int = 2, *, epoch: int = EPOCH, device: str = "hall-1") -> bytes:
    """A batch whose readings are of this moment; their values tell seq and place."""
    series = Series(device, "t", "temperature", "°C", "p", "1")
    held = [reading(seq + n / 16, now_us() - SECOND, series) for n in range(count)]
    return data(seq, held, epoch=epoch, before=seq * count)


def all_values(*seqs: int) -> list[float]:
    return sorted(v for seq in seqs for v in (float(seq), seq + 1 / 16))


async def test_batches_are_committed_before_they_are_receipted(database: Database, config: IngestConfig) -> None:
    early: list[Receipt] = []
    async with serving(config), peer_of(config) as peer:

        def look(receipt: Receipt) -> None:
            """Another connection sees every row of what the receipt names, at the moment it arrives."""
            for named in receipt.epochs:
                seen = {int(value) for value in values(database)}
                if not set(named.settled.members()) <= seen:
                    early.append(receipt)

        peer.on_receipt = look
        await peer.online()
        for seq in range(60):
            await peer.send(fresh(seq))
        await peer.receipted(EPOCH, *range(60))
    assert early == []
    assert values(database) == all_values(*range(60))
    assert {topic for topic, _ in peer.receipts} == {TOPICS.receipt(GATEWAY)}


async def test_the_server_says_that_it_is_there_and_that_it_goes(database: Database, config: IngestConfig) -> None:
    async with peer_of(config) as peer:
        async with serving(config):
            await peer.online()
        await peer.until(lambda: peer.servers[-1].state == "offline")
    online = next(s for s in peer.servers if s.state == "online")
    assert online.wire == (1,)
    assert online.ledger == str(database.one("SELECT ledger_id FROM iot_service.ledger_identity"))
    async with peer_of(config, "later") as later:
        await later.until(lambda: bool(later.servers))
        assert later.servers[0].state == "offline", "it is retained"


async def test_a_server_that_starts_publishes_its_profiles(database: Database, config: IngestConfig) -> None:
    """Else no reading would have an accuracy."""
    async with serving(config), peer_of(config) as peer:
        await peer.online()
    expected = sorted((p.name, key) for p in ProfileSet.load() for key in p.channels)
    assert sorted(database.query("SELECT profile, channel FROM iot_service.profile_channels")) == expected


async def test_a_server_that_hears_that_it_is_away_says_that_it_is_not(config: IngestConfig) -> None:
    """The last will of an earlier connection, or another worker's goodbye, may come late."""
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        await peer.session.publish(TOPICS.server_status, b'{"v": 1, "state": "offline"}', retain=True)
        await peer.until(lambda: [s.state for s in peer.servers[-2:]] == ["offline", "online"])


async def test_a_heartbeat_is_answered_with_its_nonce(config: IngestConfig) -> None:
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        await peer.send(fresh(0), fresh(1))
        await peer.receipted(EPOCH, 0, 1)
        book = EpochBook(epoch=EPOCH, next=3, sealed=6, held=RangeSet([(2, 3)]))
        await peer.say(status(book, nonce=0xABC, instance=5))
        await peer.until(lambda: any(r.nonce == 0xABC for _, r in peer.receipts))
        answer = next(r for _, r in peer.receipts if r.nonce == 0xABC)
        assert [(e.epoch, e.settled) for e in answer.epochs] == [(EPOCH, RangeSet([(0, 2)]))]


async def test_ranges_that_are_too_many_for_a_message(database: Database, config: IngestConfig) -> None:
    """A receipt names a part, which adds all the same; an answer that is not whole carries no nonce."""
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        await peer.send(fresh(0))
        await peer.receipted(EPOCH, 0)

        def fragments(count: int) -> str:
            return "{" + ",".join(f"[{n},{n + 1})" for n in range(10, 10 + 2 * count, 2)) + "}"

        book = EpochBook(epoch=EPOCH, next=90_001, sealed=180_002, held=RangeSet([(0, 90_001)]))
        database.query("UPDATE iot_service.ledger SET settled = %s::int8multirange", fragments(2_000))
        await peer.say(status(book, nonce=1, beat=0))
        await peer.until(lambda: any(r.nonce == 1 for _, r in peer.receipts))
        database.query("UPDATE iot_service.ledger SET settled = %s::int8multirange", fragments(2_001))
        seen = len(peer.receipts)
        await peer.say(status(book, nonce=2, beat=1))
        await peer.until(lambda: len(peer.receipts) > seen)
        assert peer.receipts[-1][1].nonce is None
        assert peer.receipts[-1][1].epochs[0].settled.spans() == 2_000
        await peer.send(fresh(90_000))
        await peer.receipted(EPOCH, 90_000)
        assert peer.receipts[-1][1].epochs[0].settled == RangeSet([(90_000, 90_001)])


async def test_an_answer_of_many_epochs_that_no_gateway_would_read_comes_in_parts(
    database: Database, config: IngestConfig
) -> None:
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        books = [EpochBook(epoch=n, next=8_000, sealed=9_000, held=RangeSet()) for n in range(1, 13)]
        await peer.say(status(*books, nonce=1, beat=0))
        await peer.until(lambda: any(r.nonce == 1 for _, r in peer.receipts))
        wide = "{" + ",".join(f"[{n},{n + 1})" for n in range(10**15, 10**15 + 4_000, 2)) + "}"
        database.query("UPDATE iot_service.ledger SET settled = %s::int8multirange", wide)
        await peer.say(status(*books, nonce=2, beat=1))
        await peer.receipted(12, 10**15)
        assert all(r.nonce != 2 for _, r in peer.receipts)


def garbage(draw: random.Random, good: bytes) -> bytes:
    """What a broken or a hostile gateway may send."""
    kind = draw.randrange(8)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    if kind == 1:
        return good[: draw.randrange(len(good))]
    if kind == 2:
        at = draw.randrange(len(good))
        return good[:at] + bytes([good[at] ^ 1 << draw.randrange(8)]) + good[at + 1 :]
    if kind == 3:
        return draw.randbytes(200_000)
    if kind == 4:
        return json.dumps({"temperature": draw.random()}).encode()
    if kind == 5:
        return independent.Plan(
            draw.randbytes(50), draw.randrange(40_000), version=draw.randrange(5), epoch=8
        ).payload()
    if kind == 6:
        body = bytearray(independent.data_body([["d", "c", "q", "u", "p", "f"]], [(1, 0, 1.0, 100)]))
        body[draw.randrange(len(body))] = draw.randrange(256)
        return independent.Plan(bytes(body), 1, epoch=9, seq=draw.randrange(10**6)).payload()
    return good + draw.randbytes(3)


def bad_statuses(draw: random.Random) -> Iterator[bytes]:
    yield from (b"", b"null", b"[]", b"{", b"\xff" * 9, b"[" * 50_000, b'{"v":2}')
    good = json.loads(status(EpochBook(epoch=5, next=1, sealed=1, held=RangeSet())).payload())
    for key in good:
        junk: object
        for junk in (None, -1, 10**30, "x", [], {}, "\x00", "0" * 16):
            yield json.dumps(good | {key: junk}).encode()
    yield json.dumps(good | {"epochs": good["epochs"] * 2}).encode()
    yield json.dumps(good | {"version": "a\0b"}).encode()
    yield json.dumps(good).encode()[: draw.randrange(40)]


@pytest.mark.parametrize("seed", range(3))
async def test_bad_input_of_every_kind_ends_as_the_document_says_and_the_server_goes_on(
    database: Database, config: IngestConfig, seed: int, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    health = tmp_path / "health.json"
    config = config.model_copy(update={"ingest": config.ingest.model_copy(update={"health_file": health})})
    good = fresh(0)
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        for _ in range(120):
            await peer.send(garbage(draw, good))
        for payload in bad_statuses(draw):
            await peer.session.publish(TOPICS.status(GATEWAY), payload)
        for topic in ("server/x/batch", "a b/c/batch", "로비/x/batch", "a/b/batch"):
            await peer.session.publish(f"{TOPICS.root}/{topic}", good)
        for seq, name in enumerate(("가" * 42, "'; DROP TABLE x; --", "😀", "%s")):
            series = Series(name, name, "temperature", "°C", "p", "1")
            await peer.send(data(seq, [reading(0.75, now_us(), series)], epoch=77, before=0))
        hostile = [reading(v, at) for v in (float("nan"), float("inf")) for at in (0, 4_102_444_800 * SECOND)]
        await peer.send(data(0, hostile, epoch=78))
        await peer.send(good, fresh(1))
        await peer.receipted(EPOCH, 0, 1)
        await peer.receipted(78, 0)
        await peer.say(status(EpochBook(epoch=EPOCH, next=2, sealed=4, held=RangeSet()), nonce=0xF, beat=99))
        await peer.until(lambda: any(r.nonce == 0xF for _, r in peer.receipts))
    seen = values(database)
    # What else was committed came from bodies in which a changed byte still made sense.
    assert [seen.count(v) for v in all_values(0)] == [1, 1]
    assert seen.count(0.75) == 4
    assert (await books_of(database)).committed == len(seen)
    assert database.one("SELECT count(*) FROM iot_service.quarantine WHERE epoch = 78") == 1
    assert set(json.loads(health.read_text())) >= {"damaged", "unsupported", "bad_control", "connected"}


async def test_a_database_that_is_killed_in_the_middle_loses_and_doubles_nothing(mosquitto: Broker) -> None:
    # Durable, since what was receipted must be there after the crash.
    with running_postgres({"autovacuum": "off"}) as server:
        make_template(server, "migrated")
        with new_database(server, "migrated") as database:
            config = configuration(database.dsn, mosquitto)
            async with serving(config), peer_of(config) as peer:
                await peer.online()
                await peer.send(*(fresh(seq) for seq in range(30)))
                await peer.receipted(EPOCH, 0)
                server.kill()
                receipts = len(peer.receipts)
                await peer.send(*(fresh(seq) for seq in range(30, 60)))
                before = {seq for _, r in peer.receipts for seq in r.epochs[0].settled.members()}
                assert len(peer.receipts) - receipts <= 30
                server.start()
                assert before <= {int(v) for v in values(database)}, "what was receipted outlived the crash"
                # The gateway sends again what was not receipted, and the server what the broker still holds for it.
                await peer.send(*(fresh(seq) for seq in range(60)))
                await peer.receipted(EPOCH, *range(60))
            assert values(database) == all_values(*range(60))
            assert (await books_of(database)).committed == 120


async def test_while_the_database_is_away_nothing_is_acknowledged(mosquitto: Broker) -> None:
    with running_postgres({"autovacuum": "off"}) as server:
        make_template(server, "migrated")
        with new_database(server, "migrated") as database:
            config = configuration(database.dsn, mosquitto, ingest={"receive_maximum": 4})
            async with serving(config), peer_of(config) as peer:
                await peer.online()
                await peer.send(fresh(0))
                await peer.receipted(EPOCH, 0)
                server.kill()
                await peer.send(*(fresh(seq) for seq in range(1, 12)))
                # No more than 4 may be unacknowledged: if it acknowledged any, the broker would say so by the rest.
                assert [r for _, r in peer.receipts if any(s in r.epochs[0].settled for s in range(1, 12))] == []
                server.start()
                # Nobody sends again: the session held, and so did the broker.
                await peer.receipted(EPOCH, *range(1, 12))
            assert values(database) == all_values(*range(12))


async def test_a_broker_that_comes_back_empty(database: Database, mosquitto: Broker, config: IngestConfig) -> None:
    async with serving(config):
        async with peer_of(config) as peer:
            await peer.online()
            await peer.send(fresh(0), fresh(1))
            await peer.receipted(EPOCH, 0, 1)
            mosquitto.kill()
        mosquitto.restart()
        async with peer_of(config, "again") as peer:
            await peer.online()
            await peer.send(*(fresh(seq) for seq in range(4)))
            await peer.receipted(EPOCH, 0, 1, 2, 3)
    assert values(database) == all_values(0, 1, 2, 3)
    assert (await books_of(database)).duplicates == 2


async def test_devices_beyond_the_bound_are_quarantined(database: Database, mosquitto: Broker) -> None:
    config = configuration(database.dsn, mosquitto, books={"new_devices_per_hour": 2})
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        for seq in range(5):
            await peer.send(fresh(seq, device=f"invented-{seq}"))
        await peer.receipted(EPOCH, *range(5))
    assert values(database) == all_values(0, 1)
    assert database.query("SELECT DISTINCT reason FROM iot_service.quarantine") == [("too_many_devices",)]
    books = await books_of(database)
    assert (books.committed, books.quarantined, books.balanced) == (4, 6, True)


async def test_statuses_that_come_while_the_database_is_away_are_counted_as_lost(
    mosquitto: Broker, tmp_path: Path
) -> None:
    health = tmp_path / "health.json"
    with running_postgres({"autovacuum": "off", "fsync": "off"}) as server:
        make_template(server, "migrated")
        config = configuration(server.dsn("migrated"), mosquitto, ingest={"health_file": health})
        async with peer_of(config) as peer, serving(config):
            await peer.online()
            server.kill()
            await peer.say(status(nonce=5))
            async with asyncio.timeout(PATIENCE_S):
                while json.loads(health.read_text())["statuses_lost"] != 1:  # noqa: ASYNC110 -- it is a file
                    await asyncio.sleep(0.05)
            assert json.loads(health.read_text())["statuses"] == 0
            server.start()
            # It repeats, and is answered.
            await peer.say(status(nonce=6, beat=1))
            await peer.until(lambda: any(r.nonce == 6 for _, r in peer.receipts))


async def test_two_workers_share_the_work(database: Database, mosquitto: Broker) -> None:
    config = configuration(database.dsn, mosquitto, ingest={"share": "ingest", "receive_maximum": 5})
    async with serving(config), serving(config), peer_of(config) as peer:
        await peer.until(lambda: len({s.worker for s in peer.servers if s.state == "online"}) == 2)
        await peer.send(*(fresh(seq) for seq in range(80)))
        await peer.send(*(fresh(seq) for seq in range(0, 80, 3)))
        await peer.receipted(EPOCH, *range(80))
    assert values(database) == all_values(*range(80))


async def test_mqtt_3_1_1_is_enough(database: Database, mosquitto: Broker) -> None:
    config = configuration(database.dsn, mosquitto, mqtt={"protocol": "3.1.1"})
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        await peer.send(*(fresh(seq) for seq in range(50)))
        await peer.receipted(EPOCH, *range(50))
    assert values(database) == all_values(*range(50))


async def test_what_an_independent_writer_sends_is_committed(database: Database, config: IngestConfig) -> None:
    at = now_us() - SECOND
    table = [["체험관-로비", "pm2_5", "pm2_5", "µg/m³", "plantower_pms5003", ""]]
    body = independent.data_body(table, [(1_000 + n, 0, n / 4, 90) for n in range(500)])
    plan = independent.Plan(body, 500, encoding=1, epoch=42, offset=at - 2_000, extension=b"from tomorrow")
    async with serving(config), peer_of(config) as peer:
        await peer.online()
        await peer.send(plan.payload())
        await peer.receipted(42, 0)
    assert values(database) == [n / 4 for n in range(500)]


async def test_a_server_that_starts_before_its_database_waits_for_it(mosquitto: Broker) -> None:
    with running_postgres({"autovacuum": "off", "fsync": "off"}) as server:
        make_template(server, "migrated")
        with new_database(server, "migrated") as database:
            config = configuration(database.dsn, mosquitto)
            server.stop()
            async with peer_of(config) as peer, serving(config):
                await asyncio.sleep(0)
                assert peer.servers == []
                server.start()
                await peer.online()
                await peer.send(fresh(0))
                await peer.receipted(EPOCH, 0)


async def test_it_stops_while_its_database_is_away(mosquitto: Broker) -> None:
    with running_postgres({"autovacuum": "off", "fsync": "off"}) as server:
        make_template(server, "migrated")
        config = configuration(server.dsn("migrated"), mosquitto)
        async with peer_of(config) as peer:
            async with serving(config):
                await peer.online()
                server.kill()
                await peer.send(fresh(0))
            async with asyncio.timeout(PATIENCE_S):
                await peer.until(lambda: peer.servers[-1].state == "offline")
        server.start()
        assert server.pid


async def test_a_fleet_that_fell_silent_is_one_line(
    database: Database, config: IngestConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that was away for long silences all at once: a line each would bury what is wrong."""
    database.query(
        "INSERT INTO iot_service.gateways (name, state, instance, last_heartbeat_at)"
        " SELECT format('seoul-1/room-%s', n), 'online', 5, now() - interval '1 hour' FROM generate_series(100, 111) n"
    )
    online = "SELECT count(*) FROM iot_service.gateways WHERE state = 'online'"
    async with serving(config), asyncio.timeout(PATIENCE_S):
        while database.one(online) or "fell silent" not in caplog.text:  # noqa: ASYNC110 -- PostgreSQL has no event for it
            await asyncio.sleep(0.01)
    (told,) = [record.getMessage() for record in caplog.records if "fell silent" in record.getMessage()]
    assert "seoul-1/room-100, seoul-1/room-101" in told
    assert told.endswith("seoul-1/room-109 and 2 more")


async def test_jobs_run_by_the_clock(database: Database, config: IngestConfig) -> None:
    """At the start, too: room is made ahead, and who fell silent while the server was away is marked."""
    database.query(
        "INSERT INTO iot_service.gateways (name, state, instance, last_heartbeat_at)"
        " VALUES ('seoul-1/attic', 'online', 5, now() - interval '1 hour'), ('seoul-1/lobby', 'online', 5, now())"
    )
    database.query(
        "INSERT INTO iot_service.quarantine (gateway_id, epoch, seq, reason, detail, readings, payload, replayed_at)"
        " SELECT gateway_id, 1, 0, 'r', '', 0, '', now() - interval '31 days' FROM iot_service.gateways"
    )
    kept = "SELECT count(*) FROM iot_service.quarantine"
    states = "SELECT state FROM iot_service.gateways ORDER BY name"
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'iot_service.sensor_readings'::regclass"
    async with serving(config), asyncio.timeout(PATIENCE_S):
        while (database.query(states), database.one(months), database.one(kept)) != (  # noqa: ASYNC110 -- PostgreSQL has no event for it
            [("offline",), ("online",)],
            7,
            0,
        ):
            await asyncio.sleep(0.01)
