"""What is told apart by sensor: how frames look, and what each says. Bytes in, samples out; no clock, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from device_drivers.serial_line.framing import FrameFinder, Framing


@dataclass(frozen=True, slots=True)
class Sample:
    """What one frame says, by channel, in the sensor's own numbers.

    firmware: as the frame states it, "" where it states none. error: the sensor states a fault of its own.
    """

    values: Mapping[str, float]
    firmware: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True)
class StreamCodec:
    """Of a sensor that sends by itself.

    baudrate: 8N1. channels: all that a frame may say; a profile names some of them. read: of a frame that the framing
    found sound.
    """

    baudrate: int
    channels: tuple[str, ...]
    framing: Framing
    read: Callable[[bytes], Sample]

    def read_whole(self, frame: bytes) -> Sample | None:
        """Of bytes that are one sound frame and nothing else; None otherwise."""
        return self.read(frame) if FrameFinder(self.framing).feed(frame) == [frame] else None


@dataclass(frozen=True, slots=True)
class FrameCodec:
    """channels: all that a frame may say. read_whole: of bytes that are one sound frame and nothing else, else None."""

    channels: tuple[str, ...]
    read_whole: Callable[[bytes], Sample | None]
