"""Readings from Bluetooth LE advertisements, heard by BlueZ and brought by bleak."""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Self

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers.ble.bthome import UUIDS, Advert
from device_drivers.ble.link import LINK_ERRORS, cut_connection, explain, link_errors
from device_drivers.ble.options import BleOptions
from device_drivers.ble.sensor import BleSensor
from device_drivers.driver import OVERFLOWS, Clock, Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Reading
from firmware_profiles.selection import ProfileSet

logger = logging.getLogger(__name__)

# Adverts that wait while the gateway is busy: at the 120 a second that a full room gave on real BlueZ, 17 s.
MAX_WAITING = 2048

# With accept_unlisted the radio decides how many there are, and phones change their address every 15 minutes.
MAX_UNLISTED = 256

# bluetoothd answers within milliseconds; bleak itself waits for it without end.
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 3.0

# bleak's mark for "no signal strength". BlueZ takes that property back when a scan ends or the adapter is switched
# off, and bleak reports this as one more advertisement, with the values of the last.
_NOT_HEARD = -127

_PATTERNS = [OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, bytes.fromhex(uuid[4:8])[::-1]) for uuid in UUIDS]


def open_ble(options: BleOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    """A driver for the sensors of one radio; nothing is opened before it is entered.

    clock: stamps each advertisement when bleak hands it over, in microseconds. BlueZ is found on the system bus, or
    on that of DBUS_SYSTEM_BUS_ADDRESS. Entering raises LinkLost where there is no bus, BlueZ or powered adapter.
    """
    return BleDriver(options, profiles, clock)


class BleDriver:
    """Listens through one adapter. bleak keeps one D-Bus connection a process, and makes a new one when it broke."""

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
        self._unlisted: OrderedDict[str, BleSensor] = OrderedDict()
        self._waiting: deque[Advert] = deque()
        self._arrived = asyncio.Event()
        self._heard_at_s = 0.0
        self._scanner: BleakScanner | None = None

    @property
    def name(self) -> str:
        """`Bluetooth LE on hci0`."""
        return f"Bluetooth LE on {self._options.adapter}"

    @property
    def faults(self) -> dict[str, int]:
        """What gave no reading since this driver was made, by kind.

        repeats: of the same measurement, which are normal. unlisted: BTHome devices that nobody listed.
        without_bthome: advertisements of a listed device in another format. no_bindkey, wrong_bindkey,
        plain_despite_bindkey, replays, undecodable: see `Refusal`. events, not_numbers, unknown_channels: values of
        an advertisement whose others were read. queue_overflows: advertisements dropped, oldest first, while the
        gateway was busy. unlisted_forgotten: devices beyond `MAX_UNLISTED`.
        """
        return dict(self._faults)

    async def __aenter__(self) -> Self:
        """Raises LinkLost where BlueZ cannot be made to scan."""
        with link_errors(self.name):
            scanner = BleakScanner(self._heard, scanning_mode=self._options.mode, bluez=self._bluez())
            await _answered(scanner.start(), START_TIMEOUT_S)
        self._scanner = scanner
        self._heard_at_s = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *exc: object) -> None:
        scanner, self._scanner = self._scanner, None
        if scanner is None:
            return
        try:
            await _answered(scanner.stop(), STOP_TIMEOUT_S)
        except LINK_ERRORS as error:
            # The scan ended with the link: raising would hide why we leave.
            logger.debug("%s: scan not stopped: %s", self.name, explain(error))

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """Readings of one advertisement at a time. Raises LinkLost after `silence_s` without any.

        A bluetoothd that restarts and an adapter that is switched off cause no error and no event, only silence.
        """
        while True:
            await self._any_waiting()
            advert = self._waiting.popleft()
            readings = self._sensor(advert.address).hear(advert)
            if readings:
                yield readings

    async def _any_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._waiting:
            self._arrived.clear()
            deadline = self._heard_at_s + self._options.silence_s
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                if loop.time() - self._heard_at_s >= self._options.silence_s:
                    raise LinkLost(self._silent()) from None

    def _silent(self) -> str:
        whom = "any BTHome device" if self._options.accept_unlisted else "any listed device"
        return f"{self.name}: radio silent, nothing from {whom} for {self._options.silence_s:g} s"

    def _bluez(self) -> BlueZScannerArgs:
        if self._options.mode == "passive":
            return {"adapter": self._options.adapter, "or_patterns": list(_PATTERNS)}
        return {"adapter": self._options.adapter}

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        """Called by bleak for each advertisement: does no more than note it."""
        if data.rssi == _NOT_HEARD:
            return
        address = device.address.upper()
        uuid = next((uuid for uuid in UUIDS if uuid in data.service_data), None)
        if address in self._listed:
            self._heard_at_s = asyncio.get_running_loop().time()
            if uuid is None:
                self._faults["without_bthome"] += 1
        elif uuid is not None:
            if not self._options.accept_unlisted:
                self._faults["unlisted"] += 1
                return
            self._heard_at_s = asyncio.get_running_loop().time()
        if uuid is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._faults[OVERFLOWS] += 1
        self._waiting.append(Advert(address, data.rssi, uuid, data.service_data[uuid], self._clock()))
        self._arrived.set()

    def _sensor(self, address: str) -> BleSensor:
        listed = self._listed.get(address)
        if listed is not None:
            return listed
        sensor = self._unlisted.get(address)
        if sensor is None:
            if len(self._unlisted) >= MAX_UNLISTED:
                self._unlisted.popitem(last=False)
                self._faults["unlisted_forgotten"] += 1
            sensor = BleSensor(address, address, "BTHome", "2", None, self._profiles, self._faults)
            self._unlisted[address] = sensor
        self._unlisted.move_to_end(address)
        return sensor


async def _answered(request: Awaitable[None], timeout_s: float) -> None:
    """Waits for BlueZ; raises TimeoutError."""
    try:
        async with asyncio.timeout(timeout_s):
            await request
    except (TimeoutError, asyncio.CancelledError):
        # BlueZ may yet begin a scan that bleak knows nothing of, and would refuse each later one as "in progress".
        cut_connection()
        raise
