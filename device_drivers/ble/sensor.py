"""One Bluetooth LE sensor: advertisements in, readings out. No radio, no clock, no asyncio."""

import re
from collections import Counter

from device_drivers.ble.bthome import DECODABLE_VERSION, Advert, BTHomeDecoder, Heard, Refusal
from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes, Reading, Series
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet

SIGNAL_STRENGTH = "signal_strength"
"""The channel of what our radio measures, in dBm; called as bthome-ble calls it."""

# Below this charge the coin cells of these sensors can no longer hold their voltage while the sensor measures.
LOW_BATTERY_PERCENT = 10.0

# bthome-ble numbers objects of one kind in one advertisement: temperature_1, temperature_2.
_NUMBERED = re.compile(r"(.+)_\d+")


class BleSensor:
    """What is known about one device while it is in range."""

    def __init__(
        self,
        address: str,
        device: str,
        model: str,
        firmware: str,
        bindkey: bytes | None,
        profiles: ProfileSet,
        faults: Counter[str],
    ) -> None:
        """firmware: as configured. faults: where what gives no reading is counted, by kind."""
        self._decoder = BTHomeDecoder(address, bindkey)
        self._device = device
        self._model = model
        self._firmware = firmware
        self._profiles = profiles
        self._faults = faults
        self._low_battery = False
        # By firmware as the advertisements state it in three bits.
        self._meanings: dict[str, _Known | Series] = {}

    def hear(self, advert: Advert) -> list[Reading]:
        """The readings of one advertisement; empty where it says nothing new or nothing usable."""
        version = advert.version()
        if not version:
            return self._refuse(Refusal.UNDECODABLE)
        # A device that speaks another major version than was configured is what it says it is.
        firmware = self._firmware if self._firmware.partition(".")[0] == version else version
        meaning = self._meanings.get(firmware)
        if meaning is None:
            meaning = self._meanings[firmware] = self._meaning(version, firmware)
        if isinstance(meaning, Series):
            return self._raw(advert, meaning)
        heard = self._decoder.decode(advert)
        if isinstance(heard, Refusal):
            return self._refuse(heard)
        return self._readings(advert, heard, meaning)

    def _meaning(self, version: str, firmware: str) -> "_Known | Series":
        profile = self._profiles.select(self._model, firmware) if version == DECODABLE_VERSION else None
        return raw_series(self._device, firmware) if profile is None else _Known(self._device, firmware, profile)

    def _refuse(self, refusal: Refusal) -> list[Reading]:
        self._faults[refusal.value] += 1
        return []

    def _raw(self, advert: Advert, series: Series) -> list[Reading]:
        if self._decoder.is_repeat(advert):
            return self._refuse(Refusal.REPEATED)
        self._decoder.remember(advert, numbered=False)
        return [raw_reading(series, advert.data, advert.taken_at_us)]

    def _readings(self, advert: Advert, heard: Heard, known: "_Known") -> list[Reading]:
        if heard.events:
            self._faults["events"] += heard.events
        if heard.not_numbers:
            self._faults["not_numbers"] += heard.not_numbers
        self._note_battery(heard.values)
        causes = Causes.LOW_BATTERY.value if self._low_battery else 0
        readings: list[Reading] = []
        for channel, raw in heard.values.items():
            interpreter = known.interpreter(channel)
            if interpreter is None:
                self._faults["unknown_channels"] += 1
            else:
                readings.append(interpreter.reading(channel, raw, advert.taken_at_us, causes))
        strength = known.interpreter(SIGNAL_STRENGTH)
        if strength is not None:  # measured by our own radio, whatever the sensor's battery is
            readings.append(strength.reading(SIGNAL_STRENGTH, advert.rssi, advert.taken_at_us))
        return readings

    def _note_battery(self, values: dict[str, float]) -> None:
        """It holds until the sensor says otherwise: most send their charge far more rarely than their values."""
        if "battery" in values:
            self._low_battery = values["battery"] < LOW_BATTERY_PERCENT
        if "battery_low" in values:
            self._low_battery = values["battery_low"] == 1.0


class _Known:
    """A firmware that a profile explains."""

    def __init__(self, device: str, firmware: str, profile: FirmwareProfile) -> None:
        self._device = device
        self._firmware = firmware
        self._profile = profile
        interpreter = Interpreter(device, firmware, profile)
        self._interpreters: dict[str, Interpreter | None] = dict.fromkeys(interpreter.channels(), interpreter)

    def interpreter(self, channel: str) -> Interpreter | None:
        """Who knows the channel; one of several of a kind means what the profile says of that kind."""
        if channel not in self._interpreters:
            self._interpreters[channel] = self._one_of_several(channel)
        return self._interpreters[channel]

    def _one_of_several(self, channel: str) -> Interpreter | None:
        numbered = _NUMBERED.fullmatch(channel)
        kind = self._profile.channels.get(numbered[1]) if numbered else None
        if kind is None:
            return None
        channels = {channel: kind.model_copy(update={"name": channel})}
        return Interpreter(self._device, self._firmware, self._profile.model_copy(update={"channels": channels}))
