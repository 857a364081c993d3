"""One Bluetooth adapter that listens, and is brought back when it falls silent."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers.ble.adapter import cycle_power, says_scanning
from device_drivers.ble.advert import Advert
from device_drivers.ble.families import patterns
from device_drivers.ble.link import LINK_ERRORS, cut_connection, explain, link_errors
from device_drivers.ble.recovery import Recovery, Step
from device_drivers.errors import LinkLost

logger = logging.getLogger(__name__)

# bluetoothd answers within milliseconds; bleak itself waits for it without end.
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 3.0

# bleak's mark for "no signal strength". BlueZ takes that property back when a scan ends or the adapter is switched
# off, and bleak reports this as one more advertisement, with the values of the last.
_NOT_HEARD = -127

Detected = Callable[[str, BLEDevice, AdvertisementData], None]
"""Called with the adapter and what it heard."""


def advert_of(adapter: str, device: BLEDevice, data: AdvertisementData, taken_at_us: int) -> Advert:
    """What bleak tells of one advertisement, as we keep it."""
    return Advert(
        device.address,
        data.local_name or "",
        data.rssi,
        data.service_data,
        data.manufacturer_data,
        tuple(data.service_uuids),
        adapter,
        taken_at_us,
    )


class Radio:
    """Scans through one adapter, by its name. bleak keeps one D-Bus connection a process for all of them."""

    def __init__(
        self,
        adapter: str,
        mode: Literal["active", "passive"],
        silence_s: float,
        detected: Detected,
        faults: Counter[str],
        acted: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        """faults: where steps of recovery are counted. acted: called after each.

        cut: called when bleak's connection was cut.
        """
        self._adapter = adapter
        self._mode = mode
        self._silence_s = silence_s
        self._tell = detected
        self._faults = faults
        self._acted = acted
        self._cut = cut
        self._reopen = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._scanner: BleakScanner | None = None
        self._recovery = Recovery(silence_s, self._loop.time())

    @property
    def name(self) -> str:
        return f"Bluetooth LE on {self._adapter}"

    async def open(self) -> None:
        """Begins to listen. Raises LinkLost where BlueZ cannot be made to scan."""
        with link_errors(self.name):
            scanner = BleakScanner(self._detected, scanning_mode=self._mode, bluez=self._bluez())
            await self._answered(scanner.start(), START_TIMEOUT_S)
        self._scanner = scanner
        self._reopen.clear()

    async def close(self) -> None:
        """Ends listening; may be called again."""
        scanner, self._scanner = self._scanner, None
        if scanner is None:
            return
        try:
            await self._answered(scanner.stop(), STOP_TIMEOUT_S)
        except LINK_ERRORS as error:
            # The scan ended with the link: raising would hide why we leave.
            logger.debug("%s: scan not stopped: %s", self.name, explain(error))

    def was_cut(self) -> None:
        """The connection to BlueZ was cut, and the scan ended with it: `keep` begins another."""
        self._reopen.set()

    async def keep(self) -> None:
        """Takes the steps of recovery when they are due, for ever; to be run while the radio is open."""
        self._recovery = Recovery(self._silence_s, self._loop.time())
        while True:
            if await self._cut_before(self._recovery.due_s()):
                self._faults["radio_reconnects"] += 1
                await self._open_anew()
                continue
            silent_s = self._loop.time() - self._recovery.silent_since_s
            step = self._recovery.step(self._loop.time())
            if step is not None:
                self._faults[step.value] += 1
                await self._take(step, silent_s)
                self._acted()

    async def _cut_before(self, due_s: float) -> bool:
        try:
            async with asyncio.timeout_at(due_s):
                await self._reopen.wait()
        except TimeoutError:
            return False
        self._reopen.clear()
        return True

    async def _take(self, step: Step, silent_s: float) -> None:
        """A bluetoothd that restarts and an adapter that is switched off cause no error and no event, only silence."""
        log = logger.error if step is Step.RESTART_REQUEST else logger.warning
        log("%s: nothing at all heard for %.0f s (%s): %s", self.name, silent_s, await self._state(), _SAID[step])
        if step is Step.POWER_CYCLE:
            await self.close()
            try:
                await cycle_power(self._adapter)
            except LINK_ERRORS as error:
                logger.warning("%s: power not cycled: %s", self.name, explain(error))
        await self._open_anew()

    async def _open_anew(self) -> None:
        await self.close()
        try:
            await self.open()
        except LinkLost as error:
            logger.warning("%s", error)

    async def _state(self) -> str:
        try:
            scans = await says_scanning(self._adapter)
        except LINK_ERRORS as error:
            return explain(error)
        return "BlueZ says that it scans" if scans else "BlueZ says that no scan runs"

    async def _answered(self, request: Awaitable[None], timeout_s: float) -> None:
        """Waits for BlueZ; raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                await request
        except (TimeoutError, asyncio.CancelledError):
            # BlueZ may yet begin a scan that bleak knows nothing of, and would refuse each later one as "in progress".
            cut_connection()
            self._cut()
            raise

    def _bluez(self) -> BlueZScannerArgs:
        if self._mode == "passive":
            return {
                "adapter": self._adapter,
                "or_patterns": [
                    OrPattern(start, AdvertisementDataType(kind), data) for start, kind, data in patterns()
                ],
            }
        return {"adapter": self._adapter}

    def _detected(self, device: BLEDevice, data: AdvertisementData) -> None:
        if data.rssi != _NOT_HEARD:
            self._recovery.heard(self._loop.time())
            self._tell(self._adapter, device, data)


_SAID = {
    Step.NEW_SCANNER: "scanning anew",
    Step.POWER_CYCLE: "switching the adapter off and on",
    Step.RESTART_REQUEST: "neither a new scanner nor a power cycle helped; restart bluetoothd "
    "(systemctl restart bluetooth), or unplug the adapter and plug it in again, unless nothing sends here",
}
