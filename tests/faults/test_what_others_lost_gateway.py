"""The ways in which other systems lost data, tried on the gateway. Each test bears the name of the failure."""

import asyncio
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from device_drivers.reading import Reading
from gateway.batcher import Batcher
from gateway.collector import MAX_DEVICES, Collector, ReadingQueue
from gateway.config import UplinkOptions
from gateway.conversation import Conversation
from gateway.health import HealthReport
from gateway.link import wire
from gateway.link.ranges import RangeSet
from gateway.link.receipts import EpochReceipt, Receipt
from gateway.link.session import Session
from gateway.link.status import ServerStatus
from gateway.spool.database import connect
from gateway.spool.losses import MANY, MANY_PENDING
from gateway.spool.thread import WAITING, SpoolThread
from gateway.spool.values import Boot, Identity
from gateway.thinning import MAX_SERIES, MINUTE_US
from gateway.uplink_state import UplinkState
from gateway.window import Window
from tests.gateway.ledger_server import Database, LedgerServer, ledger_server
from tests.gateway.link.conftest import WILL
from tests.gateway.running import NAME, PATIENCE_S, Running, running, write_config
from tests.gateway.scripted_driver import Script, ScriptedOptions, reading
from tests.gateway.spool.support import (
    LEDGER,
    ROOMY,
    SMALL,
    WALL_S,
    Server,
    body,
    everything,
    opened,
    sealed,
)
from tests.gateway.test_conversation import LIMITS, SPEAKER, HeldSession, Time, at_once, spool_of
from tests.gateway.test_full_spool import told
from tests.peers.mosquitto import Broker


def raw(count: int, seed: int, size: int = 3000) -> list[Reading]:
    """Readings that nothing compresses."""
    rng = random.Random(seed)
    return [replace(reading("a", float("nan"), 1_000 + n), frame=rng.randbytes(size)) for n in range(count)]


def once(server: LedgerServer) -> dict[Identity, wire.Batch]:
    """The batches that came, each once."""
    return {Identity(b.envelope.epoch, b.envelope.seq): b for b in server.batches}


# -- a configuration reload that tore the spool down


async def test_a_configuration_reload_that_tore_the_spool_down(
    mosquitto: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Elsewhere a changed file rebuilt the pipeline with its buffer, and what the buffer held was gone.

    Reloads of every kind, while batches wait in the spool and readings in the batcher: drivers that change, every other
    table changed, a file that is wrong, one that is gone.
    """
    caplog.set_level(logging.INFO)
    script = Script()
    path = write_config(tmp_path, mosquitto.port, devices=("a", "b"))
    good = path.read_text()
    other = (
        good.replace('state_dir = "', f'state_dir = "{tmp_path}/elsewhere')
        .replace("linger_s = 0.05", "linger_s = 300")
        .replace("[clock]", '[spool]\nbound_bytes = 4194304\nreplay_window_s = 0\nwhen_full = "drop_newest"\n[clock]')
        .replace('device = "b"', 'device = "c"')
    )
    file = tmp_path / "state" / "spool.sqlite3"
    given = 0

    async def give(one: Running) -> None:
        nonlocal given
        script.give("a", float(given), float(given + 1))
        given += 2
        await one.until(lambda report: report.readings == given)

    async def reload(one: Running, text: str | None, said: str) -> None:
        times = caplog.text.count(said)
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        one.gateway.reload()
        await one.until(lambda _: caplog.text.count(said) > times)

    async with running(path, script) as one:
        await give(one)
        await one.until(lambda report: report.spool.sealed == given)
        inode = file.stat().st_ino
        for text, said in (
            (other, "1 drivers stopped, 1 started"),
            (good + "nonsense", "the old one goes on"),
            (None, "the old one goes on"),
            (good, "1 drivers stopped, 1 started"),
            (other.replace('device = "a"', 'device = "d"'), "2 drivers stopped, 2 started"),
            (good, "2 drivers stopped, 2 started"),
        ):
            await reload(one, text, said)
            if text is None or 'device = "d"' not in text:
                await give(one)
        report = await one.until(lambda report: report.spool.sealed == given)
        assert report.spool.held_readings == given
        assert report.spool.bound_bytes == one.config.spool.bound_bytes
        assert file.stat().st_ino == inode
        assert not (tmp_path / "elsewhere").exists()
        async with ledger_server(mosquitto.port) as server:
            await one.until(lambda report: report.spool.settled == given)
            assert told(server) == {"arrived": given}
            assert len({identity.epoch for identity in once(server)}) == 1


# -- a bound missing on one queue of two


async def test_a_bound_missing_on_one_queue_of_two_between_drivers_and_batcher() -> None:
    """Elsewhere one queue was bounded and the one before it was not: memory grew until the process was killed."""
    script = Script()
    queue = ReadingQueue(5)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        collector = Collector(tasks, queue, script.open)
        await collector.apply([ScriptedOptions(kind="scripted", device=device) for device in "abc"])
        for device in "abc":
            for n in range(100):
                script.give(device, float(n))
        while sum(driver.readings for driver in collector.drivers) < 5 + 3:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
            # One more of each driver is in its hand: nothing else is taken from the devices.
            assert len(queue) == 5
            assert sum(driver.readings for driver in collector.drivers) == 5 + 3
        found = 0
        while found < 300:
            found += len(await queue.take(None) or ())
        await collector.stop()


async def test_a_bound_missing_on_one_queue_of_two_of_devices_that_are_known() -> None:
    script = Script()
    queue = ReadingQueue(10)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        collector = Collector(tasks, queue, script.open)
        await collector.apply([ScriptedOptions(kind="scripted", device="a")])
        script.give_readings("a", [reading(f"invented-{n}", 1.0) for n in range(MAX_DEVICES + 500)])
        assert await queue.take(None)
        assert len(collector.devices) == MAX_DEVICES
        await collector.stop()


@pytest.mark.parametrize("thinning", [False, True])
def test_a_bound_missing_on_one_queue_of_two_in_the_batcher(thinning: bool) -> None:
    """What waits, what is held back, what is refused, what is remembered of series."""
    batcher = Batcher(linger_s=1e9, max_readings=500)
    if thinning:
        batcher.thinning.begin(0)
    now_us = 7 * MINUTE_US
    for n in range(3 * MAX_SERIES):
        flood = [reading(f"invented-{n}", 5.0, now_us), reading(f"invented-{n}", 5.0, now_us), reading("", 5.0, now_us)]
        batcher.add(flood, now_us / 1e6)
        assert len(batcher._waiting) < 500
        assert batcher.thinning.held_back() <= MAX_SERIES
        assert len(batcher._refused) <= 2
        assert len(batcher._judged) <= MAX_SERIES
    assert batcher.waiting() <= 500 + (MAX_SERIES if thinning else 0)


def test_a_bound_missing_on_one_queue_of_two_in_the_bytes_of_a_batch() -> None:
    batcher = Batcher(linger_s=1e9, max_readings=wire.MAX_READINGS)
    sealed = [one for n in range(300) for one in batcher.add(raw(1, n, size=10_000), 1.0)]
    assert all(len(one.body.stored) <= wire.MAX_PAYLOAD for one in sealed)
    assert batcher.waiting() <= wire.MAX_PAYLOAD // 10_000


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_bound_missing_on_one_queue_of_two_in_the_spool(tmp_path: Path, policy: str) -> None:
    """Batches have their bound; so have the losses that they leave, and the gaps that tell of them."""
    options = replace(SMALL, when_full=policy)  # type: ignore[arg-type]
    with opened(tmp_path / "spool.sqlite", options) as spool:
        rows = []
        for n in range(900):
            spool.append(body(3_000, n), 1, n * MINUTE_US, n * MINUTE_US)
            spool.record_loss("overrun", 1, 5 * n * MINUTE_US, 5 * n * MINUTE_US)
            spool.seal_gaps()
            assert spool.usage().file_bytes <= options.bound_bytes
            rows += spool._connection.execute("SELECT count(*) FROM losses WHERE batch IS NULL").fetchone()
        # Those that gap batches name, which are bounded by their bytes, and MANY that wait to be named.
        assert MANY < max(rows) == rows[700] == rows[-1] < 700
        server = Server()
        server.drain(spool)
        assert sum(g.readings or 0 for g in server.gaps if g.reason == "overrun") == 900


def test_a_bound_missing_on_one_queue_of_two_of_losses_without_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk has no byte for them, losses wait in memory."""
    with opened(tmp_path / "spool.sqlite") as spool:
        with monkeypatch.context() as full:
            full.setattr(spool._room, "make", lambda attempt: False)
            full.setattr(spool._room, "make_for_data", lambda attempt: False)
            spool._connection.execute("PRAGMA max_page_count = 1")  # as many as it has
            for n in range(2000):
                assert spool.append(body(5_000, n), 3, n * 10 * MINUTE_US, n * 10 * MINUTE_US) is None
                spool.record_loss("overrun" if n % 2 else "unencodable", 1, n * 10 * MINUTE_US, n * 10 * MINUTE_US)
            pending = spool._state.pending
        assert len(pending) <= MANY_PENDING
        spool._connection.execute("PRAGMA max_page_count = 1000000")
        spool.record_loss("overrun", 1, 0, 0)
        assert spool.usage().whole_file.unsealed == {"bound": 6000, "overrun": 1001, "unencodable": 1000}


async def test_a_bound_missing_on_one_queue_of_two_before_the_spools_thread(tmp_path: Path) -> None:
    """A disk that answers slowly: who comes must wait to be let in."""
    release, begun = threading.Event(), 0

    async with SpoolThread.open(tmp_path / "spool.sqlite", ROOMY, Boot("b", 0), None) as spool:

        async def work() -> None:
            nonlocal begun
            begun += 1
            await spool.run(lambda s: sealed(s, 1))

        blocked = asyncio.create_task(spool.run(lambda _: release.wait(PATIENCE_S)))
        works = [asyncio.create_task(work()) for _ in range(4 * WAITING)]
        while begun < len(works):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)
        assert spool._waiting.qsize() <= WAITING
        release.set()
        await asyncio.gather(blocked, *works)
        assert (await spool.run(lambda s: s.usage())).readings == 4 * WAITING


@pytest.mark.parametrize("lane", ["live", "backlog"])
async def test_a_bound_missing_on_one_queue_of_two_to_the_server(mosquitto: Broker, tmp_path: Path, lane: str) -> None:
    """A server that is there and settles nothing: each lane has its own bound."""
    limits = "live_batches = 7\nbacklog_batches = 5\n"
    path = write_config(tmp_path, mosquitto.port, more="")
    path.write_text(path.read_text().replace("[uplink]\n", f"[uplink]\n{limits}"))
    script = Script()

    async def give(one: Running, batches: int) -> None:
        before = (await one.until(lambda _: True)).spool.held_batches
        for n in range(batches):
            script.give_readings("a", raw(1, n))
            await one.until(lambda report, n=n: report.spool.held_batches == before + n + 1)  # type: ignore[misc]

    async with running(path, script) as one:
        if lane == "backlog":
            await give(one, 20)
        async with ledger_server(mosquitto.port, committing=False) as server:
            await one.until(lambda report: report.uplink.session == "sending")
            if lane == "live":
                await give(one, 20)
                await one.until(lambda report: report.uplink.live_under_way == 7)
            else:
                # It begins with one, and each receipt makes room for more: here none comes.
                await one.until(lambda report: report.uplink.backlog_under_way > 0)
            for _ in range(5):
                await server.beats()
                report = await one.until(lambda _: True)
                assert report.uplink.live_under_way <= 7
                assert report.uplink.backlog_under_way <= 5
            server.committing = True
            await one.until_held(0)


async def test_a_bound_missing_on_one_queue_of_two_to_a_broker_that_acknowledges_nothing(tmp_path: Path) -> None:
    """What is handed to the client library is bounded by the window, whatever the broker does not say."""
    never = asyncio.Event()

    async def keep(level: str, _: int) -> None:
        if level == "batch":
            await never.wait()

    async with spool_of(tmp_path, 500) as spool, asyncio.timeout(PATIENCE_S):
        session, state, wake = HeldSession(keep), UplinkState(), asyncio.Event()
        window = Window(replace(LIMITS, backlog_batches=9))
        talk = _conversation(session, spool, state, window, wake)
        task = asyncio.create_task(talk.run())
        session.say(SPEAKER.topics.server_status, _online())
        await session.until("batch", 1)
        session.say(SPEAKER.topics.receipt(NAME), _receipt(LEDGER, RangeSet.below(1)))
        for _ in range(300):
            wake.set()
            await asyncio.sleep(0.001)
            assert len(window) <= 9
        assert len(session.of("batch")) <= 1 + 9
        task.cancel()
        await asyncio.wait([task])


async def test_a_bound_missing_on_one_queue_of_two_from_the_broker(mosquitto: Broker) -> None:
    """A flood of messages while nobody reads them: receipts may be lost, memory may not."""
    from gateway.link.broker import BrokerOptions
    from gateway.link.session import _PENDING_MESSAGES

    async with Session(BrokerOptions(port=mosquitto.port), "flooded", WILL, True) as session:
        await session.subscribe("heal7/v1/flood")
        async with (
            asyncio.timeout(PATIENCE_S),
            Session(BrokerOptions(port=mosquitto.port), "flooding", WILL, True) as other,
        ):
            for n in range(0, 3 * _PENDING_MESSAGES, 100):
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(100):
                        tasks.create_task(other.publish("heal7/v1/flood", b"%d" % n))
            assert len(session._client.messages) <= _PENDING_MESSAGES


async def test_a_bound_missing_on_one_queue_of_two_of_ledgers_that_were_told(tmp_path: Path) -> None:
    async with spool_of(tmp_path, 1) as spool, asyncio.timeout(PATIENCE_S):
        await spool.run(lambda s: s.apply_receipt(LEDGER, {}, WALL_S))
        session, state = HeldSession(at_once), UplinkState()
        task = asyncio.create_task(_conversation(session, spool, state, Window(LIMITS), asyncio.Event()).run())
        for n in range(24):
            session.say(SPEAKER.topics.receipt(NAME), _receipt(f"staging-{n}", RangeSet.below(1)))
        while state.foreign_receipts < 24:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)
        assert len(state.told_ledgers) == 16
        task.cancel()
        await asyncio.wait([task])


def _conversation(
    session: Session, spool: SpoolThread, state: UplinkState, window: Window, wake: asyncio.Event
) -> Conversation:
    options = UplinkOptions(heartbeat_s=30.0, spread_s=0.0, audit_wait_s=0.0)
    beats = count()
    return Conversation(
        session,
        SPEAKER,
        options,
        spool,
        window,
        Time().clock(),
        state,
        lambda: next(beats),
        wake,
        asyncio.Event(),
        lambda: None,
    )


def _online() -> bytes:
    return ServerStatus(state="online", wire=(1,), ledger=LEDGER, worker="w").payload()


def _receipt(ledger: str, settled: RangeSet) -> bytes:
    return Receipt(ledger=ledger, epochs=(EpochReceipt(epoch=7, settled=settled),)).payload()


# -- corruption that meant "refuse to start"


def _first_page(data: bytearray) -> None:
    data[:1024] = bytes(1024)


def _rubbish(data: bytearray) -> None:
    data[:] = random.Random(1).randbytes(len(data))


def _in_the_middle(data: bytearray) -> None:
    at = len(data) // 2 // 1024 * 1024
    data[at : at + 4096] = random.Random(2).randbytes(4096)


def _cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


@pytest.mark.parametrize(
    "damage", [_first_page, *(pytest.param(d, marks=pytest.mark.slow) for d in (_rubbish, _in_the_middle, _cut))]
)
async def test_corruption_that_meant_refuse_to_start(
    mosquitto: Broker, tmp_path: Path, damage: Callable[[bytearray], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Elsewhere a damaged buffer file ended each start, until somebody deleted it with all that was still good in it.

    The gateway starts, sends what can still be read, and what cannot is in nobody's books as settled.
    """
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    file = tmp_path / "state" / "spool.sqlite3"
    async with running(path, script) as one:
        for n in range(40):
            script.give_readings("a", raw(1, n))
            await one.until_held(n + 1)
    # As a power cut leaves it: after a clean stop the damage would be found only when it is met.
    with closing(connect(file)) as left:
        left.execute("UPDATE epochs SET clean = 0")
    data = bytearray(file.read_bytes())
    damage(data)
    file.write_bytes(data)
    async with running(path, script) as one, ledger_server(mosquitto.port) as server:
        script.give("a", 1.0)
        await one.until(lambda report: report.spool.settled >= 1 and report.spool.held_batches == 0)
        arrived = told(server)
        assert arrived["arrived"] >= 1
        if damage is not _rubbish:
            assert arrived["arrived"] > 10
        assert set(arrived) <= {"arrived", "bad_copy", "unclean_stop"}
        assert "spool is damaged and will be salvaged" in caplog.text
        assert (file.parent / f"{file.name}.corrupt-1").exists()
        # Nothing twice, and nothing as settled that did not arrive.
        report = await one.until(lambda _: True)
        assert report.spool.settled <= arrived["arrived"]
        assert sum(arrived.values()) <= 41


# -- the first seconds of an outage


async def test_the_first_seconds_of_an_outage(mosquitto: Broker, tmp_path: Path) -> None:
    """Elsewhere what had been handed to the client library, and not been acknowledged yet, was in nobody's buffer.

    The broker stops answering while the gateway publishes; what it was given is lost with its memory.
    """
    script = Script()
    database = Database()
    path = write_config(tmp_path, mosquitto.port)
    async with running(path, script) as one:
        async with ledger_server(mosquitto.port, database) as server:
            script.give("a", 0.0)
            await one.until(lambda report: report.spool.settled == 1)
            os.kill(mosquitto.pid, signal.SIGSTOP)
            for n in range(1, 21):
                script.give("a", float(n))
                await one.until(lambda report, n=n: report.spool.sealed == n + 1)  # type: ignore[misc]
            # Handed over, and no word of it from anybody.
            report = await one.until(lambda report: report.uplink.sent == 21)
            assert (report.spool.settled, report.spool.held_readings) == (1, 20)
            mosquitto.kill()
            assert len(once(server)) == 1
            script.give("a", 21.0)
            await one.until(lambda report: report.spool.held_readings == 21)
        mosquitto.start()
        async with ledger_server(mosquitto.port, database) as server:
            await one.until(lambda report: report.spool.settled == 22)
            assert {identity.seq for identity in once(server)} == set(range(1, 22))


# -- a TTL shorter than the recovery


def test_a_ttl_shorter_than_the_recovery(tmp_path: Path) -> None:
    """Elsewhere messages expired while the server was being mended. What is not settled has no age.

    The shortest replay window, an outage of a year with restarts and power cuts in it, a clock that jumps.
    """
    path = tmp_path / "spool.sqlite"
    options = replace(ROOMY, replay_window_s=0.0)
    kept: list[Identity] = []
    days = random.Random(6)
    wall_s = WALL_S
    for start in range(12):
        with opened(path, options, boot=f"boot-{start}", now_us=start * MINUTE_US) as spool:
            kept += [sealed(spool, 2, at_us=start * MINUTE_US + n, seed=n) for n in range(3)]
            for _ in range(5):
                wall_s += days.choice([3600, 86_400, 30 * 86_400])
                assert spool.free_replayed(wall_s) == 0
            spool.free_replayed(WALL_S + 50 * 365 * 86_400)  # a clock gone wrong
            assert everything(spool) == kept
    server = Server()
    with opened(path, options, boot="last", now_us=1) as spool:
        server.drain(spool, wall_s)
        assert server.committed == 2 * len(kept)
        assert server.dropped == 0


async def test_a_ttl_shorter_than_the_recovery_at_the_broker(mosquitto: Broker, tmp_path: Path) -> None:
    """The broker may expire, drop and forget what it has: what it took for a server that is away is sent again."""
    await asyncio.to_thread(mosquitto.restart, ["max_queued_messages 1", "persistent_client_expiration 1h"])
    script = Script()
    path = write_config(tmp_path, mosquitto.port)
    async with running(path, script) as one:
        async with ledger_server(mosquitto.port, committing=False, state="online") as server:
            for n in range(10):
                script.give("a", float(n))
                await one.until_held(n + 1)
            await server.until(lambda: len(once(server)) == 10)
        # The server is gone without a word; the broker takes all that is sent again, for nobody.
        sent = (await one.until(lambda _: True)).uplink.resent
        await one.until(lambda report: report.uplink.resent > sent + 10)
        async with ledger_server(mosquitto.port) as server:
            await one.until(lambda report: report.spool.settled == 10)
            assert told(server) == {"arrived": 10}


# -- success counted where data was discarded


async def test_success_counted_where_data_was_discarded(mosquitto: Broker, tmp_path: Path) -> None:
    """Elsewhere "sent" counted what a full buffer, a filter or a broker had thrown away.

    Of each way in which the gateway discards a reading: it never counts as sealed and settled, and the server's count
    of what arrived is the gateway's count of what is settled.
    """
    script = Script()
    more = '[spool]\nbound_bytes = 4194304\nwhen_full = "drop_newest"'
    path = write_config(tmp_path, mosquitto.port, more=more)
    mosquitto.kill()
    given = 0

    async def give(one: Running, readings: Sequence[Reading]) -> HealthReport:
        nonlocal given
        script.give_readings("a", readings)
        given += len(readings)
        return await one.until(lambda report: report.readings == given and report.waiting == 0)

    async with running(path, script) as one:
        # The broker takes none as large as these, sealed before it could say so.
        for n in range(25):
            await give(one, raw(40, n))
        assert given == 1000
        # No batch can hold it, and no server would take it.
        report = await give(one, [replace(reading("a", 1.0), reliability=500)] * 7)
        assert report.refused == 7
        # And these find the spool full.
        for n in range(25, 50):
            report = await give(one, raw(40, n))
        assert report.no_room > 0
        assert report.spool.settled == 0
        await asyncio.to_thread(mosquitto.restart, ["max_packet_size 60000"])
        async with ledger_server(mosquitto.port) as server:
            script.give("a", 5.0)
            given += 1
            await one.until(lambda report: report.readings == given)
            report = await one.until(lambda report: report.spool.held_batches == 0 and report.waiting == 0)
            await server.until(lambda: sum(told(server).values()) == given)
            found = told(server)
            assert found.pop("arrived") == report.spool.settled < 200
            assert found == {**report.spool.dropped, **report.spool.unsealed_lost}
            assert found["unencodable"] == 7
            assert found["too_large"] > 900
            assert found["bound"] > 0
            assert report.spool.sealed == report.spool.settled + sum(report.spool.dropped.values())
