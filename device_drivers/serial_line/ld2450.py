"""Reports of the HLK-LD2450 tracking radar (serial communication protocol V1.03, section 2.3).

Thirty bytes at 256000 baud 8N1, ten a second: `AA FF 03 00`, three targets of eight bytes, `55 CC`. A target is x and y
in mm, speed in cm/s and the resolution of distance in mm (u16), little-endian; the first three have their sign in the
highest bit, and there a set bit means positive. A target of zeros is none. There is no checksum: what is not plausible
is taken for damage.
"""

from struct import Struct

from device_drivers.serial_line.codec import Sample, StreamCodec
from device_drivers.serial_line.framing import Framing

HEADER = b"\xaa\xff\x03\x00"
FRAME_BYTES = 30
TARGETS = 3
_TAIL = b"\x55\xcc"
_TARGET = Struct("<HHHH")
_POSITIVE = 0x8000
_NONE = bytes(_TARGET.size)
# It sees 6 m, to 60° on each side; a little room beyond, for a target that just leaves.
_MOST_X_MM, _MOST_Y_MM, _MOST_CM_PER_S = 7_000, 8_000, 1_000


def encode(targets: list[tuple[int, int, int]]) -> bytes:
    """targets: x and y in mm, speed in cm/s, at most three. Raises struct.error for numbers that don't fit."""
    bodies = [_TARGET.pack(*(_to_wire(number) for number in target), 320) for target in targets]
    return HEADER + b"".join(bodies).ljust(TARGETS * _TARGET.size, b"\x00") + _TAIL


def _to_wire(number: int) -> int:
    return number | _POSITIVE if number >= 0 else -number


def _of_wire(word: int) -> int:
    return word & ~_POSITIVE if word & _POSITIVE else -word


def _targets(frame: bytes) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for number in range(TARGETS):
        begins = len(HEADER) + number * _TARGET.size
        x, y, speed, _ = _TARGET.unpack_from(frame, begins)
        is_none = frame[begins : begins + _TARGET.size] == _NONE
        found.append(None if is_none else (_of_wire(x), _of_wire(y), _of_wire(speed)))
    return found


def _sound(frame: bytes) -> bool:
    return frame.endswith(_TAIL) and all(
        abs(x) <= _MOST_X_MM and 0 <= y <= _MOST_Y_MM and abs(speed) <= _MOST_CM_PER_S
        for x, y, speed in filter(None, _targets(frame))
    )


def _read(frame: bytes) -> Sample:
    targets = _targets(frame)
    count = sum(target is not None for target in targets)
    values: dict[str, float] = {"presence": min(count, 1), "targets": count}
    for number, target in enumerate(targets, 1):
        if target is not None:
            values |= zip((f"target{number}_x", f"target{number}_y", f"target{number}_speed"), target, strict=True)
    return Sample(values)


LD2450 = StreamCodec(
    256_000,
    ("presence", "targets", *(f"target{n}_{what}" for n in range(1, TARGETS + 1) for what in ("x", "y", "speed"))),
    Framing.fixed(HEADER, FRAME_BYTES, _sound),
    _read,
)
