"""BTHome service data to named values: our adapter around bthome-ble, without a radio, a clock or a log.

Format: https://bthome.io/format/ (v2, service UUID FCD2) and https://bthome.io/v1/ (v1, 181C and 181E).
"""

import logging
import math
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum

from bleak.backends.device import BLEDevice
from bthome_ble import BTHomeBluetoothDeviceData
from habluetooth import BluetoothServiceInfoBleak
from sensor_state_data import BinarySensorDeviceClass, SensorDeviceClass, Units

# bthome-ble logs a line for every damaged advertisement: whoever is in radio range could fill the disk with them.
# What it refuses is counted here instead.
logging.getLogger("bthome_ble").setLevel(logging.CRITICAL)

V2_UUID = "0000fcd2-0000-1000-8000-00805f9b34fb"
_V1_UUIDS = ("0000181c-0000-1000-8000-00805f9b34fb", "0000181e-0000-1000-8000-00805f9b34fb")
UUIDS = (V2_UUID, *_V1_UUIDS)

# bthome-ble also knows version 1, which BTHome has withdrawn; damaged length bytes there raise what it does not catch.
DECODABLE_VERSION = "2"

# A sensor that does not number its packets is taken to repeat itself when it says the same within this time, which
# is bthome-ble's own window. Without it, BlueZ's active scan would make 20 readings a second of one measurement.
UNNUMBERED_REPEAT_S = 4.0

# Device information, at least two bytes of ciphertext, counter, integrity check; six more with an address.
_MIN_ENCRYPTED = 1 + 2 + 4 + 4
_ENCRYPTED_BIT = 0x01
_ADDRESS_BIT = 0x02

# Yes-or-no objects whose key in bthome-ble is also that of a measurement: a charge of 1 % and "battery low" would
# otherwise be one channel.
_BINARY_NAMES = {
    "battery": "battery_low",
    "power": "power_on",
    "moisture": "moisture_detected",
    "gas": "gas_detected",
}

# Quantities that sensors send in one of two units, brought to one: a profile's channel has a single unit.
_TO_ONE_UNIT: dict[tuple[str, Units | None], float] = {
    ("mass", Units.MASS_POUNDS): 0.45359237,  # kg
    ("distance", Units.LENGTH_MILLIMETERS): 0.001,  # m
    ("volume", Units.VOLUME_MILLILITERS): 0.001,  # L
}


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement as the radio heard it. rssi: dBm. uuid: one of `UUIDS`, `data` its service data."""

    address: str
    rssi: int
    uuid: str
    data: bytes
    taken_at_us: int

    def version(self) -> str:
        """The major version of the format: of the service for v1, else bits 5–7 of the device information."""
        if self.uuid in _V1_UUIDS:
            return "1"
        return str(self.data[0] >> 5) if self.data else ""


class Refusal(Enum):
    """Why an advertisement gave no values; the text is the kind of fault under which it is counted.

    PLAIN: not encrypted though a bindkey is set, which anybody could have sent. REPLAYED: its encryption counter
    went back, as in a recording.
    """

    REPEATED = "repeats"
    NO_KEY = "no_bindkey"
    WRONG_KEY = "wrong_bindkey"
    PLAIN = "plain_despite_bindkey"
    REPLAYED = "replays"
    UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Heard:
    """What one advertisement says: channels by name, in the unit of bthome-ble (yes and no are 1 and 0).

    events: of buttons and dials, which are not measurements. not_numbers: texts, times, infinities.
    """

    values: dict[str, float]
    events: int = 0
    not_numbers: int = 0


class _Parser(BTHomeBluetoothDeviceData):
    """bthome-ble, but telling what *this* advertisement says.

    The library's own result holds every value that the device ever sent, so that an old temperature would be
    stamped again with the time of each button press.
    """

    def __init__(self, bindkey: bytes | None) -> None:
        super().__init__(bindkey=bindkey)
        self.values: dict[str, float] = {}
        self.fired = 0
        self.not_numbers = 0

    def forget(self) -> None:
        self.values = {}
        self.fired = 0
        self.not_numbers = 0

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
        factor = _TO_ONE_UNIT.get((str(device_class), native_unit_of_measurement), 1.0)
        self.values[key] = native_value * factor

    def update_binary_sensor(
        self,
        key: str,
        native_value: bool | None,
        device_class: BinarySensorDeviceClass | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        base = str(device_class)
        renamed = _BINARY_NAMES.get(base, base)
        self.values[renamed + key.removeprefix(base)] = 1.0 if native_value else 0.0

    def fire_event(
        self,
        key: str,
        event_type: str,
        event_properties: dict[str, str | int | float | None] | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        self.fired += 1

    def update_signal_strength(self, native_value: int | float) -> None:
        """Left to the driver: the radio measures it, also where the library refuses the advertisement."""


class BTHomeDecoder:
    """Decodes what one device sends; it holds the device's packet number and encryption counter."""

    def __init__(self, address: str, bindkey: bytes | None = None) -> None:
        """bindkey: 16 bytes."""
        self._address = address
        self._bindkey = bindkey
        self._parser = _Parser(bindkey)
        self._device = BLEDevice(address, None, None)
        self._last = b""
        self._last_at_us = 0
        self._numbered = False

    def is_repeat(self, advert: Advert) -> bool:
        """Whether this is the measurement that was heard last.

        A sensor that numbers its packets (packet id, encryption counter) sends a new measurement under a new number.
        bthome-ble lets the same number pass again after 4 s; BlueZ repeats it for as long as the sensor does.
        """
        if not advert.data or advert.data != self._last:
            return False
        return self._numbered or advert.taken_at_us - self._last_at_us < UNNUMBERED_REPEAT_S * 1e6

    def remember(self, advert: Advert, *, numbered: bool) -> None:
        """Makes `advert` the one that `is_repeat` compares with."""
        self._last, self._last_at_us, self._numbered = advert.data, advert.taken_at_us, numbered

    def decode(self, advert: Advert) -> Heard | Refusal:
        """The values of an advertisement of `DECODABLE_VERSION`; never raises, whatever the bytes are."""
        if self.is_repeat(advert):
            return Refusal.REPEATED
        encrypted = bool(advert.data and advert.data[0] & _ENCRYPTED_BIT)
        result = self._refuse(advert, encrypted) or self._parse(advert, encrypted)
        numbered = encrypted or (isinstance(result, Heard) and "packet_id" in result.values)
        self.remember(advert, numbered=numbered)
        if isinstance(result, Heard):
            result.values.pop("packet_id", None)
            if not (result.values or result.events or result.not_numbers):
                return Refusal.UNDECODABLE
        return result

    def _refuse(self, advert: Advert, encrypted: bool) -> Refusal | None:
        """What can be told before the library is asked, which answers all of it with an empty result."""
        data = advert.data
        if len(data) < 2 or advert.version() != DECODABLE_VERSION:
            return Refusal.UNDECODABLE
        if not encrypted:
            return Refusal.PLAIN if self._bindkey else None
        if len(data) < _MIN_ENCRYPTED + (6 if data[0] & _ADDRESS_BIT else 0):
            return Refusal.UNDECODABLE
        if not self._bindkey:
            return Refusal.NO_KEY
        counter = int.from_bytes(data[-8:-4], "little")
        went_back = self._parser.bindkey_verified and counter < self._parser.encryption_counter
        # bthome-ble's bound: a counter that starts again near 0 is a new battery, not somebody's recording.
        return Refusal.REPLAYED if went_back and counter >= 100 else None

    def _parse(self, advert: Advert, encrypted: bool) -> Heard | Refusal:
        parser = self._parser
        parser.forget()
        known_packet = parser.packet_id
        try:
            parser.update(self._service_info(advert))
        except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError):
            # The one place for the library's errors. One that passes would let anybody in radio range end the gateway.
            return Refusal.UNDECODABLE
        if encrypted and parser.decryption_failed:
            return Refusal.WRONG_KEY
        if known_packet is not None and not (parser.values or parser.fired or parser.not_numbers):
            # The library has dropped a packet number that it had already, or one that was overtaken.
            return Refusal.REPEATED
        return Heard(parser.values, parser.fired, parser.not_numbers)

    def _service_info(self, advert: Advert) -> BluetoothServiceInfoBleak:
        return BluetoothServiceInfoBleak(
            name=self._address,
            address=self._address,
            rssi=advert.rssi,
            manufacturer_data={},
            service_data={advert.uuid: advert.data},
            service_uuids=[],
            source="",
            device=self._device,
            advertisement=None,
            connectable=False,
            time=advert.taken_at_us / 1e6,
            tx_power=None,
        )
