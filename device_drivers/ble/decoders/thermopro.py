"""ThermoPro's thermometers, by thermopro-ble."""

from thermopro_ble import ThermoProBluetoothDeviceData

from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence

silence("thermopro_ble")


class _Parser(Telling, ThermoProBluetoothDeviceData):
    pass


def thermopro_decoder(address: str) -> LibraryDecoder:
    return LibraryDecoder(address, _Parser())
