"""Xiaomi thermometers with the firmware of atc1441 or pvvx (service UUID 181A), plain and encrypted.

Formats: https://github.com/atc1441/ATC_MiThermometer#advertising-format and
https://github.com/pvvx/ATC_MiThermometer#bluetooth-advertising-formats; encryption as in bleparser's atc.py.
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.heard import Heard, Refusal, Unknown

MODEL = "ATC"
"""Whatever thermometer carries the firmware; neither states which, nor its own version."""

_SERVICE = uuid(0x181A)

# Address, temperature, humidity, charge, voltage, packet number.
_ATC1441 = struct.Struct(">6shBBHB")
# Address (reversed), temperature, humidity, voltage, charge, packet number, flags.
_PVVX = struct.Struct("<6shHHBBB")
# Packet number, ciphertext, integrity check: of temperature, humidity, charge, flags; of one byte each.
_PVVX_ENCRYPTED, _ATC1441_ENCRYPTED = 1 + 6 + 4, 1 + 3 + 4
_ASSOCIATED = b"\x11"


class AtcDecoder:
    def __init__(self, address: str, bindkey: bytes | None = None) -> None:
        """bindkey: 16 bytes."""
        self._address = bytes.fromhex(address.replace(":", ""))
        self._cipher = AESCCM(bindkey, tag_length=4) if bindkey else None

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        data = advert.services[_SERVICE]
        match len(data):
            case _ATC1441.size | _PVVX.size if self._cipher is not None:
                return Refusal.PLAIN
            case _ATC1441.size:
                address, temperature, humidity, charge, millivolts, _ = _ATC1441.unpack(data)
                return self._told(address, temperature / 10, humidity, charge, millivolts)
            case _PVVX.size:
                address, temperature, humidity, millivolts, charge, _, _ = _PVVX.unpack(data)
                return self._told(address[::-1], temperature / 100, humidity / 100, charge, millivolts)
            case 11 | 8:
                return self._decrypt(data)
            case _:
                return Unknown()

    def _told(
        self, address: bytes, temperature: float, humidity: float, charge: int, millivolts: int
    ) -> Heard | Refusal:
        if address != self._address:
            return Refusal.UNDECODABLE
        values = {"temperature": temperature, "humidity": humidity, "battery": charge, "voltage": millivolts / 1000}
        return Heard(values, MODEL)

    def _decrypt(self, data: bytes) -> Heard | Refusal:
        if self._cipher is None:
            return Refusal.NO_KEY
        # The nonce covers the head of the AD structure: its length, the type "service data", the UUID, the counter.
        nonce = self._address[::-1] + bytes([len(data) + 3, 0x16, 0x1A, 0x18, data[0]])
        try:
            plain = self._cipher.decrypt(nonce, data[1:], _ASSOCIATED)
        except InvalidTag:
            return Refusal.UNAUTHENTIC
        if len(data) == _PVVX_ENCRYPTED:
            temperature, humidity, charge, _ = struct.unpack("<hHBB", plain)
            return Heard({"temperature": temperature / 100, "humidity": humidity / 100, "battery": charge}, MODEL)
        return Heard(
            {"temperature": plain[0] / 2 - 40, "humidity": plain[1] / 2, "battery": plain[2] & 0x7F},
            MODEL,
        )
