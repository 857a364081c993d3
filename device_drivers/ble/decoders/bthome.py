"""BTHome service data, by bthome-ble.

Format: https://bthome.io/format/ (v2, service UUID FCD2) and https://bthome.io/v1/ (v1, 181C and 181E).
"""

from bthome_ble import BTHomeBluetoothDeviceData

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence
from device_drivers.ble.heard import Heard, Refusal, Unknown

silence("bthome_ble")

MODEL = "BTHome"
"""Whatever the device: the format says what its bytes mean, and "firmware" is its version."""

_V2 = uuid(0xFCD2)

# bthome-ble also knows version 1, which BTHome has withdrawn; damaged length bytes there raise what it does not catch.
_DECODABLE_VERSION = "2"

# Device information, at least two bytes of ciphertext, counter, integrity check; six more with an address.
_MIN_ENCRYPTED = 1 + 2 + 4 + 4
_ENCRYPTED_BIT = 0x01
_ADDRESS_BIT = 0x02


class _Parser(Telling, BTHomeBluetoothDeviceData):
    pass


class BTHomeDecoder(LibraryDecoder):
    """Holds the device's packet number and encryption counter."""

    def __init__(self, address: str, bindkey: bytes | None = None) -> None:
        """bindkey: 16 bytes."""
        self._bthome = _Parser(bindkey)
        self._bindkey = bindkey
        super().__init__(address, self._bthome)

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        data = advert.services.get(_V2)
        if data is None:
            return Unknown(MODEL, "1")
        if len(data) < 2:
            return Refusal.UNDECODABLE
        version = str(data[0] >> 5)
        if version != _DECODABLE_VERSION:
            return Unknown(MODEL, version)
        encrypted = bool(data[0] & _ENCRYPTED_BIT)
        refusal = self._refuse(data, encrypted)
        if refusal is not None:
            return refusal
        known_packet = self._bthome.packet_id
        if not self._parse(advert):
            return Refusal.UNDECODABLE
        if encrypted and self._bthome.decryption_failed:
            return Refusal.UNAUTHENTIC
        parser = self._bthome
        if known_packet is not None and not (parser.values or parser.events or parser.not_numbers):
            # The library has dropped a packet number that it had already, or one that was overtaken.
            return Refusal.REPEATED
        parser.values.pop("packet_id", None)
        parser.model = MODEL
        told = self._told(version)
        return Refusal.UNDECODABLE if told is Refusal.WITHOUT_VALUES else told

    def _refuse(self, data: bytes, encrypted: bool) -> Refusal | None:
        """What can be told before the library is asked, which answers all of it with an empty result."""
        if not encrypted:
            return Refusal.PLAIN if self._bindkey else None
        if len(data) < _MIN_ENCRYPTED + (6 if data[0] & _ADDRESS_BIT else 0):
            return Refusal.UNDECODABLE
        if not self._bindkey:
            return Refusal.NO_KEY
        counter = int.from_bytes(data[-8:-4], "little")
        went_back = self._bthome.bindkey_verified and counter < self._bthome.encryption_counter
        # bthome-ble's bound: a counter that starts again near 0 is a new battery, not somebody's recording.
        return Refusal.REPLAYED if went_back and counter >= 100 else None
