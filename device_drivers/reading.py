"""The value that travels the whole line: one measurement of one channel of one device."""

from dataclasses import dataclass
from enum import IntFlag


class Causes(IntFlag):
    """Why a reading is less than fully reliable. Bits are part of the wire format: never renumber."""

    NONE = 0
    OUT_OF_RANGE = 1  # outside the range that the profile gives the channel
    CLOCK_UNCERTAIN = 2  # wall time known only within seconds or worse
    CLOCK_ESTIMATED = 4  # the boot was never synchronised; its time was bounded from its neighbours
    LOW_BATTERY = 8  # the device reported a battery too low to trust its sensor
    WARMING_UP = 16  # read within the profile's warm-up time after the device came up


@dataclass(frozen=True, slots=True)
class Series:
    """What stays the same from reading to reading of one channel.

    `profile` names the firmware profile that gave the bytes their meaning; it is empty where no profile
    matched the device's firmware, and then the reading carries the raw `frame` and no value.
    """

    device: str
    channel: str
    quantity: str
    unit: str
    profile: str
    firmware: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement.

    taken_at_us: integer microseconds of this boot's monotonic clock. Wall time is added by the batch's
    clock anchor, so that what was read before the clock was right is dated right afterwards.
    reliability: 0 (worthless) to 100; causes: bits of `Causes` that lowered it.
    frame: the raw bytes, only where they could not be decoded (see `Series.profile`).
    """

    series: Series
    value: float
    taken_at_us: int
    reliability: int = 100
    causes: int = 0
    frame: bytes | None = None
