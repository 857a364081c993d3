"""Inkbird's thermometers, by inkbird-ble."""

from inkbird_ble import INKBIRDBluetoothDeviceData

from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence

silence("inkbird_ble")


class _Parser(Telling, INKBIRDBluetoothDeviceData):
    pass


def inkbird_decoder(address: str) -> LibraryDecoder:
    return LibraryDecoder(address, _Parser())
