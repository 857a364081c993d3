"""Readings from Bluetooth LE advertisements, heard by BlueZ and brought by bleak."""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from typing import Self

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers.ble.address_kind import address_kind
from device_drivers.ble.advert import Advert
from device_drivers.ble.families import recognised
from device_drivers.ble.newcomers import Newcomers
from device_drivers.ble.options import BleOptions
from device_drivers.ble.radio import Radio, advert_of
from device_drivers.ble.sensor import BleSensor
from device_drivers.driver import OVERFLOWS, Clock, Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Reading
from firmware_profiles.selection import ProfileSet

logger = logging.getLogger(__name__)

# Adverts that wait while the gateway is busy: at the 120 a second that a full room gave on real BlueZ, 17 s.
MAX_WAITING = 2048

# With `accept` the radio decides how many there are.
MAX_UNLISTED = 256


def open_ble(options: BleOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    """A driver for the sensors that some adapters hear; nothing is opened before it is entered.

    clock: stamps each advertisement when bleak hands it over, in microseconds. BlueZ is found on the system bus, or
    on that of DBUS_SYSTEM_BUS_ADDRESS. Entering raises LinkLost where there is no bus, BlueZ or powered adapter.
    """
    return BleDriver(options, profiles, clock)


class BleDriver:
    """One for all adapters of a gateway, since they hear the same sensors; one that dies leaves the others reading."""

    def __init__(self, options: BleOptions, profiles: ProfileSet, clock: Clock) -> None:
        self._options = options
        self._profiles = profiles
        self._clock = clock
        self._faults: Counter[str] = Counter()
        self._listed = {
            device.address: BleSensor(
                device.address,
                device.device,
                device.model,
                device.firmware,
                device.key(),
                profiles,
                self._faults,
            )
            for device in options.device
        }
        self._accepted = frozenset(options.accept)
        self._unlisted: OrderedDict[str, BleSensor] = OrderedDict()
        self._newcomers = Newcomers()
        self._waiting: deque[tuple[BleSensor, Advert]] = deque()
        self._arrived = asyncio.Event()
        self._acted = False
        self._listed_at_us = 0
        self._listed_gone = False
        self._radios: list[Radio] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """`Bluetooth LE on hci0, hci1`."""
        return f"Bluetooth LE on {', '.join(self._options.adapters)}"

    @property
    def faults(self) -> dict[str, int]:
        """What gave no reading since this driver was made, by kind.

        repeats: of the same measurement, which are normal. unlisted: devices of a family that we read, which nobody
        listed or accepted. rotating_addresses: of an accepted family, under an address that will change;
        too_many_newcomers: beyond `MOST_IN_AN_HOUR`. The others of `Refusal`. events, not_numbers, unknown_channels:
        values of an advertisement whose others were read. queue_overflows: advertisements dropped, oldest first,
        while the gateway was busy. unlisted_forgotten: devices beyond `MAX_UNLISTED`. listed_silent: how often all
        listed devices fell silent while others were heard. radios_not_opened, and the steps of `Recovery`.
        """
        return dict(self._faults)

    async def __aenter__(self) -> Self:
        """Raises LinkLost where no adapter can be made to scan; one that can suffices."""
        self._listed_at_us = self._clock()
        self._radios = [
            Radio(
                adapter,
                self._options.mode,
                self._options.silence_s,
                self._heard,
                self._faults,
                self._note_step,
                self._cut,
            )
            for adapter in self._options.adapters
        ]
        failures: list[LinkLost] = []
        try:
            for radio in self._radios:
                try:
                    await radio.open()
                except LinkLost as error:
                    failures.append(error)
            if len(failures) == len(self._radios):
                raise failures[0]
        except BaseException:
            await self._close()
            raise
        for failure in failures:
            self._faults["radios_not_opened"] += 1
            logger.warning("%s; the other adapters listen", failure)
        for radio in self._radios:
            task = asyncio.create_task(radio.keep(), name=radio.name)
            # A bug in it would otherwise be a radio that nobody looks after.
            task.add_done_callback(lambda _: self._arrived.set())
            self._keepers.append(task)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    async def _close(self) -> None:
        keepers, self._keepers = self._keepers, []
        for task in keepers:
            task.cancel()
        if keepers:
            await asyncio.wait(keepers)
        await asyncio.gather(*(radio.close() for radio in self._radios))

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """Readings of one advertisement at a time; an empty group after a step of recovery, so that it is told.

        Silence never ends it: opened anew, a driver would know nothing of the steps that did not help, and switch the
        adapter of an empty room off and on every few minutes.
        """
        while True:
            while self._waiting:
                sensor, advert = self._waiting.popleft()
                readings = sensor.read(advert)
                if readings:
                    yield readings
            self._arrived.clear()
            for keeper in self._keepers:
                if keeper.done():
                    keeper.result()
            if self._acted:
                self._acted = False
                yield []
            await self._arrived.wait()

    def _note_step(self) -> None:
        self._acted = True
        self._arrived.set()

    def _cut(self) -> None:
        """The adapters share bleak's connection to BlueZ: what was cut for one of them ended all scans."""
        for radio in self._radios:
            radio.was_cut()

    def _heard(self, adapter: str, device: BLEDevice, data: AdvertisementData) -> None:
        """Called for each advertisement: does no more than tell what is new, and note it."""
        advert = advert_of(adapter, device, data, self._clock())
        sensor = self._listed.get(advert.address)
        if sensor is not None:
            self._listed_at_us = advert.taken_at_us
            self._listed_gone = False
        else:
            sensor = self._sensor(advert, device)
            self._look_for_listed(advert.taken_at_us)
            if sensor is None:
                return
        news = sensor.news(advert)
        if news is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._faults[OVERFLOWS] += 1
        self._waiting.append((sensor, news))
        self._arrived.set()

    def _look_for_listed(self, now_us: int) -> None:
        """The radio hears: where all listed devices are silent, it is they that are gone."""
        if self._listed_gone or not self._listed or now_us - self._listed_at_us < self._options.silence_s * 1e6:
            return
        self._listed_gone = True
        self._faults["listed_silent"] += 1
        logger.warning(
            "%s: nothing from any listed device for %.0f s, while others are heard: out of range, without battery, "
            "or under another address",
            self.name,
            (now_us - self._listed_at_us) / 1e6,
        )

    def _sensor(self, advert: Advert, device: BLEDevice) -> BleSensor | None:
        """Of a device that is not listed; None where it is not accepted."""
        sensor = self._unlisted.get(advert.address)
        if sensor is not None:
            self._unlisted.move_to_end(advert.address)
            return sensor
        family = recognised(advert)
        if family is None:
            return None
        if family.name not in self._accepted:
            self._faults["unlisted"] += 1
            return None
        if not address_kind(advert.address, device.details["props"].get("AddressType", "")).stable:
            self._faults["rotating_addresses"] += 1
            return None
        if not self._newcomers.admits(advert.taken_at_us):
            self._faults["too_many_newcomers"] += 1
            return None
        if len(self._unlisted) >= MAX_UNLISTED:
            self._unlisted.popitem(last=False)
            self._faults["unlisted_forgotten"] += 1
        sensor = BleSensor(advert.address, advert.address, None, None, None, self._profiles, self._faults)
        self._unlisted[advert.address] = sensor
        return sensor
