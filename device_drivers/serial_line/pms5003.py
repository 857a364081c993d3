"""Plantower PMS5003 and PMS7003 as a driver: frames of a serial line become readings."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

from device_drivers.driver import Clock, Driver
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes, Reading, Series
from device_drivers.serial_line.options import Pms5003Options
from device_drivers.serial_line.plantower import Frame, PlantowerDecoder, encode
from device_drivers.transport import SerialLine, open_line
from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet

BAUDRATE = 9600

# How many times `silence_s` a line may give bytes without one valid frame. Reopening sets the line's speed again,
# which is what a garbled line most often lacks; and noise may not keep a dead sensor looking alive.
GARBLED_FACTOR = 3


def open_pms5003(options: Pms5003Options, profiles: ProfileSet, clock: Clock) -> Driver:
    """A driver that is entered to open its line.

    Raises ProfileError for a profile that wants a channel which the frame does not have.
    """
    known = [field.name for field in fields(Frame)]
    for profile in profiles:
        for channel in profile.channels if profile.driver == options.kind else ():
            if channel not in known:
                raise ProfileError(profile.name, f"channels.{channel}", f"the frame has {', '.join(known)}")
    return Pms5003(options, profiles, clock)


class Pms5003:
    """Reads one sensor; a new object for each opening.

    `readings` raises LinkLost when the line is gone, when it is silent for `silence_s`, and when it gives bytes but
    no valid frame for three times as long. Both of the latter are LinkLost and not DeviceTimeout because the sensor
    sends by itself: there is no question to ask again, only a line to open again.
    """

    def __init__(self, options: Pms5003Options, profiles: ProfileSet, clock: Clock) -> None:
        self._options = options
        self._profiles = profiles
        self._clock = clock
        self._decoder = PlantowerDecoder()
        self._sensor_errors = 0
        # By firmware as the frames state it in one byte: at most 256 entries.
        self._meanings: dict[str, _Known | _Unknown] = {}
        self._line: SerialLine | None = None
        self._opened_at_us = 0

    @property
    def name(self) -> str:
        return f"{self._options.model.lower()} on {self._options.port}"

    @property
    def faults(self) -> dict[str, int]:
        """skipped_bytes: bytes of no valid frame. bad_checksums: damaged frames. sensor_errors: frames in which the
        sensor itself states an error."""
        return {
            "skipped_bytes": self._decoder.skipped_bytes,
            "bad_checksums": self._decoder.bad_checksums,
            "sensor_errors": self._sensor_errors,
        }

    async def __aenter__(self) -> Self:
        self._line = await open_line(self._options.port, BAUDRATE, self._clock)
        self._opened_at_us = self._clock()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._line is not None:
            await self._line.close()

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """One sequence per frame, its readings all taken when the frame's last bytes came."""
        assert self._line is not None, "enter the driver before reading"
        silence_s = self._options.silence_s
        framed_at_us = self._opened_at_us
        while True:
            try:
                data, taken_at_us = await self._line.read(silence_s)
            except DeviceTimeout as error:
                raise LinkLost(f"{self.name}: silent for {silence_s:g} s; is the sensor powered?") from error
            frames = self._decoder.feed(data)
            if frames:
                framed_at_us = taken_at_us
            elif taken_at_us - framed_at_us > GARBLED_FACTOR * silence_s * 1_000_000:
                raise LinkLost(
                    f"{self.name}: bytes but no valid frame for {GARBLED_FACTOR * silence_s:g} s; is it the right "
                    "sensor, and its ground connected?"
                )
            for frame in frames:
                yield self._readings(frame, taken_at_us)

    def _readings(self, frame: Frame, taken_at_us: int) -> Sequence[Reading]:
        if frame.error:
            self._sensor_errors += 1
        firmware = self._options.firmware or str(frame.version)
        meaning = self._meanings.get(firmware)
        if meaning is None:
            meaning = self._meanings[firmware] = self._meaning(firmware)
        return meaning.readings(frame, taken_at_us, taken_at_us - self._opened_at_us)

    def _meaning(self, firmware: str) -> "_Known | _Unknown":
        profile = self._profiles.select(self._options.model, firmware)
        if profile is None:
            return _Unknown(raw_series(self._options.device, firmware))
        return _Known(
            Interpreter(self._options.device, firmware, profile), warm_up_us=int(profile.warm_up_s * 1_000_000)
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """A firmware that a profile explains."""

    interpreter: Interpreter
    warm_up_us: int

    def readings(self, frame: Frame, taken_at_us: int, open_for_us: int) -> Sequence[Reading]:
        causes = Causes.WARMING_UP if open_for_us < self.warm_up_us else Causes.NONE
        return [
            self.interpreter.reading(channel, getattr(frame, channel), taken_at_us, causes)
            for channel in self.interpreter.channels()
        ]


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A firmware that no profile explains: its frames are kept as they are."""

    series: Series

    def readings(self, frame: Frame, taken_at_us: int, open_for_us: int) -> Sequence[Reading]:
        return [raw_reading(self.series, encode(frame), taken_at_us)]
