"""RuuviTag and Ruuvi Air (company 0499), by ruuvitag-ble.

Formats: https://docs.ruuvi.com/communication/bluetooth-advertisements
"""

from datetime import date, datetime
from decimal import Decimal

from ruuvitag_ble import RuuvitagBluetoothDeviceData
from sensor_state_data import SensorDeviceClass, Units

from device_drivers.ble.advert import Advert
from device_drivers.ble.decoders.library import LibraryDecoder, Telling, silence
from device_drivers.ble.heard import Heard, Refusal, Unknown

silence("ruuvitag_ble")

_COMPANY = 0x0499

# Data format 5 marks a counter that is not available so; ruuvitag-ble 0.4.0 tells it as a count.
_NO_MOVEMENT_COUNTER = 255


class _Parser(Telling, RuuvitagBluetoothDeviceData):
    def update_sensor(
        self,
        key: str,
        native_unit_of_measurement: Units | None,
        native_value: str | int | float | date | datetime | Decimal | None,
        device_class: SensorDeviceClass | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        if key == "movement_counter" and native_value == _NO_MOVEMENT_COUNTER:
            native_value = None
        super().update_sensor(key, native_unit_of_measurement, native_value, device_class, name, device_id)


class RuuviDecoder(LibraryDecoder):
    """Here "firmware" is the number of the data format: 3, 5, 6, 225 (E1)."""

    def __init__(self, address: str) -> None:
        super().__init__(address, _Parser())

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        data = advert.manufacturers[_COMPANY]
        if not data:
            return Refusal.UNDECODABLE
        data_format = str(data[0])
        if not self._parse(advert):
            return Refusal.UNDECODABLE
        if not self._parser.model:
            return Unknown("", data_format) if data_format else Unknown()
        return self._told(data_format)
