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
    FAST_CHANGE = 32  # further from the last believable value than the profile lets the channel move in that time
    STUCK = 64  # the same number for longer than the profile says that a working sensor can give it
    SENSOR_ERROR = 128  # the sensor itself states an error
    WEAK_SIGNAL = 256  # heard at the edge of the radio's range: others of its readings will be missing

    @classmethod
    def names(cls, bits: int) -> list[str]:
        """The causes by name, lowest bit first; `bit_512` for one that a newer gateway knows and we do not."""
        known = [cause.name.lower() for cause in cls if cause.value & bits and cause.name is not None]
        unknown = bits & ~sum(cls)
        return known + [f"bit_{1 << n}" for n in range(unknown.bit_length()) if unknown >> n & 1]


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
    frame: the raw bytes, where they could not be decoded (see `Series.profile`); and, where the operator has frames
    kept, on the first of the readings that a frame gave.
    """

    series: Series
    value: float
    taken_at_us: int
    reliability: int = 100
    causes: int = 0
    frame: bytes | None = None
