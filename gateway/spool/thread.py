"""The spool for asyncio: one thread owns it, and what waits together commits together.

An SD card takes tens of milliseconds for a commit, whatever is in it: so works that wait share one.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from gateway.spool.errors import SpoolError
from gateway.spool.store import Spool, draw_epoch
from gateway.spool.transactions import Outcome
from gateway.spool.values import Boot, SpoolOptions

log = logging.getLogger(__name__)

T = TypeVar("T")

WAITING = 256
"""Works that wait for the thread at most; who comes then waits to be let in, without having been taken."""
TOGETHER = 64
"""Works in one commit: what a failed one makes the others repeat, and what memory a transaction takes."""


@dataclass(frozen=True, slots=True)
class _Work:
    op: Callable[[Spool], Any]
    future: "asyncio.Future[Any]"
    by_s: float  # of time.monotonic(): no later than this must it be begun


class SpoolThread:
    """Runs works on the spool. Made by `open`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._places = asyncio.Semaphore(WAITING)
        self._open = True
        self._clean = True

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        options: SpoolOptions,
        boot: Boot,
        now_wall_s: float | None,
        draw_epoch: Callable[[], int] = draw_epoch,
    ) -> AsyncIterator[Self]:
        """The thread with its spool open; closed on leaving, after all works that were taken. Raises as Spool.open."""
        loop = asyncio.get_running_loop()
        self = cls(loop)
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[None] = loop.create_future()

        def body() -> None:
            self._thread(lambda: Spool.open(path, options, boot, now_wall_s, draw_epoch), opened, closed)

        # daemon: where the loop has died without leaving this context, the process must still be able to end. The
        # spool is then not closed cleanly, which the next opening tells.
        threading.Thread(target=body, name="spool", daemon=True).start()
        try:
            await asyncio.shield(opened)
            yield self
        finally:
            self._open = False
            self._waiting.put(None)
            # Not torn by cancellation: the thread would go on with the file open while the process starts another.
            await _uncancelled(closed)

    async def run(self, op: Callable[[Spool], T], *, within_s: float = 0.0) -> T:
        """Does `op` in the thread; when this returns it is committed. Raises what `op` raises, and SpoolError.

        `op` touches nothing but the spool, and may be called twice (on a full disk). Works that wait together are
        one transaction, each in a savepoint. within_s: a work that is in no hurry (a receipt: lost, it comes
        again) may wait so long for others to share their commit.
        """
        if not self._open:
            raise SpoolError("the spool is closed")
        await self._places.acquire()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Work(op, future, time.monotonic() + within_s))
        # Who is cancelled here leaves a work that is done all the same. What leaks is its result: the identity of
        # a batch that is in the spool and will be sent like any other.
        return await future

    def leave_unclean(self) -> None:
        """Readings were lost that the spool could not be told of: the next opening tells of an unclean stop."""
        self._clean = False

    def _thread(
        self,
        open_spool: Callable[[], Spool],
        opened: "asyncio.Future[None]",
        closed: "asyncio.Future[None]",
    ) -> None:
        try:
            spool = open_spool()
        except Exception as error:  # noqa: BLE001  # raised where the spool was to be opened
            self._tell(_fail, opened, error)
            self._tell(_finish, closed)
            return
        self._tell(_finish, opened)
        try:
            self._serve(spool)
        finally:
            try:
                spool.close(clean=self._clean)
            except SpoolError as error:
                # The next opening tells of an unclean stop; nothing sealed is lost.
                log.warning("spool not closed cleanly: %s", error)
            self._tell(_finish, closed)

    def _serve(self, spool: Spool) -> None:
        more = True
        while more:
            works, more = self._gather()
            for first in range(0, len(works), TOGETHER):
                self._do(spool, works[first : first + TOGETHER])

    def _gather(self) -> tuple[list[_Work], bool]:
        """Works to do now, and whether others can follow."""
        works: list[_Work] = []
        while len(works) < WAITING:
            left_s = min((w.by_s for w in works), default=None)
            if left_s is not None:
                left_s = max(0.0, left_s - time.monotonic())
            try:
                work = self._waiting.get(timeout=left_s)
            except queue.Empty:
                break
            if work is None:
                return works, False
            works.append(work)
        return works, True

    def _do(self, spool: Spool, works: list[_Work]) -> None:
        try:
            outcomes = spool.group([work.op for work in works])
        except Exception as error:  # noqa: BLE001  # each caller gets it; the thread must go on to close the file
            outcomes = [Outcome(None, error) for _ in works]
        for work, outcome in zip(works, outcomes, strict=True):
            self._tell(self._settle, work.future, outcome)

    def _settle(self, future: "asyncio.Future[Any]", outcome: Outcome[Any]) -> None:
        self._places.release()
        if future.done():
            return  # cancelled
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            log.debug("the event loop is gone: nobody to tell")


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def _uncancelled(future: "asyncio.Future[None]") -> None:
    """Waits to the end; a cancellation is delivered after it."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
