"""Encodes Xiaomi's MiBeacon service data, plain and encrypted (version 5).

Format: https://iot.mi.com/new/doc/accesses/direct-access/embedded-development/ble/ble-mibeacon
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

SERVICE = 0xFE95
"""The 16-bit UUID whose service data this is."""

LYWSD03MMC = 0x055B
"""The number of a product: the thermometer that most people have."""

_VERSION = 5
_ENCRYPTED, _ADDRESS, _OBJECT = 1 << 3, 1 << 4, 1 << 6
_ASSOCIATED = b"\x11"


def encode(
    values: Mapping[str, float],
    *,
    address: str,
    counter: int,
    product: int = LYWSD03MMC,
    bindkey: bytes | None = None,
) -> bytes:
    """Service data that says `temperature` (°C) and `humidity` (%), or `battery` (%); the devices send them apart.

    counter: 0 to 2³² − 1; its lowest byte numbers the frame, the others count encrypted ones. bindkey: 16 bytes.
    """
    reversed_address = bytes.fromhex(address.replace(":", ""))[::-1]
    control = _VERSION << 12 | _OBJECT | _ADDRESS | (_ENCRYPTED if bindkey else 0)
    head = control.to_bytes(2, "little") + product.to_bytes(2, "little") + bytes([counter & 0xFF])
    objects = _objects(values)
    if bindkey is None:
        return head + reversed_address + objects
    extended = (counter >> 8).to_bytes(3, "little")
    sealed = AESCCM(bindkey, tag_length=4).encrypt(reversed_address + head[2:] + extended, objects, _ASSOCIATED)
    return head + reversed_address + sealed[:-4] + extended + sealed[-4:]


def _objects(values: Mapping[str, float]) -> bytes:
    if "battery" in values:
        return bytes([0x0A, 0x10, 1, round(values["battery"])])
    temperature = round(values["temperature"] * 10).to_bytes(2, "little", signed=True)
    return bytes([0x0D, 0x10, 4]) + temperature + round(values["humidity"] * 10).to_bytes(2, "little")
