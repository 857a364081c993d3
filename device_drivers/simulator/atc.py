"""Encodes what thermometers with the firmware of pvvx send, plain and encrypted, and that of atc1441.

Formats: https://github.com/pvvx/ATC_MiThermometer#bluetooth-advertising-formats
"""

import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

SERVICE = 0x181A
"""The 16-bit UUID whose service data this is."""


def encode_atc1441(values: Mapping[str, float], *, address: str, counter: int) -> bytes:
    """temperature (°C), humidity (%), battery (%), voltage (V). counter: its lowest byte is sent."""
    return bytes.fromhex(address.replace(":", "")) + struct.pack(
        ">hBBHB",
        round(values["temperature"] * 10),
        round(values["humidity"]),
        round(values["battery"]),
        round(values["voltage"] * 1000),
        counter & 0xFF,
    )


def encode_pvvx(values: Mapping[str, float], *, address: str, counter: int) -> bytes:
    """The same, with two more digits."""
    return bytes.fromhex(address.replace(":", ""))[::-1] + struct.pack(
        "<hHHBBB",
        round(values["temperature"] * 100),
        round(values["humidity"] * 100),
        round(values["voltage"] * 1000),
        round(values["battery"]),
        counter & 0xFF,
        0,
    )


def encode_pvvx_encrypted(values: Mapping[str, float], *, address: str, counter: int, bindkey: bytes) -> bytes:
    """temperature, humidity and battery, under the 16 bytes of `bindkey`."""
    plain = struct.pack(
        "<hHBB", round(values["temperature"] * 100), round(values["humidity"] * 100), round(values["battery"]), 0
    )
    number = bytes([counter & 0xFF])
    # Of the AD structure: its length without the length itself, its type, the UUID.
    head = bytes([3 + 1 + len(plain) + 4, 0x16, 0x1A, 0x18])
    nonce = bytes.fromhex(address.replace(":", ""))[::-1] + head + number
    return number + AESCCM(bindkey, tag_length=4).encrypt(nonce, plain, b"\x11")
