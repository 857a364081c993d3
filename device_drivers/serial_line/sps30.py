"""The Sensirion SPS30 particle sensor on its UART (datasheet, version 1.0, sections 4.2 and 4.3).

115200 baud 8N1, SHDLC with address 0. It measures after command `00` (`01 03`: big-endian floats); command `03` gives
ten of them, or nothing where there is no new measurement: mass concentrations PM1, 2.5, 4, 10 in µg/m³, number
concentrations PM0.5, 1, 2.5, 4, 10 in 1/cm³, typical size in µm. Command `D1` states the version of its firmware.
"""

from struct import Struct

from device_drivers.serial_line import shdlc
from device_drivers.serial_line.codec import Sample

BAUDRATE = 115_200
CHANNELS = (
    "pm1",
    "pm2_5",
    "pm4",
    "pm10",
    "particles_0_5",
    "particles_1",
    "particles_2_5",
    "particles_4",
    "particles_10",
    "typical_size",
)
ADDRESS = 0x00
START, READ, VERSION = 0x00, 0x03, 0xD1
FLOATS = b"\x01\x03"
_VALUES = Struct(f">{len(CHANNELS)}f")
ALREADY = 0x43
"""State: not allowed in the present state. To a start it means that it measures already."""
DEVICE_ERROR = 0x80
"""Bit of the state: the sensor has an error of its own, such as a fan that stands still."""


def encode(*values: float) -> bytes:
    """What the sensor answers to a read: ten values, or none."""
    return shdlc.reply(ADDRESS, READ, 0, _VALUES.pack(*values) if values else b"")


def read(reply: shdlc.Reply, firmware: str = "") -> Sample | None:
    """Of a reply to a read; None: there was no new measurement."""
    if len(reply.data) != _VALUES.size:
        return None
    values = dict(zip(CHANNELS, _VALUES.unpack(reply.data), strict=True))
    return Sample(values, firmware, bool(reply.state & DEVICE_ERROR))


def read_whole(frame: bytes) -> Sample | None:
    """Of bytes that are one sound reply with a measurement, and nothing else; None otherwise."""
    is_one = shdlc.ReplyFinder(ADDRESS, READ).feed(frame) == [frame]
    return read(shdlc.parse(frame)) if is_one else None
