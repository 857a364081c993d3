"""Reports of the HLK-LD2410 presence radar (serial communication protocol V1.02, section 2.3).

At 256000 baud 8N1, about ten a second: `F4F3F2F1`, length u16 little-endian, type (`02` basic, `01` engineering),
`AA`, state (bit 0: something moves, bit 1: something is there and still), distance u16 in cm and energy u8 in % of what
moves, the same of what is still, distance of detection u16, in engineering mode energies of every gate, `55 00`,
`F8F7F6F5`.
There is no checksum: what is not plausible is taken for damage.
"""

from struct import Struct

from device_drivers.serial_line.codec import Sample, StreamCodec
from device_drivers.serial_line.framing import Framing

HEADER = b"\xf4\xf3\xf2\xf1"
_TAIL = b"\x55\x00\xf8\xf7\xf6\xf5"
_BASIC, _ENGINEERING = 0x02, 0x01
_BODY = Struct("<BBBHBHBH")
_HEAD_BYTES = 6
# By type: `AA` and what follows it, to the tail. Engineering mode adds two counts of gates and an energy for each gate
# of both kinds, nine at the most, and on later firmware the light sensor's and the output pin's bytes.
_PAYLOADS = range(_BODY.size + 2, _BODY.size + 2 + 2 + 18 + 2 + 1)
_MOST_CM = 800
"""Gates are 0.75 m wide, and there are nine of them; the last reaches to 6.75 m. A little room beyond."""
_MOST_ENERGY = 100


def encode(state: int, moving_cm: int, moving_energy: int, still_cm: int, still_energy: int, detected_cm: int) -> bytes:
    """A basic report. Raises struct.error for numbers that don't fit."""
    body = _BODY.pack(_BASIC, 0xAA, state, moving_cm, moving_energy, still_cm, still_energy, detected_cm)
    return HEADER + (len(body) + 2).to_bytes(2, "little") + body + _TAIL


def _length(head: bytes) -> int | None:
    payload = int.from_bytes(head[4:6], "little")
    return _HEAD_BYTES + payload + 4 if payload in _PAYLOADS else None


def _sound(frame: bytes) -> bool:
    kind, begun, state, moving_cm, moving_energy, still_cm, still_energy, detected_cm = _BODY.unpack_from(
        frame, _HEAD_BYTES
    )
    is_basic = len(frame) == _HEAD_BYTES + _PAYLOADS.start + 4
    return (
        frame.endswith(_TAIL)
        and kind == (_BASIC if is_basic else _ENGINEERING)
        and begun == 0xAA
        and state <= 3
        and max(moving_energy, still_energy) <= _MOST_ENERGY
        and max(moving_cm, still_cm, detected_cm) <= _MOST_CM
    )


def _read(frame: bytes) -> Sample:
    _, _, state, moving_cm, moving_energy, still_cm, still_energy, detected_cm = _BODY.unpack_from(frame, _HEAD_BYTES)
    return Sample(
        {
            "presence": min(state, 1),
            "moving": state & 1,
            "still": state >> 1,
            "moving_distance": moving_cm,
            "moving_energy": moving_energy,
            "still_distance": still_cm,
            "still_energy": still_energy,
            "detection_distance": detected_cm,
        }
    )


LD2410 = StreamCodec(
    256_000,
    (
        "presence",
        "moving",
        "still",
        "moving_distance",
        "moving_energy",
        "still_distance",
        "still_energy",
        "detection_distance",
    ),
    Framing(HEADER, _HEAD_BYTES, _length, _sound),
    _read,
)
