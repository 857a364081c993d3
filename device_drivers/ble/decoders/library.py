"""The one adapter around the parser libraries of Home Assistant, which all stand on sensor-state-data."""

import logging
import math
import struct
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

from bleak.backends.device import BLEDevice
from habluetooth import BluetoothServiceInfoBleak
from sensor_state_data import BinarySensorDeviceClass, SensorData, SensorDeviceClass, Units

from device_drivers.ble.advert import Advert
from device_drivers.ble.heard import Heard, Refusal, Unknown

# Yes-or-no objects whose key is also that of a measurement: a charge of 1 % and "battery low" would otherwise be one
# channel.
_BINARY_NAMES = {
    "battery": "battery_low",
    "power": "power_on",
    "moisture": "moisture_detected",
    "gas": "gas_detected",
}

# Quantities that sensors send in one of several units, brought to one: a profile's channel has a single unit.
_TO_ONE_UNIT: Mapping[tuple[str, Units | None], float] = {
    ("mass", Units.MASS_POUNDS): 0.45359237,  # kg
    ("distance", Units.LENGTH_MILLIMETERS): 0.001,  # m
    ("volume", Units.VOLUME_MILLILITERS): 0.001,  # L
    ("voltage", Units.ELECTRIC_POTENTIAL_MILLIVOLT): 0.001,  # V
}

# What the libraries let through for damaged bytes. One that passes would let anybody in radio range end the gateway.
_LIBRARY_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError, struct.error)


def silence(library: str) -> None:
    """The libraries log a line for every damaged advertisement: whoever is in radio range could fill the disk.

    What they refuse is counted instead.
    """
    logging.getLogger(library).setLevel(logging.CRITICAL)


class Telling(SensorData):
    """A library's parser, but telling what *this* advertisement says: put it before the library's class.

    The library's own result holds every value that the device ever sent, so that an old temperature would be stamped
    again with the time of each button press.
    """

    values: dict[str, float]
    model: str
    events: int
    not_numbers: int

    def forget(self) -> None:
        """To be called before each advertisement."""
        self.values = {}
        self.model = ""
        self.events = 0
        self.not_numbers = 0

    def set_device_type(self, device_type: str, device_id: str | None = None) -> None:
        super().set_device_type(device_type, device_id)
        self.model = device_type

    def update_sensor(
        self,
        key: str,
        native_unit_of_measurement: Units | None,
        native_value: str | int | float | date | datetime | Decimal | None,
        device_class: SensorDeviceClass | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        if not isinstance(native_value, int | float) or not math.isfinite(native_value):
            self.not_numbers += 1
            return
        if self.precision >= 0:
            native_value = round(native_value, self.precision)
        factor = _TO_ONE_UNIT.get((str(device_class), native_unit_of_measurement), 1.0)
        self.values[_channel(key, device_id)] = native_value * factor

    def update_binary_sensor(
        self,
        key: str,
        native_value: bool | None,
        device_class: BinarySensorDeviceClass | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        if native_value is None:
            self.not_numbers += 1
            return
        channel = _channel(key, device_id)
        base = str(device_class)
        if base in _BINARY_NAMES:
            channel = _BINARY_NAMES[base] + channel.removeprefix(base)
        self.values[channel] = 1.0 if native_value else 0.0

    def fire_event(
        self,
        key: str,
        event_type: str,
        event_properties: dict[str, str | int | float | None] | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        self.events += 1

    def update_signal_strength(self, native_value: int | float) -> None:
        """Left to the sensor: the radio measures it, also where the library refuses the advertisement."""


def _channel(key: object, device_id: str | None) -> str:
    # qingping-ble gives one of its keys as a pair.
    text = str(key[-1] if isinstance(key, tuple) else key)
    # A probe of its own, as of Govee's H5178: another place, another channel.
    return text if device_id in (None, "primary") else f"{text}_{device_id}"


class LibraryDecoder:
    """What the families have in common whose libraries take plain advertisements."""

    def __init__(self, address: str, parser: Telling) -> None:
        self._address = address
        self._parser = parser
        self._device = BLEDevice(address, None, None)

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        """Unknown where the library does not recognise it; never raises."""
        parser = self._parser
        if not self._parse(advert):
            return Refusal.UNDECODABLE
        if not parser.model:
            return Unknown()
        return self._told("")

    def _parse(self, advert: Advert) -> bool:
        """Whether the library got through; what it read is in the parser."""
        self._parser.forget()
        info = BluetoothServiceInfoBleak(
            name=advert.name or self._address,
            address=self._address,
            rssi=advert.rssi,
            manufacturer_data=dict(advert.manufacturers),
            service_data=dict(advert.services),
            service_uuids=list(advert.uuids),
            source="",
            device=self._device,
            advertisement=None,
            connectable=False,
            time=advert.taken_at_us / 1e6,
            tx_power=None,
        )
        try:
            self._parser.update(info)
        except _LIBRARY_ERRORS:
            return False
        return True

    def _told(self, firmware: str) -> Heard | Refusal:
        parser = self._parser
        if not (parser.values or parser.events or parser.not_numbers):
            return Refusal.WITHOUT_VALUES
        return Heard(parser.values, parser.model, firmware, parser.events, parser.not_numbers)
