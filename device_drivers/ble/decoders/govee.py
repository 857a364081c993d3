"""Govee's thermometers and door, motion and presence sensors, by govee-ble."""

from govee_ble import GoveeBluetoothDeviceData

from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence

silence("govee_ble")


class _Parser(Telling, GoveeBluetoothDeviceData):
    pass


def govee_decoder(address: str) -> LibraryDecoder:
    return LibraryDecoder(address, _Parser())
