"""Qingping's room sensors (service UUID FDCD), by qingping-ble."""

from qingping_ble import QingpingBluetoothDeviceData

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence
from device_drivers.ble.heard import Heard, Refusal, Unknown

silence("qingping_ble")

_SERVICE = uuid(0xFDCD)


class _Parser(Telling, QingpingBluetoothDeviceData):
    pass


class QingpingDecoder(LibraryDecoder):
    """Calls the models `Qingping CGG1`: CGG1 is what the same sensor calls itself when it speaks MiBeacon."""

    def __init__(self, address: str) -> None:
        super().__init__(address, _Parser())

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        told = super().decode(advert)
        if isinstance(told, Heard):
            told.model = f"Qingping {told.model}"
        data = advert.services[_SERVICE]
        # The second byte is the product.
        return Unknown(f"Qingping 0x{data[1]:02x}") if isinstance(told, Unknown) and len(data) > 1 else told
