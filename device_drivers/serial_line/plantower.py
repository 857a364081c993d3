"""Frames of Plantower particle sensors in active mode (PMS5003 data manual V2.3, appendix I; PMS7003 V2.5).

A frame is 32 bytes, big-endian, about one a second at 9600 baud 8N1: `42 4D`, length `00 1C`, twelve u16, version
u8, error code u8 (the PMS5003's manual calls these two reserved), and the u16 sum of the 30 bytes before it.
"""

from dataclasses import asdict, astuple, dataclass, fields
from struct import Struct

from device_drivers.serial_line.codec import Sample, StreamCodec
from device_drivers.serial_line.framing import Framing

HEADER = b"\x42\x4d\x00\x1c"
FRAME_BYTES = 32

_BODY = Struct(">12HBB")
_SUM = Struct(">H")


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


def decode(frame: bytes) -> Frame:
    """Of 32 sound bytes."""
    return Frame(*_BODY.unpack_from(frame, len(HEADER)))


def _sound(frame: bytes) -> bool:
    (expected,) = _SUM.unpack_from(frame, FRAME_BYTES - _SUM.size)
    return bool(sum(frame[: -_SUM.size]) == expected)


def _read(frame: bytes) -> Sample:
    said = decode(frame)
    return Sample(asdict(said), str(said.version), said.error != 0)


PLANTOWER = StreamCodec(
    9600, tuple(field.name for field in fields(Frame)), Framing.fixed(HEADER, FRAME_BYTES, _sound), _read
)
