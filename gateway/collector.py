"""Reads every device, each in a task of its own: one that fails harms no other.

The drivers' one supervisor: its broad `except`s stand around one driver each, as a bug may be anywhere in it.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from device_drivers.driver import OVERFLOWS, AsksOnLine, Driver
from device_drivers.errors import DriverError, LinkLost
from device_drivers.reading import Reading
from firmware_profiles.errors import ProfileError
from gateway.link.backoff import FullJitter

log = logging.getLogger(__name__)

MAX_WAITING = 1024
"""Groups of readings (one frame or advertisement each) that wait for the batcher. At 120 a second, a full room, it
covers the 8 s that a worn SD card was seen to take for one commit; beyond that drivers are made to wait."""

MAX_DEVICES = 4096
"""Devices whose rate is told. A radio that forwards unlisted devices must not fill the memory."""

_REOPEN_FIRST_S = 1.0
_REOPEN_LONGEST_S = 60.0

# A driver bounds its own waits; this is for the one that forgot, as in a kernel call that hangs.
_ENTER_TIMEOUT_S = 60.0
_LEAVE_TIMEOUT_S = 10.0

# A line that gives readings for so long was no flapping one: the next wait is short again.
_SOUND_S = 10.0

OpenDriver = Callable[[Any], Driver]
"""Makes a driver of its options, which is then entered; raises ProfileError or ImportError where it cannot."""


@dataclass(slots=True)
class DriverHealth:
    """What is known of one driver. Times are seconds of the monotonic clock, None where there was none yet.

    line_busy_s: in which it asked on its line, over all openings; None of a driver that only listens.
    """

    name: str
    state: str = "opening"
    openings: int = 0
    failures: int = 0
    readings: int = 0
    last_reading_s: float | None = None
    last_error: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    line_busy_s: float | None = None

    def count_faults(self, before: dict[str, int], now: dict[str, int]) -> None:
        """Adds what a driver counted: its own counts begin again with each opening."""
        for kind, count in now.items():
            if count > before.get(kind, 0):
                self.faults[kind] += count - before.get(kind, 0)


@dataclass(slots=True)
class DeviceRate:
    """Readings of one device since the start. last_s: seconds of the monotonic clock."""

    readings: int = 0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Overrun:
    """Readings, nobody knows how many, that came faster than they were taken. Monotonic µs."""

    from_us: int
    to_us: int


class ReadingQueue:
    """What was read and is not yet in a batch; bounded, so that a slow disk slows the drivers and not the memory."""

    def __init__(self, bound: int = MAX_WAITING) -> None:
        self._bound = bound
        self._groups: deque[Sequence[Reading]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._overrun: Overrun | None = None

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    async def put(self, group: Sequence[Reading]) -> None:
        """Waits while the queue is full. Takes the group also where that is cancelled: no device gives it again."""
        try:
            while len(self._groups) >= self._bound:
                self._room.clear()
                await self._room.wait()
        finally:
            # Beyond the bound by no more than one for each driver that is being stopped.
            self._groups.append(group)
            self._changed.set()

    def lost(self, from_us: int, to_us: int) -> None:
        """Some readings of this time (monotonic µs) will never come."""
        before = self._overrun or Overrun(from_us, to_us)
        self._overrun = Overrun(min(before.from_us, from_us), max(before.to_us, from_us, to_us))

    def overrun(self) -> Overrun | None:
        """What was lost since this was asked last."""
        overrun, self._overrun = self._overrun, None
        return overrun

    def close(self) -> None:
        """Nothing comes any more: what waits is still given."""
        self._closed = True
        self._changed.set()

    async def take(self, timeout_s: float | None) -> list[Sequence[Reading]] | None:
        """All that waits; empty if nothing comes within `timeout_s` seconds; None when closed and empty."""
        if not self._groups and not self._closed:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        if not self._groups:
            return None if self._closed else []
        groups = list(self._groups)
        self._groups.clear()
        self._room.set()
        return groups


class Collector:
    """Starts, restarts and stops drivers within the daemon's TaskGroup."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        queue: ReadingQueue,
        open_driver: OpenDriver,
        *,
        now_s: Callable[[], float] = time.monotonic,
        backoff: Callable[[], FullJitter] = lambda: FullJitter(_REOPEN_FIRST_S, _REOPEN_LONGEST_S),
    ) -> None:
        self._tasks = tasks
        self._queue = queue
        self._open = open_driver
        self._now_s = now_s
        self._backoff = backoff
        self._running: list[_Supervised] = []
        self.devices: dict[str, DeviceRate] = {}

    @property
    def drivers(self) -> list[DriverHealth]:
        """The health of every driver, in the order of the configuration."""
        return [one.health for one in self._running]

    async def apply(self, wanted: Iterable[BaseModel], *, anew: bool = False) -> tuple[int, int]:
        """Makes these drivers run and no others; those that did not change are not touched. (stopped, started)

        anew: all are opened anew, since what else they are made of has changed.
        """
        before = list(self._running)
        after: list[_Supervised | BaseModel] = []
        for options in wanted:
            same = None if anew else next((one for one in before if one.options == options), None)
            if same is not None:
                before.remove(same)
            after.append(same or options)
        # First those that go: one that comes may want the port that they hold.
        await _stop(before)
        self._running = [one if isinstance(one, _Supervised) else self._start(one) for one in after]
        return len(before), sum(not isinstance(one, _Supervised) for one in after)

    async def stop(self) -> None:
        """Leaves every driver, then closes the queue: what they gave before is still taken."""
        running, self._running = self._running, []
        await _stop(running)
        self._queue.close()

    def _start(self, options: BaseModel) -> "_Supervised":
        health = DriverHealth(str(getattr(options, "kind", type(options).__name__)))
        task = self._tasks.create_task(self._supervise(options, health), name=f"driver {health.name}")
        return _Supervised(options, health, task)

    async def _supervise(self, options: BaseModel, health: DriverHealth) -> None:
        backoff = self._backoff()
        while True:
            began_s = self._now_s()
            health.state = "opening"
            try:
                await self._read(options, health)
                health.last_error = "ended without an error, which a driver must not"
                log.error("%s: %s", health.name, health.last_error)
            except LinkLost as error:
                health.last_error = str(error)
                log.warning("%s", _named(health.name, error))
            except (DriverError, ProfileError, TimeoutError) as error:
                health.last_error = str(error) or type(error).__name__
                log.warning("%s", _named(health.name, error))
            except ImportError as error:
                health.last_error = f"{error}: install heal7-iot[gateway]"
                log.error("%s: %s", health.name, health.last_error)
            except Exception as error:
                # A bug in one driver must not stop the others; its author needs the traceback.
                health.last_error = f"{type(error).__name__}: {error}"
                log.exception("%s failed in a way that nobody foresaw; please report this", health.name)
            health.failures += 1
            health.state = "waiting"
            if health.last_reading_s is not None and health.last_reading_s - began_s >= _SOUND_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _read(self, options: BaseModel, health: DriverHealth) -> None:
        driver = self._open(options)
        health.name = driver.name
        health.openings += 1
        busy_before_s = health.line_busy_s or 0.0
        counted: dict[str, int] = {}
        # A driver that drops something drops what is older than all it holds: it lies between two groups.
        taken_us = self._now_us()
        # Entered and left by hand, each with a bound: a line that hangs in the kernel would keep its supervisor, and
        # with it a stop, for ever. Left also where entering failed half way.
        try:
            async with asyncio.timeout(_ENTER_TIMEOUT_S):
                await driver.__aenter__()
            health.state = "reading"
            stream = driver.readings()
            try:
                async for group in stream:
                    if group:
                        self._note(group, health)
                    before_us = taken_us
                    if group:
                        taken_us = _within(group[-1].taken_at_us, self._now_us())
                    counted = self._count(driver, health, counted, before_us, taken_us)
                    _take_load(driver, health, busy_before_s)
                    if group:
                        await self._put(group, taken_us)
            finally:
                # A generator that is left to the garbage collector would use its line after it was closed.
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
        finally:
            self._count(driver, health, counted, taken_us, self._now_us())
            _take_load(driver, health, busy_before_s)
            await _leave(driver)

    def _count(
        self, driver: Driver, health: DriverHealth, counted: dict[str, int], from_us: int, to_us: int
    ) -> dict[str, int]:
        """Adds what the driver counted since `counted`; what it dropped, it dropped between these times."""
        faults = dict(driver.faults)
        health.count_faults(counted, faults)
        if faults.get(OVERFLOWS, 0) > counted.get(OVERFLOWS, 0):
            self._queue.lost(from_us, to_us)
        return faults

    async def _put(self, group: Sequence[Reading], taken_us: int) -> None:
        try:
            await self._queue.put(group)
        except asyncio.CancelledError:
            # It had to wait when it was stopped: what its device said meanwhile is lost with it.
            self._queue.lost(taken_us, self._now_us())
            raise

    def _now_us(self) -> int:
        return int(self._now_s() * 1_000_000)

    def _note(self, group: Sequence[Reading], health: DriverHealth) -> None:
        now_s = self._now_s()
        health.readings += len(group)
        health.last_reading_s = now_s
        for reading in group:
            device = reading.series.device
            rate = self.devices.get(device)
            if rate is None:
                if len(self.devices) >= MAX_DEVICES:
                    self.devices.pop(min(self.devices, key=lambda name: self.devices[name].last_s))
                rate = self.devices[device] = DeviceRate()
            rate.readings += 1
            rate.last_s = now_s


@dataclass(frozen=True, slots=True)
class _Supervised:
    options: BaseModel
    health: DriverHealth
    task: "asyncio.Task[None]"


def _take_load(driver: Driver, health: DriverHealth, before_s: float) -> None:
    """before_s: of earlier openings, as a driver's own time begins again with each."""
    if isinstance(driver, AsksOnLine):
        health.line_busy_s = before_s + driver.line_busy_s


def _within(taken_at_us: int, now_us: int) -> int:
    # A driver's bug must not put a time on record that nothing can store.
    return taken_at_us if type(taken_at_us) is int and 0 <= taken_at_us <= now_us else now_us


async def _stop(running: Sequence[_Supervised]) -> None:
    pending = {one.task for one in running}
    while pending:
        for task in pending:
            task.cancel()
        # Told again after that: `asyncio.wait_for` of Python 3.11, in whichever library, may swallow a cancellation.
        _, pending = await asyncio.wait(pending, timeout=_LEAVE_TIMEOUT_S + 1)


async def _leave(driver: Driver) -> None:
    try:
        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
            await driver.__aexit__(None, None, None)
    except TimeoutError:
        log.warning("%s did not close within %g s and is left as it is", driver.name, _LEAVE_TIMEOUT_S)
    except Exception:
        # Raised, it would hide why the driver is left; while it is being stopped, it would keep it running.
        log.exception("%s failed while it was closed", driver.name)


def _named(name: str, error: Exception) -> str:
    said = str(error) or type(error).__name__
    return said if name in said else f"{name}: {said}"
