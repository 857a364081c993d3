"""The spool for asyncio."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.link.ranges import RangeSet
from gateway.spool.errors import SpoolError, SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import WAITING, SpoolThread
from gateway.spool.values import Boot, Identity
from tests.gateway.spool.support import ANCHOR, LEDGER, ROOMY, WALL_S, body, copy_files, epochs, everything, opened

BOOT = Boot("b", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def append(readings: int) -> Callable[[Spool], Identity | None]:
    return lambda spool: spool.append(body(500, readings), readings, 0, 1)


async def test_works_are_committed_when_they_return(path: Path, tmp_path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, WALL_S, epochs()) as spool:
        await spool.run(lambda s: s.set_anchor(ANCHOR))
        identity = await spool.run(append(3))
        with opened(copy_files(path, tmp_path / "cut"), now_us=5) as after:
            assert everything(after) == [identity]
        assert (await spool.run(lambda s: s.usage())).readings == 3
        assert len(await spool.run(lambda s: s.books().epochs)) == 1
    with opened(path, now_us=6) as after:
        assert after.seal_gaps() == []  # stopped cleanly


async def test_works_that_wait_share_a_commit(path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        started, release = threading.Event(), threading.Event()

        def blocks(_: Spool) -> None:
            started.set()
            release.wait(5)

        blocked = asyncio.create_task(spool.run(blocks))
        await asyncio.to_thread(started.wait, 5)
        waiting = [asyncio.create_task(spool.run(append(n + 1))) for n in range(10)]
        await asyncio.sleep(0)
        changes = await asyncio.to_thread(lambda: path.with_name(path.name + "-wal").stat().st_size)
        release.set()
        await blocked
        identities = await asyncio.gather(*waiting)
        grown = path.with_name(path.name + "-wal").stat().st_size - changes
    assert [i.seq for i in identities if i] == list(range(10))
    # Ten commits would write the first page ten times, and each batch's page.
    assert grown < 16 * 1048


async def test_a_work_that_fails_harms_no_other(path: Path) -> None:
    def fails(spool: Spool) -> None:
        spool.append(body(10), 1, 0, 1)
        raise LookupError("of the caller")

    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        results = await asyncio.gather(
            spool.run(append(1)), spool.run(fails), spool.run(append(2)), return_exceptions=True
        )
        assert isinstance(results[1], LookupError)
        assert (await spool.run(lambda s: s.usage())).readings == 3


async def test_a_patient_work_waits_for_others(path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        order: list[str] = []

        async def receipt() -> None:
            await spool.run(lambda s: s.apply_receipt(LEDGER, {s.epoch: RangeSet.below(9)}, WALL_S), within_s=60)
            order.append("receipt")

        patient = asyncio.create_task(receipt())
        await asyncio.sleep(0.05)
        assert not patient.done()
        await spool.run(append(1))
        await patient
        alone = await spool.run(lambda s: s.usage(), within_s=0.01)
        assert alone.readings == 1
    assert order == ["receipt"]


async def test_patient_works_are_done_before_closing(path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        patient = asyncio.create_task(spool.run(append(4), within_s=60))
        await asyncio.sleep(0)
    assert await patient is not None
    with pytest.raises(SpoolError, match="closed"):
        await spool.run(append(1))


async def test_a_cancelled_caller_leaves_a_work_that_is_done(path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        for n in range(2 * WAITING):  # places come back, too
            task = asyncio.create_task(spool.run(append(1)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if n % 100 == 99:
                await spool.run(lambda s: s.usage())
        assert (await spool.run(lambda s: s.usage())).batches == 2 * WAITING


async def test_cancellation_while_closing_waits_for_the_file(path: Path) -> None:
    tasks: list[asyncio.Task[Identity | None]] = []

    async def holds() -> None:
        async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
            tasks.extend(asyncio.create_task(spool.run(append(1))) for _ in range(50))
            await asyncio.sleep(0)
            raise asyncio.CancelledError

    task = asyncio.create_task(holds())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with opened(path, now_us=3):  # nobody holds it
        pass


async def test_more_works_than_places(path: Path) -> None:
    async with SpoolThread.open(path, ROOMY, BOOT, None) as spool:
        await asyncio.gather(*(spool.run(append(1)) for _ in range(3 * WAITING)))
        assert (await spool.run(lambda s: s.usage())).batches == 3 * WAITING


async def test_what_keeps_the_spool_from_opening_is_raised(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnavailable):
        async with SpoolThread.open(tmp_path / "no" / "spool.sqlite", ROOMY, BOOT, None):
            pass
