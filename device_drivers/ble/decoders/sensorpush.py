"""SensorPush's thermometers, by sensorpush-ble."""

from sensorpush_ble import SensorPushBluetoothDeviceData

from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence

silence("sensorpush_ble")


class _Parser(Telling, SensorPushBluetoothDeviceData):
    pass


def sensorpush_decoder(address: str) -> LibraryDecoder:
    return LibraryDecoder(address, _Parser())
