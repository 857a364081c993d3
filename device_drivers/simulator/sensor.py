"""An emulated sensor: what it measures becomes the bytes of the real one, with faults on demand.

Time is an argument, in seconds of any clock, and chance comes from a seed: what happens can happen again.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Measured = Callable[[float], Mapping[str, float]]
"""What is to be measured at a time, by channel of the sensor's profile and in its unit."""


@dataclass(slots=True)
class Faults:
    """Of one sensor; may be changed at any time.

    silent: it says nothing and answers nothing, as with a torn wire. noise: the share of its frames, 0 to 1, in which a
    bit is flipped on the way. drift_per_h: the share by which all that it measures grows in an hour. stuck: it repeats
    what it measured last.
    """

    silent: bool = False
    noise: float = 0.0
    drift_per_h: float = 0.0
    stuck: bool = False


class SensorModel:
    """What is told apart by model: how it says something. One object for each sensor, as it may remember what it was
    told; this one says nothing.

    interval_s: from one frame to the next that it sends by itself, 0: none. boot_s: after power-up without a word.
    firmware: as its profile writes it, where it states one.
    """

    interval_s = 0.0
    boot_s = 0.0
    states_firmware = False
    firmware = ""

    def forget(self) -> None:
        """It lost its power, and with it what it was told."""

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        """Of what it sends by itself. on_for_s: since power-up."""
        return b""

    def answer(self, data: bytes, values: Mapping[str, float], on_for_s: float) -> bytes:
        """To what was heard now, which may be a part of a request; b"": nothing."""
        return b""


class EmulatedSensor:
    """One sensor, powered from the first time at which it is asked for anything."""

    def __init__(self, model: SensorModel, measured: Measured, seed: int = 0) -> None:
        self.faults = Faults()
        self.model = model
        self._measured = measured
        self._rng = random.Random(f"sensor {seed}")
        self._on_since_s: float | None = None
        self._due_s = 0.0
        self._drift = 1.0
        self._drifted_at_s = 0.0
        self._held: Mapping[str, float] = {}

    def due_s(self, now_s: float) -> float | None:
        """When it sends next; None: it only answers."""
        self._power(now_s)
        return self._due_s if self.model.interval_s else None

    def sent(self, now_s: float) -> bytes:
        """What it sends by itself now; at most one frame, as what nobody took is lost."""
        on_for_s = self._power(now_s)
        if not self.model.interval_s or now_s < self._due_s:
            return b""
        self._due_s = max(self._due_s + self.model.interval_s, now_s)
        return self._on_the_way(self.model.frame(self._values(now_s), on_for_s))

    def answer(self, data: bytes, now_s: float) -> bytes:
        """What it answers to what it hears now."""
        on_for_s = self._power(now_s)
        if on_for_s < self.model.boot_s:
            return b""
        return self._on_the_way(self.model.answer(data, self._values(now_s), on_for_s))

    def reboot(self, now_s: float) -> None:
        """A short power cut: it forgets what it was told, and begins as after power-up."""
        self.model.forget()
        self._on_since_s = None
        self._power(now_s)

    def update(self, firmware: str, now_s: float) -> None:
        """New firmware, and a reboot. Raises ValueError for a model that does not state its firmware."""
        if not self.model.states_firmware:
            raise ValueError(f"{type(self.model).__name__} does not state its firmware: nobody would see a new one")
        self.model.firmware = firmware
        self.reboot(now_s)

    def _power(self, now_s: float) -> float:
        """For how long it is on."""
        if self._on_since_s is None:
            self._on_since_s = self._drifted_at_s = now_s
            self._due_s = now_s + self.model.boot_s
        return now_s - self._on_since_s

    def _values(self, now_s: float) -> Mapping[str, float]:
        self._drift *= 1 + self.faults.drift_per_h * (now_s - self._drifted_at_s) / 3600
        self._drifted_at_s = now_s
        if not (self.faults.stuck and self._held):
            self._held = {channel: value * self._drift for channel, value in self._measured(now_s).items()}
        return self._held

    def _on_the_way(self, frame: bytes) -> bytes:
        if self.faults.silent:
            return b""
        if frame and self._rng.random() < self.faults.noise:
            bit = self._rng.randrange(8 * len(frame))
            return frame[: bit // 8] + bytes([frame[bit // 8] ^ 1 << bit % 8]) + frame[bit // 8 + 1 :]
        return frame
