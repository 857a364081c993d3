"""From a device's raw numbers to readings, as its firmware profile says."""

import math

from device_drivers.reading import Causes, Reading, Series
from device_drivers.reliability import Plausibility, reliability
from firmware_profiles.profile import FirmwareProfile

_OUT_OF_RANGE = Causes.OUT_OF_RANGE.value


class Interpreter:
    """The channels of one device with one firmware. Its `Series` are built once, so that batching them is cheap.

    It remembers each channel's last values, for the causes that only a row of readings shows.
    """

    def __init__(self, device: str, firmware: str, profile: FirmwareProfile) -> None:
        self._channels = {
            channel.name: (
                channel,
                Series(device, channel.name, channel.quantity, channel.symbol, profile.name, firmware),
                None if channel.max_rate is None and channel.stuck_after_s is None else Plausibility(channel),
            )
            for channel in profile.channels.values()
        }

    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the profile knows."""
        return tuple(self._channels)

    def reading(self, channel: str, raw: float, taken_at_us: int, causes: int = 0) -> Reading:
        """`raw` in the device's own number; KeyError for a channel that is not in the profile.

        causes: bits of `Causes` that the driver knows already.
        """
        meaning, series, plausibility = self._channels[channel]
        value = meaning.value(raw)
        bits = int(causes)
        if not meaning.in_range(value):
            bits |= _OUT_OF_RANGE
        if plausibility is not None:
            bits |= plausibility.causes(value, taken_at_us)
        return Reading(series, value, taken_at_us, reliability(bits) if bits else 100, bits)


def raw_series(device: str, firmware: str) -> Series:
    """For what a device sends while no profile knows its firmware: kept, not decoded by guess."""
    return Series(device, "raw", "raw", "", profile="", firmware=firmware)


def raw_reading(series: Series, frame: bytes, taken_at_us: int) -> Reading:
    """A reading without a value that carries the undecoded frame."""
    return Reading(series, math.nan, taken_at_us, reliability=0, frame=frame)
