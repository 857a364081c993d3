"""Supervision: one driver that fails harms no other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from device_drivers.driver import OVERFLOWS
from device_drivers.errors import LinkLost, ProtocolError
from device_drivers.reading import Reading
from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.collector import Collector, OpenDriver, Overrun, ReadingQueue
from gateway.link import wire
from gateway.link.backoff import FullJitter
from gateway.sealer import Sealer
from gateway.spool.thread import SpoolThread
from gateway.spool.values import Boot
from tests.gateway.scripted_driver import Script, ScriptedOptions, reading
from tests.gateway.spool.support import ANCHOR, GATEWAY, ROOMY

PATIENCE_S = 10.0


def options(*devices: str) -> list[ScriptedOptions]:
    return [ScriptedOptions(kind="scripted", device=device) for device in devices]


@asynccontextmanager
async def collecting(open_driver: OpenDriver, bound: int = 100) -> AsyncIterator[tuple[Collector, ReadingQueue]]:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        queue = ReadingQueue(bound)
        # A backoff whose draw is 0 waits for nothing.
        collector = Collector(tasks, queue, open_driver, backoff=lambda: FullJitter(1, 60, lambda: 0.0))
        yield collector, queue
        await collector.stop()


async def values(queue: ReadingQueue, count: int) -> list[float]:
    found: list[float] = []
    while len(found) < count:
        groups = await queue.take(None)
        assert groups is not None
        found += [one.value for group in groups for one in group]
    return found


@pytest.mark.parametrize(
    "error", [LinkLost("unplugged"), ProtocolError("nonsense"), RuntimeError("a bug"), OSError(5, "io"), KeyError("x")]
)
async def test_a_driver_that_fails_is_opened_again_and_harms_no_other(error: Exception) -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("bad", "good"))
        script.give("bad", 1.0)
        assert await values(queue, 1) == [1.0]
        script.fail("bad", error)
        script.give("good", 2.0)
        script.give("bad", 3.0)
        assert sorted(await values(queue, 2)) == [2.0, 3.0]
        bad, good = collector.drivers
        assert (bad.openings, bad.failures, good.openings, good.failures) == (2, 1, 1, 0)
        assert str(error) in bad.last_error
        assert (bad.readings, good.readings) == (2, 1)
        assert script.closed == ["bad"]
    assert sorted(script.closed) == ["bad", "bad", "good"]


async def test_a_driver_that_cannot_be_opened_is_tried_again() -> None:
    script = Script()
    script.open_fault["a"] = LinkLost("not plugged in")
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        while collector.drivers[0].failures < 3:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        assert collector.drivers[0].last_error == "not plugged in"
        del script.open_fault["a"]
        script.give("a", 1.0)
        assert await values(queue, 1) == [1.0]


async def test_a_missing_extra_is_named() -> None:
    def missing(_: object) -> "Script":
        raise ImportError("No module named 'bleak'")

    async with collecting(missing) as (collector, _):  # type: ignore[arg-type]
        await collector.apply(options("a"))
        while not collector.drivers[0].failures:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        assert collector.drivers[0].last_error == "No module named 'bleak': install heal7-iot[gateway]"


async def test_only_drivers_that_changed_are_restarted() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a", "b"))
        script.give("a", 1.0)
        script.give("b", 2.0)
        await values(queue, 2)
        moved = ScriptedOptions(kind="scripted", device="b", port="elsewhere")
        assert await collector.apply([moved, *options("a", "c")]) == (1, 2)
        script.give("a", 3.0)
        script.give("b", 4.0)
        script.give("c", 5.0)
        assert sorted(await values(queue, 3)) == [3.0, 4.0, 5.0]
        assert script.opened.count("a") == 1
        assert script.closed == ["b"]
        assert [driver.name for driver in collector.drivers] == ["scripted b", "scripted a", "scripted c"]


async def test_a_full_queue_makes_drivers_wait_and_loses_nothing() -> None:
    script = Script()
    for n in range(50):
        script.give("a", float(n))
    async with collecting(script.open, bound=3) as (collector, queue):
        await collector.apply(options("a"))
        while len(queue) < 3:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
            assert len(queue) <= 3
        assert await values(queue, 50) == [float(n) for n in range(50)]


async def test_what_was_read_before_a_stop_is_still_given() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        script.give("a", 1.0)
        while not len(queue):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        await collector.stop()
        groups = await queue.take(None)
        assert groups is not None
        assert [one.value for group in groups for one in group] == [1.0]
        assert await queue.take(None) is None


async def test_rates_are_kept_by_device() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        script.give_readings("a", [reading("x", 1.0), reading("y", 2.0), reading("x", 3.0)])
        await values(queue, 3)
        assert {name: rate.readings for name, rate in collector.devices.items()} == {"x": 2, "y": 1}


async def test_a_queue_that_stays_empty_gives_nothing_in_time() -> None:
    queue = ReadingQueue()
    assert await queue.take(0.0) == []
    group: Sequence[Reading] = [reading("a", 1.0)]
    await queue.put(group)
    assert await queue.take(0.0) == [group]


async def test_a_group_whose_driver_is_stopped_while_the_queue_is_full_is_kept() -> None:
    script = Script()
    async with collecting(script.open, bound=1) as (collector, queue):
        await collector.apply(options("a"))
        script.give("a", 1.0)
        script.give("a", 2.0)
        while collector.drivers[0].readings < 2:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        assert len(queue) == 1
        await collector.apply([])
        assert await values(queue, 2) == [1.0, 2.0]
        # It was behind, so what its device said after that is lost.
        assert queue.overrun() is not None
        assert queue.overrun() is None


async def test_a_stop_that_keeps_up_tells_of_no_loss() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        script.give("a", 1.0)
        assert await values(queue, 1) == [1.0]
        await collector.apply([])
        assert queue.overrun() is None


async def test_what_a_driver_drops_lies_between_the_groups_around_it() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        for at_us, dropped in ((1000, 0), (2000, 0), (9000, 5), (9500, 0)):
            script.drop("a", dropped)
            script.give_readings("a", [reading("a", 1.0, at_us)])
            await values(queue, 1)
            if dropped:
                assert queue.overrun() == Overrun(2000, 9000)
        assert queue.overrun() is None
        assert collector.drivers[0].faults == {OVERFLOWS: 5}
        # Dropped, and then the line is lost before anything else comes.
        script.drop("a", 1)
        script.fail("a", LinkLost("unplugged"))
        script.give("a", 2.0)
        await values(queue, 1)
        lost = queue.overrun()
        assert lost is not None
        assert lost.from_us == 9500 < lost.to_us


async def test_a_time_that_nothing_can_store_is_not_put_on_record() -> None:
    script = Script()
    async with collecting(script.open) as (collector, queue):
        await collector.apply(options("a"))
        script.give("a", 1.0)
        await values(queue, 1)
        script.drop("a", 1)
        script.give_readings("a", [reading("a", 1.0, 2**70)])
        await values(queue, 1)
        lost = queue.overrun()
        assert lost is not None
        assert 0 <= lost.from_us <= lost.to_us < 2**62


async def test_a_loss_in_the_queue_becomes_a_gap(tmp_path: Path) -> None:
    async with SpoolThread.open(tmp_path / "spool.sqlite3", ROOMY, Boot("b", 0), None) as spool:
        queue, clock = ReadingQueue(), Clock("kernel")
        queue.lost(5_000, 7_000)
        queue.lost(6_000, 9_000)
        queue.close()
        await Sealer(queue, Batcher(1.0, 10), spool, clock, thin=False, sealed=lambda: None).run()
        await spool.run(lambda s: s.set_anchor(ANCHOR))
        (gap,) = await spool.run(lambda s: s.seal_gaps())
        batch = await spool.run(lambda s: s.load(gap, GATEWAY, 1))
        assert batch is not None
        at = ANCHOR.offset_us
        assert wire.decode_gaps(wire.unpack(batch)) == [wire.Gap("overrun", 0, 0, (), None, at + 5_000, at + 9_000)]
