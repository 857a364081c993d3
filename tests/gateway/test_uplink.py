"""The uplink against a real broker and a server that speaks WIRE.md."""

import asyncio
import sys
from functools import partial
from pathlib import Path

import pytest

from gateway.health import HealthReport
from gateway.housekeeping import request_trust
from gateway.link import wire
from gateway.link.ranges import RangeSet
from tests.gateway.ledger_server import OTHER_LEDGER, Database, LedgerServer, ledger_server
from tests.gateway.running import NAME, running, write_config
from tests.gateway.scripted_driver import Script, reading
from tests.peers.mosquitto import Broker


def _settled(readings: int, report: HealthReport) -> bool:
    return report.spool.settled == readings


def _seqs(server: LedgerServer, count: int) -> bool:
    return len(set(server.seqs())) == count


async def test_everything_read_is_settled_with_its_values(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    async with ledger_server(mosquitto.port) as server, running(write_config(tmp_path, mosquitto.port), script) as one:
        await one.until(lambda report: report.uplink.session == "sending")
        script.give("a", 1.5, 2.5)
        await server.until(lambda: server.readings() == 2)
        report = await one.until(lambda report: report.spool.settled == 2)
        assert report.spool.held_batches == 0
        assert report.uplink.resent == 0
    batch = server.batches[0]
    assert batch.envelope.gateway == NAME
    table = wire.decode_series(wire.unpack(batch)["series"])
    assert [series.device for series in table] == ["a"]


async def test_puback_alone_frees_nothing_and_a_receipt_does(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    async with (
        ledger_server(mosquitto.port, committing=False) as server,
        running(write_config(tmp_path, mosquitto.port), script) as one,
    ):
        await one.until(lambda report: report.uplink.session == "sending")
        script.give("a", 1.0)
        # Sent again though the broker has acknowledged it: only a receipt counts.
        await server.until(lambda: len(server.batches) >= 3)
        report = await one.until(lambda report: report.uplink.resent >= 2)
        assert report.spool.held_batches == 1
        assert report.uplink.sent == 1
        envelope = server.batches[0].envelope
        server.database.settled[envelope.epoch] = RangeSet.of([envelope.seq])
        await server.receipt(NAME, {envelope.epoch: RangeSet.of([envelope.seq])})
        await one.until_held(0)


async def test_foreign_strange_and_repeated_receipts_change_nothing(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    async with (
        ledger_server(mosquitto.port, answering=True) as server,
        running(write_config(tmp_path, mosquitto.port), script) as one,
    ):
        script.give("a", 1.0)
        await one.until(lambda report: report.spool.settled == 1)
        server.committing = False
        script.give("a", 2.0)
        await server.until(lambda: max(server.seqs()) == 1)
        epoch = server.batches[0].envelope.epoch
        await server.receipt(NAME, {epoch: RangeSet.below(2)}, ledger=OTHER_LEDGER)
        await server.receipt(NAME, {epoch: RangeSet.below(1)})  # repeated
        await server.receipt(NAME, {epoch: RangeSet()})  # stale: receipts only add
        await server.receipt(NAME, {epoch: RangeSet(), 77: RangeSet.below(9)}, nonce=12345)  # no such question
        report = await one.until(lambda report: report.uplink.foreign_receipts == 1 and report.uplink.receipts >= 4)
        assert (report.spool.held_batches, report.spool.settled, report.uplink.taken_back) == (1, 1, 0)
        server.committing = True
        await one.until_held(0)


async def test_an_answer_to_an_older_status_takes_nothing_back(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    async with (
        ledger_server(mosquitto.port) as server,
        running(write_config(tmp_path, mosquitto.port), script) as one,
    ):
        script.give("a", 1.0)
        await one.until(lambda report: report.spool.settled == 1)
        server.answering = False
        await server.beats(2)
        older = server.online()[-2]
        receipts = (await one.until(lambda _: True)).uplink.receipts
        epoch = server.batches[0].envelope.epoch
        await server.receipt(NAME, {epoch: RangeSet()}, nonce=older.nonce)
        report = await one.until(lambda report: report.uplink.receipts > receipts)
        assert (report.uplink.taken_back, report.spool.settled) == (0, 1)


async def test_what_a_restored_database_lost_is_sent_again(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    async with (
        ledger_server(mosquitto.port) as server,
        running(write_config(tmp_path, mosquitto.port), script) as one,
    ):
        for value in (1.0, 2.0, 3.0):
            script.give("a", value)
            await one.until(partial(_settled, int(value)))
        epoch = server.batches[0].envelope.epoch
        before = len(server.batches)
        # Yesterday's backup: it knows the first batch only.
        server.database.settled[epoch] = RangeSet.below(1)
        await server.until(lambda: set(server.seqs()[before:]) >= {1, 2})
        # The file may still tell of the time before, when all was settled, too.
        await one.until(lambda report: report.uplink.taken_back == 2 and report.spool.held_batches == 0)
        assert 0 not in server.seqs()[before:]
        first, again = (
            next(b for b in part if b.envelope.seq == 1) for part in (server.batches, server.batches[before:])
        )
        assert again.body == first.body


@pytest.mark.parametrize(("state", "versions"), [("offline", (1,)), ("online", (2,))])
async def test_nothing_is_sent_to_a_server_that_is_away_or_speaks_otherwise(
    mosquitto: Broker, tmp_path: Path, state: str, versions: tuple[int, ...]
) -> None:
    script = Script()
    async with (
        ledger_server(mosquitto.port, state=None) as server,
        running(write_config(tmp_path, mosquitto.port), script) as one,
    ):
        await server.say(state, versions)
        script.give("a", 1.0)
        # It is sealed, the gateway is connected and says so, and for three beats more it keeps what it has.
        await server.until(lambda: bool(server.online()) and server.online()[-1].epochs[-1].next == 1)
        await server.beats(3)
        assert server.batches == []
        await server.say("online")
        await one.until(lambda report: report.spool.settled == 1)
        # Gone again: what is sealed from now on waits.
        await server.say("offline")
        await one.until(lambda report: not report.uplink.server_online)
        script.give("a", 2.0)
        await server.until(lambda: server.online()[-1].epochs[-1].next == 2)
        await server.beats(2)
        assert server.seqs() == [0]


async def test_a_broker_that_is_killed_and_forgets_loses_nothing(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    database = Database()
    path = write_config(tmp_path, mosquitto.port)
    async with running(path, script) as one:
        async with ledger_server(mosquitto.port, database, committing=False) as server:
            for value in range(5):
                script.give("a", float(value))
                await server.until(partial(_seqs, server, value + 1))
            await asyncio.to_thread(mosquitto.kill)
        script.give("a", 5.0)
        await one.until_held(6)
        await asyncio.to_thread(mosquitto.restart)
        async with ledger_server(mosquitto.port, database) as server:
            report = await one.until(lambda report: report.spool.settled == 6)
            assert report.spool.held_batches == 0
            assert set(server.seqs()) == set(range(6))
            assert report.uplink.sessions == 2


async def test_after_an_outage_the_newest_comes_before_the_backlog(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    text = (
        path.read_text()
        .replace("audit_wait_s = 1.0", "audit_wait_s = 60.0")
        .replace("linger_s = 0.05", "linger_s = 0.01")
    )
    path.write_text(text)
    async with (
        ledger_server(mosquitto.port, state="offline", answering=False) as server,
        running(path, script) as one,
    ):
        for value in range(3):
            script.give("a", float(value))
            await one.until_held(value + 1)
        await server.say("online")
        await one.until(lambda report: report.uplink.session == "comparing books")
        script.give("a", 99.0)
        await server.until(lambda: bool(server.batches))
        assert server.seqs()[0] == 3
        # The answer opens the way for what is older.
        await server.answer(NAME, server.online()[-1])
        server.answering = True
        await one.until(lambda report: report.spool.settled == 4)
        assert sorted(set(server.seqs())) == [0, 1, 2, 3]


async def test_a_batch_that_the_broker_refuses_for_its_size_becomes_a_gap(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    mosquitto.kill()
    noise = [reading("a", 1.1**n, 1_000_000 + n * n * 997) for n in range(500)]
    async with running(write_config(tmp_path, mosquitto.port), script) as one:
        script.give_readings("a", noise)
        await one.until_held(1)
        await asyncio.to_thread(mosquitto.restart, ["max_packet_size 2000"])
        async with ledger_server(mosquitto.port) as server:
            await server.until(lambda: any(b.envelope.kind == wire.Kind.GAP for b in server.batches))
            report = await one.until_held(0)
            assert report.spool.dropped == {"too_large": 500}
            told = [b for b in server.batches if b.envelope.kind == wire.Kind.GAP]
            gaps = [gap for batch in told for gap in wire.decode_gaps(wire.unpack(batch))]
            assert [(gap.reason, gap.first, gap.counts) for gap in gaps] == [("too_large", 0, (500,))]
            # From now on batches are cut to what the broker takes.
            script.give_readings("a", noise)
            report = await one.until(lambda report: report.spool.settled == 500)
            assert report.spool.dropped == {"too_large": 500}


async def test_a_clean_stop_says_goodbye_and_a_killed_one_is_said_goodbye_for(
    mosquitto: Broker, tmp_path: Path
) -> None:
    script = Script()
    async with ledger_server(mosquitto.port) as server:
        async with running(write_config(tmp_path, mosquitto.port), script):
            await server.beats()
        await server.until(lambda: server.statuses[-1].state == "offline")
        assert server.statuses[-1].instance == server.online()[-1].instance
        # In a process of its own, since a kill leaves no time for anything.
        path = write_config(tmp_path, mosquitto.port, devices=())
        program = "from gateway.commands import app; app()"
        with (tmp_path / "log").open("wb") as log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, "run", "--config", str(path), stderr=log_file
            )
        try:
            await server.beats()
            killed = server.statuses[-1]
            assert killed.state == "online"
        finally:
            process.kill()
            await process.wait()
        await server.until(lambda: server.statuses[-1].state == "offline")
        assert server.statuses[-1].instance == killed.instance


async def test_another_database_counts_once_the_operator_says_so(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    async with running(path, script) as one:
        async with ledger_server(mosquitto.port) as server:
            script.give("a", 1.0)
            await one.until(lambda report: report.spool.settled == 1)
        async with ledger_server(mosquitto.port, Database(OTHER_LEDGER)) as server:
            await one.until(lambda report: report.uplink.foreign_receipts > 0)
            request_trust(one.config.gateway.state_dir, OTHER_LEDGER)
            # The new database has nothing, so all that the spool still has is sent again.
            await server.until(lambda: 0 in server.seqs())
            await one.until(lambda report: report.uplink.taken_back == 1 and report.spool.settled == 1)
