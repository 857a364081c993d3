"""The Winsen MH-Z19B carbon dioxide sensor (user manual V1.6, "UART"): nine bytes asked, nine bytes answered.

9600 baud 8N1. `FF 01 86 00 00 00 00 00 79` asks; `FF 86`, concentration u16 big-endian in ppm, four bytes that the
manual calls undefined, and a checksum: 256 less the sum of the seven bytes before it.
"""

from device_drivers.serial_line.codec import Sample
from device_drivers.serial_line.framing import FrameFinder, Framing

BAUDRATE = 9600
CHANNELS = ("carbon_dioxide",)
_HEADER = b"\xff\x86"
_FRAME_BYTES = 9


def checksum(seven: bytes) -> int:
    """Of bytes 1 to 7 of a frame."""
    return -sum(seven) & 0xFF


REQUEST = bytes([0xFF, 0x01, 0x86, 0, 0, 0, 0, 0, checksum(bytes([0x01, 0x86, 0, 0, 0, 0, 0]))])


def encode(ppm: int) -> bytes:
    """What the sensor answers."""
    frame = _HEADER + ppm.to_bytes(2, "big") + bytes(4)
    return frame + bytes([checksum(frame[1:])])


REPLY = Framing.fixed(_HEADER, _FRAME_BYTES, lambda frame: frame[8] == checksum(frame[1:8]))


def read(frame: bytes) -> Sample:
    """Of a sound reply."""
    return Sample({"carbon_dioxide": int.from_bytes(frame[2:4], "big")})


def read_whole(frame: bytes) -> Sample | None:
    """Of bytes that are one sound reply and nothing else; None otherwise."""
    return read(frame) if FrameFinder(REPLY).feed(frame) == [frame] else None
