"""What the characteristics of one device mean, by its firmware. No radio, no clock, no asyncio."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from device_drivers.ble.gatt.values import number
from device_drivers.ble.sensor import LOW_BATTERY_PERCENT
from device_drivers.errors import ProtocolError
from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes, Reading
from firmware_profiles.gatt import CharacteristicWrite
from firmware_profiles.profile import Channel, FirmwareProfile
from firmware_profiles.selection import ProfileSet

_BATTERY = "battery"


def profiles_of(profiles: ProfileSet, model: str) -> list[FirmwareProfile]:
    """Those with characteristics that know the model, whatever its firmware."""
    return [profile for profile in profiles if profile.gatt is not None and model in profile.models]


def notifies(profile: FirmwareProfile) -> bool:
    """Whether such a device holds its connection."""
    return any(c.characteristic is not None and c.characteristic.notify for c in profile.channels.values())


def meaning_of(
    device: str, model: str, firmware: str, profiles: ProfileSet, faults: Counter[str]
) -> "KnownFirmware | UnknownFirmware":
    """faults: where what gives no reading is counted, by kind."""
    profile = profiles.select(model, firmware)
    if profile is not None and profile.gatt is not None:
        return KnownFirmware(device, firmware, profile, faults)
    return UnknownFirmware(device, firmware, profiles_of(profiles, model))


class KnownFirmware:
    """A firmware that a profile explains. polled, notified: UUIDs; begin: what to write first."""

    def __init__(self, device: str, firmware: str, profile: FirmwareProfile, faults: Counter[str]) -> None:
        assert profile.gatt is not None
        self._interpreter = Interpreter(device, firmware, profile)
        self._faults = faults
        self._channels: dict[str, list[Channel]] = {}
        for channel in profile.channels.values():
            assert channel.characteristic is not None
            self._channels.setdefault(channel.characteristic.uuid, []).append(channel)
        self._sampling = profile.sampling
        self._due_us: dict[str, int] = {}
        self._last: dict[str, float] = {}
        self._warm_up_us = int(profile.warm_up_s * 1_000_000)
        self._low_battery = False
        self.begin: Sequence[CharacteristicWrite] = profile.gatt.begin
        notify = {
            c.characteristic.uuid for c in profile.channels.values() if c.characteristic and c.characteristic.notify
        }
        # A battery is asked first: what it says judges the others.
        battery_first = sorted(
            self._channels, key=lambda uuid: all(c.quantity != _BATTERY for c in self._channels[uuid])
        )
        self.polled = tuple(uuid for uuid in battery_first if uuid not in notify)
        self.notified = tuple(uuid for uuid in battery_first if uuid in notify)

    def readings(self, uuid: str, value: bytes, taken_at_us: int, known_for_us: int) -> list[Reading]:
        """What a characteristic said. known_for_us: since the device was first connected to."""
        found: dict[str, float] = {}
        for channel in self._channels[uuid]:
            assert channel.characteristic is not None
            try:
                raw = number(channel.characteristic, value)
            except ProtocolError:
                self._faults["short_values"] += 1
                continue
            if raw is None:
                self._faults["not_known"] += 1
                continue
            found[channel.name] = raw
            if channel.quantity == _BATTERY:
                self._low_battery = channel.value(raw) < LOW_BATTERY_PERCENT
        causes = Causes.LOW_BATTERY if self._low_battery else Causes.NONE
        if known_for_us < self._warm_up_us:
            causes |= Causes.WARMING_UP
        return [self._interpreter.reading(name, raw, taken_at_us, causes) for name, raw in found.items()]

    def notified_readings(self, uuid: str, value: bytes, taken_at_us: int, known_for_us: int) -> list[Reading]:
        """The same of what came by itself; nothing where the profile's sampling leaves it out."""
        readings = self.readings(uuid, value, taken_at_us, known_for_us)
        changing = {r.series.channel: r.value for r in readings if r.series.channel in self._sampling.on_change}
        changed = any(self._last.get(channel) != value for channel, value in changing.items())
        if taken_at_us < self._due_us.get(uuid, 0) and not changed:
            return []
        self._last |= changing
        self._due_us[uuid] = taken_at_us + int(self._sampling.interval_s * 1_000_000)
        return readings


class UnknownFirmware:
    """A firmware that no profile explains: what other firmware of the model says at these places is kept as bytes.

    A frame is the characteristic's UUID (16 bytes, as it is written) and then its value.
    """

    begin: Sequence[CharacteristicWrite] = ()
    notified: tuple[str, ...] = ()

    def __init__(self, device: str, firmware: str, others: Sequence[FirmwareProfile]) -> None:
        self._series = raw_series(device, firmware)
        places = (c.characteristic for profile in others for c in profile.channels.values())
        self.polled = tuple(dict.fromkeys(place.uuid for place in places if place is not None))

    def readings(self, uuid: str, value: bytes, taken_at_us: int, known_for_us: int) -> list[Reading]:
        del known_for_us
        return [raw_reading(self._series, UUID(uuid).bytes + value, taken_at_us)]

    notified_readings = readings
