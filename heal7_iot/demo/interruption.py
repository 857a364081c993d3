"""Signals: the first ends the demonstration in order, the second at once; either way nothing stays behind."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

from heal7_iot.demo.errors import Interrupted

_T = TypeVar("_T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Made within the task that a second signal cancels."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._cancelled = False
        self.signal: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handles signals from here on."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        # nohup asks for a life beyond the terminal's.
        heard = [n for n in _ENDING if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self._on_signal, number, task)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int, task: asyncio.Task[object]) -> None:
        if self._stop.is_set() and not self._cancelled:
            # Only once: a third signal would cancel the very clean-up.
            self._cancelled = True
            task.cancel()
        self.signal = self.signal or number
        self._stop.set()

    def end(self) -> None:
        """As if a signal had come: the terminal is gone."""
        self._stop.set()

    @property
    def came(self) -> bool:
        return self._stop.is_set()

    def check(self) -> None:
        """Raises Interrupted once a signal has come."""
        if self.came:
            raise Interrupted

    async def within(self, seconds: float) -> bool:
        """Waits so long; True as soon as a signal has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stop.wait()
        return self.came


async def in_thread(work: Callable[[], _T]) -> _T:
    """`work` in a thread, with which a cancellation waits: what it starts must not begin to live afterwards."""
    task = asyncio.ensure_future(asyncio.to_thread(_unsignalled, work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # taken note of: the cancellation is what the caller has to know
        raise


def _unsignalled(work: Callable[[], _T]) -> _T:
    with unsignalled_children():
        return work()


@contextlib.contextmanager
def unsignalled_children() -> Iterator[None]:
    """Programs that are started within don't hear the terminal's Ctrl-C: the line is taken down from source to sink.

    A child inherits the mask of the thread that starts it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
