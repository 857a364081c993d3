"""Xiaomi's MiBeacon (service UUID FE95), by xiaomi-ble.

Format: https://iot.mi.com/new/doc/accesses/direct-access/embedded-development/ble/ble-mibeacon
"""

from xiaomi_ble import XiaomiBluetoothDeviceData
from xiaomi_ble.devices import DEVICE_TYPES

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence
from device_drivers.ble.heard import Heard, Refusal, Unknown

silence("xiaomi_ble")

_MIBEACON = uuid(0xFE95)

# Frame control, product, frame counter.
_HEAD = 5
_ENCRYPTED, _ADDRESS, _OBJECT, _MESH = 1 << 3, 1 << 4, 1 << 6, 1 << 7

# From this version on frames carry an integrity check. Before it, a wrong bindkey gives nonsense that no receiver
# can tell from damage.
_AUTHENTICATED_FROM = 4
_KEY_BYTES = 16
# At least two bytes of ciphertext, extended counter, integrity check.
_MIN_SEALED = 2 + 3 + 4


class _Parser(Telling, XiaomiBluetoothDeviceData):
    pass


class XiaomiDecoder(LibraryDecoder):
    """Here "firmware" is the MiBeacon version of the frame; scales state none."""

    def __init__(self, address: str, bindkey: bytes | None = None) -> None:
        """bindkey: 16 bytes, or 12 for devices that speak MiBeacon 2 or 3."""
        self._xiaomi = _Parser(bindkey)
        self._bindkey = bindkey
        self._address_bytes = bytes.fromhex(address.replace(":", ""))[::-1]
        super().__init__(address, self._xiaomi)

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        data = advert.services.get(_MIBEACON)
        if data is None:
            return Refusal.PLAIN if self._bindkey else super().decode(advert)
        if len(data) < _HEAD:
            return Refusal.UNDECODABLE
        control = data[0] | data[1] << 8
        version = control >> 12
        refusal = self._refuse(data, control, version)
        if refusal is not None:
            return refusal
        parser = self._xiaomi
        if not self._parse(advert):
            return Refusal.UNDECODABLE
        if control & _OBJECT and control & _ENCRYPTED and version >= _AUTHENTICATED_FROM and parser.decryption_failed:
            return Refusal.UNAUTHENTIC
        if not parser.model:
            return Refusal.UNDECODABLE
        return self._told(str(version))

    def _refuse(self, data: bytes, control: int, version: int) -> Refusal | Unknown | None:
        """What can be told before the library is asked, which answers all of it with an empty result."""
        if control & _MESH or version < 2:
            return Refusal.OTHER_FORMAT
        if control & _ADDRESS and data[_HEAD : _HEAD + 6] != self._address_bytes:
            return Refusal.UNDECODABLE
        product = data[2] | data[3] << 8
        if product not in DEVICE_TYPES:
            return Unknown(f"0x{product:04x}", str(version))
        if not control & _OBJECT:
            return None
        if not control & _ENCRYPTED:
            return Refusal.PLAIN if self._bindkey else None
        if not self._bindkey:
            return Refusal.NO_KEY
        if version < _AUTHENTICATED_FROM:
            return None
        # Too short to hold a check is damage, which must not speak against the key.
        if len(data) < _HEAD + (6 if control & _ADDRESS else 0) + _MIN_SEALED:
            return Refusal.UNDECODABLE
        return None if len(self._bindkey) == _KEY_BYTES else Refusal.WRONG_KEY
