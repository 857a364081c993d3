"""Emulated sensors on an emulated line, within an event loop: they answer at once, and send when they are due."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from device_drivers.simulator.sensor import EmulatedSensor

_IDLE_S = 0.5
"""For which a line of sensors that only answer sleeps: nobody waits for it."""


class Line(Protocol):
    """A pseudo-terminal or a device server. port: as a configuration names it."""

    @property
    def port(self) -> str: ...
    def serve(self, heard: Callable[[bytes], None]) -> None: ...
    def write(self, data: bytes) -> int: ...
    def hang_up(self) -> None: ...
    def replug(self) -> None: ...
    def close(self) -> None: ...


class Attached:
    """All hear what comes and answer it, from its making on; `run` has them send, too. One sensor on a line of its own,
    or several units on a bus.

    heard: pieces that came, in order. was_heard: set with each.
    """

    def __init__(self, line: Line, *sensors: EmulatedSensor, now_s: Callable[[], float] = time.monotonic) -> None:
        self.line = line
        self.sensors = sensors
        self.heard: list[bytes] = []
        self.was_heard = asyncio.Event()
        self._now_s = now_s
        line.serve(self._hear)

    def send_due(self) -> None:
        """What the sensors send by themselves by now."""
        for sensor in self.sensors:
            frame = sensor.sent(self._now_s())
            if frame:
                self.line.write(frame)

    async def run(self) -> None:
        """For ever."""
        while True:
            self.send_due()
            now_s = self._now_s()
            due = [due_s for sensor in self.sensors if (due_s := sensor.due_s(now_s)) is not None]
            await asyncio.sleep(max(0.0, min(due) - now_s) if due else _IDLE_S)

    def _hear(self, data: bytes) -> None:
        self.heard.append(data)
        self.was_heard.set()
        for sensor in self.sensors:
            answered = sensor.answer(data, self._now_s())
            if answered:
                self.line.write(answered)
