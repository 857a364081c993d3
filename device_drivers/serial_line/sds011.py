"""Frames of the Nova SDS011 particle sensor in active mode (laser dust sensor control protocol V1.3).

Ten bytes, one a second at 9600 baud 8N1: `AA C0`, PM2.5 and PM10 as u16 little-endian in 0.1 µg/m³, the sensor's id
(two bytes), the sum of these six bytes modulo 256, `AB`.
"""

from struct import Struct

from device_drivers.serial_line.codec import Sample, StreamCodec
from device_drivers.serial_line.framing import Framing

HEADER = b"\xaa\xc0"
FRAME_BYTES = 10
_TAIL = 0xAB
_BODY = Struct("<HHH")


def encode(pm2_5: int, pm10: int, sensor_id: int) -> bytes:
    """pm2_5, pm10: in 0.1 µg/m³, 0 to 65535, as the sensor sends them. Raises struct.error for what does not fit."""
    body = _BODY.pack(pm2_5, pm10, sensor_id)
    return HEADER + body + bytes([sum(body) & 0xFF, _TAIL])


def _sound(frame: bytes) -> bool:
    return frame[-1] == _TAIL and sum(frame[2:8]) & 0xFF == frame[8]


def _read(frame: bytes) -> Sample:
    pm2_5, pm10, _ = _BODY.unpack_from(frame, len(HEADER))
    return Sample({"pm2_5": pm2_5, "pm10": pm10})


SDS011 = StreamCodec(9600, ("pm2_5", "pm10"), Framing.fixed(HEADER, FRAME_BYTES, _sound), _read)
