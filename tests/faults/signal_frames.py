"""Frames whose every value tells which frame it came from, so that a row can be checked without its neighbours.

Each channel counts through all 65,536 values of its field, each in a stride of its own: value = n * stride mod 2**16.
Strides are odd, so the number of the frame follows from the value.
"""

from dataclasses import fields

import numpy as np
import numpy.typing as npt

from device_drivers.serial_line.plantower import Frame
from device_drivers.simulator.plantower import FIRMWARE

FRAMES = 65_536
"""After so many a sensor would repeat itself."""

CHANNELS = tuple(f.name for f in fields(Frame))[:12]
_STRIDES = {name: 2 * 997 * n + 1 for n, name in enumerate(CHANNELS)}
_INVERSES = {name: pow(stride, -1, FRAMES) for name, stride in _STRIDES.items()}


def frame(number: int) -> Frame:
    """The sensor's frame of that number, 0 … FRAMES-1. Raises ValueError beyond."""
    if not 0 <= number < FRAMES:
        raise ValueError(f"frame {number} would repeat frame {number % FRAMES}")
    return Frame(**{name: number * stride % FRAMES for name, stride in _STRIDES.items()}, version=FIRMWARE)


def possible(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the values a frame can have."""
    found: npt.NDArray[np.bool_] = (values >= 0) & (values < FRAMES) & (np.floor(values) == values)
    return found


def numbers(channel: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which frames values of a channel came from. Raises ValueError for values that no frame ever had."""
    if not possible(values).all():
        raise ValueError(f"{channel} has values that no sensor sent")
    return values.astype(np.int64) * _INVERSES[channel] % FRAMES
