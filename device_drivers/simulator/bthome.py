"""Encodes BTHome v2 service data, so that emulated sensors speak the bytes of real ones.

Format: https://bthome.io/format/ (objects, device information) and https://bthome.io/encryption/.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

SERVICE = 0xFCD2
"""The 16-bit UUID whose service data this is."""

_DEVICE_INFORMATION = 0x40  # version 2, plain, without address
_ENCRYPTED = 0x01
_PACKET_ID = 0x00


@dataclass(frozen=True, slots=True)
class _Object:
    """`size` bytes, little-endian, of value ÷ `factor`."""

    id: int
    size: int
    factor: float = 1.0
    signed: bool = False


# Called as bthome-ble calls what it decodes; the unit is that of the format.
_OBJECTS = {
    "battery": _Object(0x01, 1),  # %
    "temperature": _Object(0x02, 2, 0.01, signed=True),  # °C
    "humidity": _Object(0x03, 2, 0.01),  # %
    "pressure": _Object(0x04, 3, 0.01),  # hPa
    "illuminance": _Object(0x05, 3, 0.01),  # lx
    "voltage": _Object(0x0C, 2, 0.001),  # V
    "pm25": _Object(0x0D, 2),  # µg/m³
    "pm10": _Object(0x0E, 2),  # µg/m³
    "carbon_dioxide": _Object(0x12, 2),  # ppm
    "volatile_organic_compounds": _Object(0x13, 2),  # µg/m³
    "battery_low": _Object(0x15, 1),
    "motion": _Object(0x21, 1),
    "occupancy": _Object(0x23, 1),
    "presence": _Object(0x25, 1),
}

CHANNELS = frozenset(_OBJECTS)
"""The names that `encode` knows."""


def encode(values: Mapping[str, float], packet_id: int | None = None) -> bytes:
    """Service data that says `values`, by channel; yes and no are 1 and 0.

    packet_id: 0–255, raised by the sensor with each measurement. Raises KeyError for a channel that is not in
    `CHANNELS` and OverflowError for a value that its object cannot hold.
    """
    return bytes([_DEVICE_INFORMATION]) + _objects(values, packet_id)


def encode_encrypted(
    values: Mapping[str, float],
    *,
    bindkey: bytes,
    address: str,
    counter: int,
    packet_id: int | None = None,
) -> bytes:
    """The same, encrypted by AES-CCM under the 16 bytes of `bindkey` for the device at `address`.

    counter: 0 to 2³² − 1, raised with each packet; receivers take a smaller one for a recording.
    """
    information = bytes([_DEVICE_INFORMATION | _ENCRYPTED])
    count = counter.to_bytes(4, "little")
    nonce = bytes.fromhex(address.replace(":", "")) + SERVICE.to_bytes(2, "little") + information + count
    sealed = AESCCM(bindkey, tag_length=4).encrypt(nonce, _objects(values, packet_id), None)
    return information + sealed[:-4] + count + sealed[-4:]


def _objects(values: Mapping[str, float], packet_id: int | None) -> bytes:
    # In the order of their numbers, as the format asks: receivers stop at a number that they do not know.
    known = sorted(((_OBJECTS[name], value) for name, value in values.items()), key=lambda item: item[0].id)
    head = b"" if packet_id is None else bytes([_PACKET_ID, packet_id])
    return head + b"".join(_encode_object(kind, value) for kind, value in known)


def _encode_object(kind: _Object, value: float) -> bytes:
    return bytes([kind.id]) + round(value / kind.factor).to_bytes(kind.size, "little", signed=kind.signed)
