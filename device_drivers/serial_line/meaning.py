"""What the frames of one sensor mean, by the firmware that they state."""

from collections.abc import Sequence
from dataclasses import replace

from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes, Reading, Series
from device_drivers.serial_line.codec import Sample
from device_drivers.serial_line.options import SensorOptions
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet


def require_channels(profiles: ProfileSet, kind: str, channels: Sequence[str]) -> None:
    """Raises ProfileError for a profile of this kind of driver that wants a channel which its frames do not have."""
    for profile in profiles:
        for channel in profile.channels if profile.driver == kind else ():
            if channel not in channels:
                raise ProfileError(profile.name, f"channels.{channel}", f"the frame has {', '.join(channels)}")


class Meanings:
    """Of one sensor; few, for frames that state a firmware have a byte or two for it."""

    def __init__(self, options: SensorOptions, profiles: ProfileSet) -> None:
        self._options = options
        self._profiles = profiles
        self._by_firmware: dict[str, _Known | _Unknown] = {}

    def readings(self, sample: Sample, frame: bytes, taken_at_us: int, open_for_us: int) -> Sequence[Reading]:
        """What a frame comes to; nothing where the profile's sampling leaves it out."""
        firmware = self._options.firmware or sample.firmware
        meaning = self._by_firmware.get(firmware)
        if meaning is None:
            meaning = self._by_firmware[firmware] = self._of(firmware)
        return meaning.readings(sample, frame, taken_at_us, open_for_us)

    def _of(self, firmware: str) -> "_Known | _Unknown":
        profile = self._profiles.select(self._options.model, firmware)
        if profile is None:
            return _Unknown(raw_series(self._options.device, firmware))
        return _Known(Interpreter(self._options.device, firmware, profile), profile, self._options.keep_frames)


class _Known:
    """A firmware that a profile explains."""

    def __init__(self, interpreter: Interpreter, profile: FirmwareProfile, keep_frames: bool) -> None:
        self._interpreter = interpreter
        self._keep_frames = keep_frames
        self._warm_up_us = int(profile.warm_up_s * 1_000_000)
        self._interval_us = int(profile.sampling.interval_s * 1_000_000)
        self._on_change = profile.sampling.on_change
        self._due_us = 0
        self._changing: list[float | None] = []

    def readings(self, sample: Sample, frame: bytes, taken_at_us: int, open_for_us: int) -> Sequence[Reading]:
        changing = [sample.values.get(channel) for channel in self._on_change]
        if taken_at_us < self._due_us and changing == self._changing:
            return []
        self._due_us, self._changing = taken_at_us + self._interval_us, changing
        causes = Causes.WARMING_UP.value if open_for_us < self._warm_up_us else 0
        if sample.error:
            causes |= Causes.SENSOR_ERROR.value
        readings = [
            self._interpreter.reading(channel, sample.values[channel], taken_at_us, causes)
            for channel in self._interpreter.channels()
            if channel in sample.values
        ]
        if self._keep_frames and readings:
            readings[0] = replace(readings[0], frame=frame)
        return readings


class _Unknown:
    """A firmware that no profile explains: its frames are kept as they are."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def readings(self, sample: Sample, frame: bytes, taken_at_us: int, open_for_us: int) -> Sequence[Reading]:
        del sample, open_for_us
        return [raw_reading(self._series, frame, taken_at_us)]
