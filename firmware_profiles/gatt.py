"""What a profile says of a device that is read over Bluetooth GATT: where each channel's number is."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

# A short number stands for one on Bluetooth's base UUID (Core Specification 5.4, volume 3, part B, 2.5.1).
_BASE = "0000{}-0000-1000-8000-00805f9b34fb"
_SHORT = re.compile(r"[0-9a-f]{4}")
_LONG = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def full_uuid(text: str) -> str:
    """A 16-bit or 128-bit UUID in full, lower case, as BlueZ writes it; raises ValueError."""
    uuid = text.lower()
    if _SHORT.fullmatch(uuid):
        return _BASE.format(uuid)
    if _LONG.fullmatch(uuid):
        return uuid
    raise ValueError("write four hexadecimal digits ('2A6E') or a whole UUID ('f000aa01-0451-4000-b000-000000000000')")


def short_uuid(uuid: str) -> str:
    """As people write it: four digits where it is on Bluetooth's base UUID."""
    return uuid[4:8].upper() if uuid == _BASE.format(uuid[4:8]) else uuid


def _octets(text: str) -> str:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise ValueError("write pairs of hexadecimal digits, such as '01 ff'") from None
    if not data:
        raise ValueError("write at least one byte")
    return data.hex()


Uuid = Annotated[str, AfterValidator(full_uuid)]

NumberType = Literal[
    "int8", "uint8", "int16", "uint16", "int24", "uint24", "int32", "uint32", "float32", "float64",
    "medfloat16", "medfloat32",
]  # fmt: skip
SIZES: dict[str, int] = {
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int24": 3, "uint24": 3, "int32": 4, "uint32": 4,
    "float32": 4, "float64": 8, "medfloat16": 2, "medfloat32": 4,
}  # fmt: skip
"""In bytes. The medical floats are those of IEEE 11073-20601, which Bluetooth's characteristics use."""

# The longest value of an attribute (Core Specification 5.4, volume 3, part F, 3.2.9).
MAX_VALUE = 512


class Characteristic(BaseModel):
    """Where a number is. Of several characteristics with one UUID the first is meant.

    offset: in bytes, from the start of the value. byte_order: little is what Bluetooth says, and not every maker does.
    not_known: bit patterns, as unsigned numbers, that say that there is no value; NaN always says so.
    notify: the device tells by itself, over a connection that is held; otherwise it is asked.
    """

    model_config = _STRICT

    uuid: Uuid
    type: NumberType
    offset: Annotated[int, Field(ge=0, lt=MAX_VALUE)] = 0
    byte_order: Literal["little", "big"] = "little"
    not_known: tuple[int, ...] = ()
    notify: bool = False

    @property
    def end(self) -> int:
        """Bytes that a value must have."""
        return self.offset + SIZES[self.type]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.end > MAX_VALUE:
            raise ValueError(f"the number does not end within a value, which has at most {MAX_VALUE} bytes")
        most = 256 ** SIZES[self.type] - 1
        for pattern in self.not_known:
            if not 0 <= pattern <= most:
                raise ValueError(f"not_known of type {self.type}: write the bits as a number from 0 to {most:#x}")
        return self


class CharacteristicWrite(BaseModel):
    """value: the bytes in hexadecimal digits."""

    model_config = _STRICT

    uuid: Uuid
    value: Annotated[str, AfterValidator(_octets), Field(max_length=3 * MAX_VALUE)]


class Gatt(BaseModel):
    """begin: what a device is told after each connecting, before it is read, in this order."""

    model_config = _STRICT

    begin: tuple[CharacteristicWrite, ...] = ()
