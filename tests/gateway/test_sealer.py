"""From the queue to the spool while it fills up: when readings are thinned, what is told of it, and that all add up."""

import asyncio
import logging
import random
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from device_drivers.reading import Reading
from gateway.batcher import Batcher, Refused, Sealed
from gateway.clock import RELEASED_S, Clock
from gateway.collector import ReadingQueue
from gateway.link.ranges import RangeSet
from gateway.link.wire import Kind, unpack
from gateway.sealer import Sealer, _append, _losses, _Put
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread
from gateway.spool.transactions import NoRoom
from gateway.spool.values import Boot, Counters, SpoolOptions
from gateway.thinning import BEGIN, END, MINUTE_US
from tests.gateway.scripted_driver import reading
from tests.gateway.spool.support import (
    ANCHOR,
    GATEWAY,
    LEDGER,
    SMALL,
    WALL_S,
    Server,
    body,
    copy_files,
    everything,
    opened,
    sealed,
)

PATIENCE_S = 30.0
NEWEST = replace(SMALL, when_full="drop_newest")
SERIES = 100


@dataclass
class Feeding:
    """A sealer that is fed by hand, in a time of its own; `spool` is what it fills."""

    queue: ReadingQueue
    batcher: Batcher
    spool: SpoolThread
    sealer: Sealer
    now_us: int = 5_000_000
    given: int = 0

    async def give(self, readings: Sequence[Reading]) -> None:
        """Returns when they are in the batcher or beyond."""
        await self.queue.put(readings)
        self.given += len(readings)
        async with asyncio.timeout(PATIENCE_S):
            while self.sealer.state.taken < self.given or len(self.queue):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.001)
        await self.spool.run(lambda _: None)  # what was sealed is in

    async def seconds(self, count: int, rng: random.Random) -> None:
        """So many seconds of noise, each series once a second: a batch each."""
        for _ in range(count):
            self.now_us += 1_000_000
            await self.give([reading(f"d{n}", rng.random(), self.now_us - 1000 + n) for n in range(SERIES)])

    def thins(self) -> bool:
        return self.batcher.thinning.active

    async def fill(self) -> float:
        return await self.spool.run(Spool.fill)

    async def whole_file(self) -> Counters:
        return (await self.spool.run(Spool.usage)).whole_file

    async def settle(self, batches: int) -> None:
        """The first so many are settled."""

        def work(spool: Spool) -> int:
            return spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(batches)}, WALL_S)

        await self.spool.run(work)


@asynccontextmanager
async def feeding(path: Path, options: SpoolOptions, *, thin: bool) -> AsyncIterator[Feeding]:
    """Stopped on leaving, as by SIGTERM."""
    queue, batcher = ReadingQueue(), Batcher(linger_s=0.5, max_readings=SERIES)
    one: Feeding

    def now_ns() -> int:
        return one.now_us * 1000

    clock = Clock("system", monotonic_ns=now_ns, wall_ns=lambda: now_ns() + RELEASED_S * 10**9)
    async with SpoolThread.open(path, options, Boot("b", 0), None) as spool:
        sealer = Sealer(queue, batcher, spool, clock, thin=thin, sealed=lambda: None)
        one = Feeding(queue, batcher, spool, sealer)
        task = asyncio.create_task(sealer.run(), name="seal")
        try:
            yield one
        finally:
            queue.close()
            async with asyncio.timeout(PATIENCE_S):
                await task


@pytest.mark.parametrize("options", [SMALL, NEWEST], ids=lambda o: o.when_full)
async def test_thinning_begins_and_ends_with_the_spool_and_every_reading_is_told_of(
    tmp_path: Path, options: SpoolOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rng = random.Random(11)
    path = tmp_path / "spool.sqlite"
    async with feeding(path, options, thin=True) as one:
        while not one.thins():
            before = await one.fill()
            await one.seconds(1, rng)
            assert (await one.fill() >= BEGIN) == one.thins()
        assert before < BEGIN
        # All of it: a kill now would not have to tell of more than the linger.
        assert (await one.whole_file()).sealed_readings == one.given
        assert "80 % full of what is not settled: from now on" in caplog.text
        sealed = (await one.whole_file()).sealed_readings
        seconds_before = one.given // SERIES
        while await one.fill() < 0.97:
            await one.seconds(1, rng)
        # Noise: some eleven readings of sixty are kept, and batches of few cost more a reading.
        assert one.given // SERIES - seconds_before > 0.4 * seconds_before
        whole = await one.whole_file()
        assert whole.unsealed["thinned"] > 2 * (whole.sealed_readings - sealed)
        # Until it really has room, it goes on.
        batches = whole.sealed_batches
        await one.settle(batches // 5)
        assert END < await one.fill() < BEGIN
        await one.seconds(4, rng)
        assert one.thins()
        await one.settle(batches // 2)
        one.now_us += 1_000_000
        await one.give([reading("d0", 0.5, one.now_us)])
        await one.seconds(2, rng)
        assert not one.thins()
        assert caplog.text.count("every reading is sealed again") == 1
        assert one.batcher.waiting() <= 1
    server = Server()
    with opened(path, options, now_us=one.now_us) as spool:
        whole = spool.usage().whole_file
        assert whole.sealed_readings + whole.unsealed["thinned"] + one.sealer.state.no_room == one.given
        server.drain(spool)
    told = sum(g.readings or 0 for g in server.gaps if g.reason == "thinned")
    assert told == whole.unsealed["thinned"]
    assert "unclean_stop" not in {g.reason for g in server.gaps}


def values(spool: Spool) -> list[float]:
    """All that is sealed in a spool and not settled."""
    found = array("d")
    for identity in everything(spool):
        batch = spool.load(identity, GATEWAY, 1)
        assert batch is not None
        if batch.envelope.kind == Kind.DATA:
            column = unpack(batch)["v"]
            assert isinstance(column, bytes)
            found.frombytes(column)
    return list(found)


async def test_a_kill_while_thinning_is_told_from_before_what_was_held_back(tmp_path: Path) -> None:
    """At some moments of some minutes: what a kill there would lose, and what the gap would say."""
    rng = random.Random(5)
    path = tmp_path / "spool.sqlite"
    given: list[float] = []
    ages_us = []
    async with feeding(path, SMALL, thin=True) as one:
        thinning = one.batcher.thinning
        while not one.thins():
            await one.seconds(1, rng)
        before = len(given) + one.given
        for n in range(400):
            one.now_us += rng.choice([100_000, 700_000, 3_000_000])
            given.append(round(20 + rng.random(), 1) + n * 1e-9)  # each its own, and often no new extreme
            device = "c" if n % 43 < 3 else rng.choice("ab")  # one that says something once a minute
            await one.give([reading(device, given[-1], one.now_us)])
            if n % 10 != 9:
                continue
            unsealed = [*one.batcher._waiting, *(s.newest for s in thinning._series.values() if s.newest is not None)]
            assert len(unsealed) == one.batcher.waiting()
            left_out = thinning._left_out
            server = Server()
            with opened(copy_files(path, tmp_path / f"cut-{n}"), boot="b", now_us=one.now_us + 1) as left:
                sealed = values(left)
                told = left.usage().whole_file.unsealed.get("thinned", 0)
                server.drain(left)
            # Nothing is lost but what lingers, what is held back, and what was left out since the last batch.
            assert before + n + 1 == len(sealed) + told + len(unsealed) + (left_out.readings if left_out else 0)
            (stop,) = (g for g in server.gaps if g.reason == "unclean_stop")
            assert stop.from_us is not None
            from_us = stop.from_us - RELEASED_S * 1_000_000
            assert all(r.taken_at_us >= from_us for r in unsealed)
            assert left_out is None or left_out.from_us >= from_us
            assert stop.to_us == one.now_us + 1 + RELEASED_S * 1_000_000
            assert stop.readings is None
            ages_us += [one.now_us - r.taken_at_us for r in unsealed]
    # Some were held back for most of a minute, none for longer.
    assert 30_000_000 < max(ages_us) < MINUTE_US


async def test_without_being_asked_to_it_thins_nothing(tmp_path: Path) -> None:
    rng = random.Random(2)
    path = tmp_path / "spool.sqlite"
    async with feeding(path, SMALL, thin=False) as one:
        while await one.fill() < 0.98:
            await one.seconds(10, rng)
        await one.seconds(20, rng)
        assert not one.thins()
        whole = await one.whole_file()
        assert whole.unsealed == {}
        assert whole.sealed_readings == one.given


async def test_what_finds_no_room_is_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rng = random.Random(8)
    async with feeding(tmp_path / "spool.sqlite", NEWEST, thin=False) as one:
        while not one.sealer.state.no_room:
            await one.seconds(10, rng)
        await one.seconds(30, rng)
        whole = await one.whole_file()
        assert whole.unsealed == {"bound": one.sealer.state.no_room}
        assert whole.sealed_readings + one.sealer.state.no_room == one.given
        assert caplog.text.count("readings find no room") == 1
        await one.settle(whole.sealed_batches)
        await one.seconds(1, rng)
        assert caplog.text.count("readings find room in the spool again") == 1


def test_a_repetition_on_a_full_disk_seals_nothing_twice(tmp_path: Path) -> None:
    """There each step commits by itself: what came before one that failed was sealed again, under another identity."""
    failures = 0

    def fail_once_alone(spool: Spool) -> int:
        nonlocal failures
        if not spool.in_group and not failures:
            failures += 1
            raise SpoolUnavailable("spool.sqlite: disk I/O error")
        return 0

    with opened(tmp_path / "spool.sqlite") as spool:
        for n in range(20):
            sealed(spool, 1, n, size=20_000, seed=n)
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(20)}, WALL_S)  # these give room
        bodies = [Sealed(body(20_000, 20 + n), 3, n, n) for n in range(2)]
        lost = _losses(Refused(5, "fault", 0, 1), None, None, 0)
        put = _Put(ANCHOR, [_append(bodies[0]), *lost, fail_once_alone, _append(bodies[1])])
        (pages,) = spool._connection.execute("PRAGMA page_count").fetchone()
        spool._connection.execute(f"PRAGMA max_page_count = {pages}")
        (failed,) = spool.group([put])
        assert isinstance(failed.error, SpoolUnavailable)
        assert spool.usage().whole_file.sealed_batches == 21
        (done,) = spool.group([put])
        assert done.value == (0, spool.fill())
        whole = spool.usage().whole_file
        assert (whole.sealed_batches, whole.sealed_readings, whole.unsealed) == (22, 26, {"unencodable": 5})


async def test_a_disk_that_cannot_note_that_readings_are_thinned_does_not_keep_them_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sealer tried again for ever, and what came meanwhile was lost without a number."""
    refused = 0

    def refuse(_: Spool, us: int) -> None:
        nonlocal refused
        refused += us == MINUTE_US
        raise NoRoom("spool.sqlite: database or disk is full")

    rng = random.Random(4)
    async with feeding(tmp_path / "spool.sqlite", SMALL, thin=True) as one:
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "hold_back", refuse)
            while refused < 3:
                await one.seconds(1, rng)
            assert not one.thins()
        assert (await one.whole_file()).sealed_readings == one.given
        async with asyncio.timeout(PATIENCE_S):
            while not one.thins():
                await one.seconds(1, rng)
