"""A sensor that sends by itself, as a driver: frames of a serial line become readings."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, Self

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.reading import Reading
from device_drivers.serial_line.codec import Sample, StreamCodec
from device_drivers.serial_line.codecs import STREAM_CODECS
from device_drivers.serial_line.framing import FrameFinder
from device_drivers.serial_line.meaning import Meanings, require_channels
from device_drivers.serial_line.options import StreamOptions
from device_drivers.transport import SerialLine, open_line
from firmware_profiles.selection import ProfileSet

# How many times `silence_s` a line may give bytes without one valid frame. Reopening sets the line's speed again,
# which is what a garbled line most often lacks; and noise may not keep a dead sensor looking alive.
GARBLED_FACTOR = 3


def open_stream(options: StreamOptions, profiles: ProfileSet, clock: Clock) -> "StreamDriver":
    """A driver that is entered to open its line.

    Raises ProfileError for a profile that wants a channel which the frames do not have.
    """
    codec = STREAM_CODECS[options.kind]
    require_channels(profiles, options.kind, codec.channels)
    return StreamDriver(options, codec.baudrate, CodecReader(codec), profiles, clock)


class FrameReader(Protocol):
    """Of one opening of a line: bytes in, what whole frames say out. Never raises."""

    @property
    def faults(self) -> dict[str, int]:
        """Since opening, by kind."""

    def feed(self, data: bytes) -> list[tuple[Sample, bytes]]:
        """What the frames say that `data` completes, and each frame itself; oldest first."""


class CodecReader:
    """A `FrameReader` by a codec."""

    def __init__(self, codec: StreamCodec) -> None:
        self._codec = codec
        self._finder = FrameFinder(codec.framing)
        self._sensor_errors = 0

    @property
    def faults(self) -> dict[str, int]:
        """skipped_bytes: bytes of no valid frame. bad_checksums: damaged frames. sensor_errors: frames in which the
        sensor itself states an error."""
        return {
            "skipped_bytes": self._finder.skipped_bytes,
            "bad_checksums": self._finder.bad_checksums,
            "sensor_errors": self._sensor_errors,
        }

    def feed(self, data: bytes) -> list[tuple[Sample, bytes]]:
        """See `FrameReader`."""
        said = [(self._codec.read(frame), frame) for frame in self._finder.feed(data)]
        self._sensor_errors += sum(sample.error for sample, _ in said)
        return said


class StreamDriver:
    """Reads one sensor; a new object for each opening.

    `readings` raises LinkLost when the line is gone, when it is silent for `silence_s`, and when it gives bytes but
    no valid frame for three times as long. Both of the latter are LinkLost and not DeviceTimeout because the sensor
    sends by itself: there is no question to ask again, only a line to open again.
    """

    def __init__(
        self, options: StreamOptions, baudrate: int, reader: FrameReader, profiles: ProfileSet, clock: Clock
    ) -> None:
        self._options = options
        self._baudrate = baudrate
        self._reader = reader
        self._meanings = Meanings(options, profiles)
        self._clock = clock
        self._line: SerialLine | None = None
        self._opened_at_us = 0

    @property
    def name(self) -> str:
        return f"{self._options.model.lower()} on {self._options.port}"

    @property
    def faults(self) -> dict[str, int]:
        """As the reader counts them."""
        return self._reader.faults

    async def __aenter__(self) -> Self:
        self._line = await open_line(self._options.port, self._baudrate, self._clock)
        self._opened_at_us = self._clock()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._line is not None:
            await self._line.close()

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """One sequence per frame that the profile's sampling takes, all read when the frame's last bytes came."""
        assert self._line is not None, "enter the driver before reading"
        silence_s = self._options.silence_s
        framed_at_us = self._opened_at_us
        while True:
            try:
                data, taken_at_us = await self._line.read(silence_s)
            except DeviceTimeout as error:
                raise LinkLost(f"{self.name}: silent for {silence_s:g} s; is the sensor powered?") from error
            frames = self._reader.feed(data)
            if frames:
                framed_at_us = taken_at_us
            elif taken_at_us - framed_at_us > GARBLED_FACTOR * silence_s * 1_000_000:
                raise LinkLost(
                    f"{self.name}: bytes but no valid frame for {GARBLED_FACTOR * silence_s:g} s; is it the right "
                    "sensor, and its ground connected?"
                )
            for sample, frame in frames:
                readings = self._meanings.readings(sample, frame, taken_at_us, taken_at_us - self._opened_at_us)
                if readings:
                    yield readings
