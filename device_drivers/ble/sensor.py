"""One Bluetooth LE sensor: advertisements in, readings out. No radio, no clock, no asyncio."""

import logging
import re
from collections import Counter

from device_drivers.ble.advert import Advert, frame
from device_drivers.ble.arrivals import Arrivals
from device_drivers.ble.families import Family, recognised
from device_drivers.ble.heard import Decoder, Heard, Refusal, Unknown
from device_drivers.ble.key_doubt import FAILURES_IN_A_ROW, KeyDoubt
from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes, Reading, Series
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet

logger = logging.getLogger(__name__)

SIGNAL_STRENGTH = "signal_strength"
"""The channel of what our radio measures, in dBm; called as the libraries call it."""

# Below this charge the coin cells of these sensors can no longer hold their voltage while the sensor measures.
LOW_BATTERY_PERCENT = 10.0

# What is heard so faintly is whole, as advertisements have a checksum, but others will be missing.
WEAK_SIGNAL_DBM = -90

# Objects of one kind in one advertisement, and probes of one device, are numbered: temperature_1, temperature_2.
_NUMBERED = re.compile(r"(.+)_\d+")


def _undecodable(address: str, bindkey: bytes | None, /) -> Decoder:
    return _Undecodable()


class _Undecodable:
    def decode(self, advert: Advert) -> Unknown:
        return Unknown()


_NOBODYS = Family("", _undecodable, services=None, companies=None)
"""Of a device that nobody recognises: all that it sends is kept."""


class BleSensor:
    """What is known about one device while it is in range."""

    def __init__(
        self,
        address: str,
        device: str,
        model: str | None,
        firmware: str | None,
        bindkey: bytes | None,
        profiles: ProfileSet,
        faults: Counter[str],
    ) -> None:
        """model, firmware: as configured; None where the advertisements are to tell.

        faults: where what gives no reading is counted, by kind.
        """
        self._address = address
        self._device = device
        self._model = model
        self._firmware = firmware
        self._bindkey = bindkey
        self._profiles = profiles
        self._faults = faults
        self._low_battery = False
        self._family = _NOBODYS
        self._decoder: Decoder = _Undecodable()
        self._arrivals = Arrivals(_NOBODYS)
        self._decoded = False
        self._key_doubt = KeyDoubt()
        self._meanings: dict[tuple[str, str], _Known | Series] = {}

    def news(self, advert: Advert) -> Advert | None:
        """What of an advertisement is new, for `read`; None where nothing is, which is counted.

        Asked when it arrives: a sensor repeats itself many times a second, and its repetitions must not fill a queue.
        """
        if self._family is _NOBODYS:
            self._recognise(advert)
        news = self._arrivals.news(advert)
        if isinstance(news, Refusal):
            if news is Refusal.OTHER_FORMAT and self._family is _NOBODYS:
                news = Refusal.WITHOUT_VALUES  # it says nothing but its name
            self._faults[news.value] += 1
            return None
        return news

    def read(self, advert: Advert) -> list[Reading]:
        """The readings of what `news` gave; empty where it says nothing usable."""
        if self._bindkey and not self._family.keyed and self._family is not _NOBODYS:
            return self._refuse(Refusal.PLAIN)
        heard = self._decoder.decode(advert)
        if isinstance(heard, Refusal):
            return self._refuse(heard)
        if isinstance(heard, Unknown):
            if self._decoded and not heard.firmware and not heard.model:
                # It sends other things besides, such as its serial number.
                return self._refuse(Refusal.OTHER_FORMAT)
            return self._raw(advert, raw_series(self._device, heard.firmware or self._firmware or ""))
        self._decoded = True
        self._key_doubt.passed()
        meaning = self._meaning(heard)
        if isinstance(meaning, Series):
            return self._raw(advert, meaning)
        return self._readings(advert, heard, meaning)

    def hear(self, advert: Advert) -> list[Reading]:
        """`news`, then `read`."""
        news = self.news(advert)
        return [] if news is None else self.read(news)

    def _recognise(self, advert: Advert) -> None:
        family = recognised(advert)
        if family is not None:
            self._family = family
            self._arrivals = Arrivals(family)
            self._decoder = family.open(self._address, self._bindkey)

    def _meaning(self, heard: Heard) -> "_Known | Series":
        told = (heard.model, heard.firmware)
        meaning = self._meanings.get(told)
        if meaning is None:
            model, firmware = heard.identity(self._model, self._firmware)
            profile = self._profiles.select(model, firmware)
            known = None if profile is None else _Known(self._device, firmware, profile)
            meaning = self._meanings[told] = known or raw_series(self._device, firmware)
        return meaning

    def _refuse(self, refusal: Refusal) -> list[Reading]:
        if refusal is Refusal.UNAUTHENTIC:
            if self._key_doubt.failed():
                logger.warning(
                    "%s (%s): %d packets in a row fail their integrity check: its bindkey is wrong; "
                    "write the one that its maker's app shows",
                    self._device,
                    self._address,
                    FAILURES_IN_A_ROW,
                )
            if self._key_doubt.wrong:
                refusal = Refusal.WRONG_KEY
        self._faults[refusal.value] += 1
        return []

    def _raw(self, advert: Advert, series: Series) -> list[Reading]:
        return [raw_reading(series, frame(advert), advert.taken_at_us)]

    def _readings(self, advert: Advert, heard: Heard, known: "_Known") -> list[Reading]:
        if heard.events:
            self._faults["events"] += heard.events
        if heard.not_numbers:
            self._faults["not_numbers"] += heard.not_numbers
        self._note_battery(heard.values)
        causes = Causes.LOW_BATTERY.value if self._low_battery else 0
        if advert.rssi <= WEAK_SIGNAL_DBM:
            causes |= Causes.WEAK_SIGNAL.value
        readings: list[Reading] = []
        for channel, raw in heard.values.items():
            interpreter = known.interpreter(channel)
            if interpreter is None:
                self._faults["unknown_channels"] += 1
            else:
                readings.append(interpreter.reading(channel, raw, advert.taken_at_us, causes))
        strength = known.interpreter(SIGNAL_STRENGTH)
        if strength is not None:  # measured by our own radio, whatever the sensor's battery and distance
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
