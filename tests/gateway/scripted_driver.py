"""A driver that gives what a test tells it to give, in place of a device."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from device_drivers.driver import OVERFLOWS, Clock, Driver
from device_drivers.presence import Presence
from device_drivers.reading import Reading, Series
from device_drivers.registry import DriverKind
from firmware_profiles.selection import ProfileSet
from gateway.config import Kinds


class ScriptedOptions(BaseModel):
    """port stands for a line, so that changing it is a changed driver."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scripted"]
    device: Annotated[str, Field(min_length=1)]
    port: str = ""


def series(device: str, channel: str = "pm2_5") -> Series:
    return Series(device, channel, "mass_concentration", "µg/m³", "test-1", "1")


def reading(device: str, value: float, taken_at_us: int = 1_000_000, channel: str = "pm2_5") -> Reading:
    return Reading(series(device, channel), value, taken_at_us)


class Script:
    """What the devices of a test do: readings to give and errors to raise, by device, in order."""

    def __init__(self) -> None:
        self._steps: dict[str, asyncio.Queue[Sequence[Reading] | Exception]] = defaultdict(asyncio.Queue)
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.open_fault: dict[str, Exception] = {}
        self.dropped: dict[str, int] = {}
        self._clock: Clock = lambda: 0

    def give(self, device: str, *values: float) -> None:
        """One frame with these values, taken now."""
        self._steps[device].put_nowait([reading(device, value, self._clock()) for value in values])

    def give_readings(self, device: str, readings: Sequence[Reading]) -> None:
        self._steps[device].put_nowait(readings)

    def fail(self, device: str, error: Exception) -> None:
        self._steps[device].put_nowait(error)

    def drop(self, device: str, count: int) -> None:
        """As if the driver had dropped so many more, before what is given next."""
        self.dropped[device] = self.dropped.get(device, 0) + count

    def kinds(self) -> Kinds:
        """A registry with this script as its only kind of driver."""

        def make(options: ScriptedOptions, profiles: ProfileSet, clock: Clock) -> Driver:
            self._clock = clock
            return _Scripted(options, self)

        kind: DriverKind[Any] = DriverKind(ScriptedOptions, make, _presence)
        return {"scripted": kind}

    def open(self, options: BaseModel) -> Driver:
        """For a collector without a registry."""
        assert isinstance(options, ScriptedOptions)
        return _Scripted(options, self)

    async def next_step(self, device: str) -> Sequence[Reading] | Exception:
        return await self._steps[device].get()


def _presence(options: ScriptedOptions) -> Presence:
    return Presence(options.port, None, (), ())


class _Scripted:
    def __init__(self, options: ScriptedOptions, script: Script) -> None:
        self._options = options
        self._script = script
        self._dropped = script.dropped.get(options.device, 0)

    @property
    def name(self) -> str:
        return f"scripted {self._options.device}"

    @property
    def faults(self) -> dict[str, int]:
        dropped = self._script.dropped.get(self._options.device, 0) - self._dropped
        return {OVERFLOWS: dropped} if dropped else {}

    async def __aenter__(self) -> Self:
        if fault := self._script.open_fault.get(self._options.device):
            raise fault
        self._script.opened.append(self._options.device)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._script.closed.append(self._options.device)

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        while True:
            step = await self._script.next_step(self._options.device)
            if isinstance(step, Exception):
                raise step
            yield step
