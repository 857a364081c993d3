"""Frames of Plantower particle sensors in active mode (PMS5003 data manual V2.3, appendix I; PMS7003 V2.5).

A frame is 32 bytes, big-endian, about one a second at 9600 baud 8N1: `42 4D`, length `00 1C`, twelve u16, version
u8, error code u8 (the PMS5003's manual calls these two reserved), and the u16 sum of the 30 bytes before it.
"""

from dataclasses import astuple, dataclass
from struct import Struct

HEADER = b"\x42\x4d\x00\x1c"
FRAME_BYTES = 32

_BODY = Struct(">12HBB")
_SUM = Struct(">H")
_SUMMED_BYTES = FRAME_BYTES - _SUM.size


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame says, in the order of its bytes.

    Mass concentrations in µg/m³ (`…_standard`: CF=1, standard particles; the others: atmospheric environment);
    `particles_…`: number of particles beyond that diameter in µm, in 0.1 L of air. Each 0 to 65535.
    version, error: 0 to 255, as the sensor states them; 0 is no error.
    """

    pm1_standard: int = 0
    pm2_5_standard: int = 0
    pm10_standard: int = 0
    pm1: int = 0
    pm2_5: int = 0
    pm10: int = 0
    particles_0_3: int = 0
    particles_0_5: int = 0
    particles_1: int = 0
    particles_2_5: int = 0
    particles_5: int = 0
    particles_10: int = 0
    version: int = 0
    error: int = 0


def encode(frame: Frame) -> bytes:
    """The frame's 32 bytes, the same that it was decoded from. Raises struct.error for numbers that don't fit."""
    summed = HEADER + _BODY.pack(*astuple(frame))
    return summed + _SUM.pack(sum(summed))


class PlantowerDecoder:
    """Finds frames in a stream of bytes, which may begin anywhere and may be damaged. Never raises."""

    def __init__(self) -> None:
        self.skipped_bytes = 0
        """Bytes that belong to no valid frame; some are normal after opening, which may fall into a frame."""
        self.bad_checksums = 0
        """Places that looked like a frame and had the wrong sum."""
        # Holds less than a frame between calls: all that precedes a possible frame is skipped.
        self._pending = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, oldest first."""
        buffer = self._pending + data
        frames: list[Frame] = []
        position = 0
        while (start := buffer.find(HEADER, position)) >= 0 and start + FRAME_BYTES <= len(buffer):
            self.skipped_bytes += start - position
            summed_end = start + _SUMMED_BYTES
            (expected,) = _SUM.unpack_from(buffer, summed_end)
            if sum(buffer[start:summed_end]) == expected:
                frames.append(Frame(*_BODY.unpack_from(buffer, start + len(HEADER))))
                position = start + FRAME_BYTES
            else:
                # Not the whole frame: when noise cut it short, a sound one begins within these 32 bytes.
                self.bad_checksums += 1
                self.skipped_bytes += 1
                position = start + 1
        rest = start if start >= 0 else len(buffer) - _begun_header(buffer, position)
        self.skipped_bytes += rest - position
        self._pending = buffer[rest:]
        return frames


def _begun_header(buffer: bytes, position: int) -> int:
    """How many bytes at the end of `buffer`, at or after `position`, may be the beginning of a header."""
    for length in range(min(len(HEADER) - 1, len(buffer) - position), 0, -1):
        if buffer.endswith(HEADER[:length]):
            return length
    return 0
