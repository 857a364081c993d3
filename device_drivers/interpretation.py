"""From a device's raw numbers to readings, as its firmware profile says."""

import math

from device_drivers.reading import Causes, Reading, Series
from firmware_profiles.profile import FirmwareProfile

# A reading is as reliable as the worst of its causes lets it be (0 to 100).
_RELIABILITY = {Causes.OUT_OF_RANGE: 20, Causes.WARMING_UP: 50}


def reliability(causes: Causes) -> int:
    """0 to 100, for the causes that are judged here; the clock's are judged by the server."""
    return min((_RELIABILITY[cause] for cause in causes if cause in _RELIABILITY), default=100)


class Interpreter:
    """The channels of one device with one firmware. Its `Series` are built once, so that batching them is cheap."""

    def __init__(self, device: str, firmware: str, profile: FirmwareProfile) -> None:
        self._channels = {
            channel.name: (
                channel,
                Series(device, channel.name, channel.quantity, channel.unit, profile.name, firmware),
            )
            for channel in profile.channels.values()
        }

    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the profile knows."""
        return tuple(self._channels)

    def reading(self, channel: str, raw: float, taken_at_us: int, causes: Causes = Causes.NONE) -> Reading:
        """`raw` in the device's own number; KeyError for a channel that is not in the profile."""
        meaning, series = self._channels[channel]
        value = meaning.value(raw)
        if not meaning.in_range(value):
            causes |= Causes.OUT_OF_RANGE
        return Reading(series, value, taken_at_us, reliability(causes), int(causes))


def raw_series(device: str, firmware: str) -> Series:
    """For what a device sends while no profile knows its firmware: kept, not decoded by guess."""
    return Series(device, "raw", "raw", "", profile="", firmware=firmware)


def raw_reading(series: Series, frame: bytes, taken_at_us: int) -> Reading:
    """A reading without a value that carries the undecoded frame."""
    return Reading(series, math.nan, taken_at_us, reliability=0, frame=frame)
