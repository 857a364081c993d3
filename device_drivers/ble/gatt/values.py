"""The number in a characteristic's value. Bytes in, number out."""

import math
import struct

from device_drivers.errors import ProtocolError
from firmware_profiles.gatt import Characteristic

_FLOATS = {("float32", "little"): "<f", ("float32", "big"): ">f", ("float64", "little"): "<d", ("float64", "big"): ">d"}

# IEEE 11073-20601, as bits of exponent and mantissa. Five patterns around the largest mantissa are no numbers: both
# infinities, "not a number", "not at this resolution" and one that is reserved.
_MEDICAL = {
    "medfloat16": (4, 12, frozenset({0x07FE, 0x07FF, 0x0800, 0x0801, 0x0802})),
    "medfloat32": (8, 24, frozenset({0x007FFFFE, 0x007FFFFF, 0x00800000, 0x00800001, 0x00800002})),
}


def number(where: Characteristic, value: bytes) -> float | None:
    """The number at its place; None where the device says that it does not know it.

    Raises ProtocolError where the value is too short.
    """
    if len(value) < where.end:
        raise ProtocolError(
            f"{len(value)} bytes of characteristic {where.uuid}, of which the profile wants {where.end}"
        )
    field = value[where.offset : where.end]
    bits = int.from_bytes(field, where.byte_order)
    if bits in where.not_known:
        return None
    if where.type in _MEDICAL:
        return _medical(bits, *_MEDICAL[where.type])
    if layout := _FLOATS.get((where.type, where.byte_order)):
        (real,) = struct.unpack(layout, field)
        return float(real) if math.isfinite(real) else None
    return float(int.from_bytes(field, where.byte_order, signed=where.type.startswith("int")))


def _medical(bits: int, exponent_bits: int, mantissa_bits: int, no_numbers: frozenset[int]) -> float | None:
    if bits in no_numbers:
        return None
    mantissa = _signed(bits & ((1 << mantissa_bits) - 1), mantissa_bits)
    exponent = _signed(bits >> mantissa_bits, exponent_bits)
    # By way of its decimal digits: a product with a power of ten would be off in the last place.
    return float(f"{mantissa}e{exponent}")


def _signed(bits: int, width: int) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits
