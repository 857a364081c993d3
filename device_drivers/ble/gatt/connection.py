"""One connection to one device, through bleak."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.exc import BleakGATTProtocolError

from device_drivers.ble.gatt.waiting import to_its_end, within
from device_drivers.ble.link import LINK_ERRORS, explain, link_errors
from device_drivers.errors import DeviceTimeout, LinkLost, ProtocolError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# A device that advertises is connected within 2 s; its services take BlueZ a few more the first time.
CONNECT_TIMEOUT_S = 20.0
# The ATT protocol gives an answer 30 s and then ends the connection (Core Specification 5.4, volume 3, part F, 3.3.3);
# a device that is alive answers within its connection interval, 4 s at the most.
REQUEST_TIMEOUT_S = 10.0
DISCONNECT_TIMEOUT_S = 3.0


class Connection:
    """From entering to leaving. `closed` is set when it is gone."""

    def __init__(self, adapter: str, path: str, address: str) -> None:
        """path: the device's object of BlueZ, which must know it by now."""
        self.closed = asyncio.Event()
        self._client = BleakClient(
            BLEDevice(address, None, {"path": path}),
            lambda _: self.closed.set(),
            timeout=CONNECT_TIMEOUT_S,
            bluez={"adapter": adapter},
        )

    async def __aenter__(self) -> Self:
        """Raises DeviceTimeout, LinkLost."""
        with link_errors("not connected"):
            try:
                await within(CONNECT_TIMEOUT_S, self._client.connect())
            except TimeoutError:
                raise DeviceTimeout(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            # Cut short, it would leave a connection that nobody uses: BlueZ keeps it, and the device is heard no more.
            await to_its_end(within(DISCONNECT_TIMEOUT_S, self._client.disconnect()))
        except LINK_ERRORS as error:
            # Raised, it would hide why we leave; a connection that stays is found and used again.
            logger.debug("%s: not disconnected: %s", self._client.address, explain(error))

    def has(self, uuid: str, *properties: str) -> bool:
        """Whether the device has such a characteristic, with at least one of the properties."""
        found = self._find(uuid)
        return found is not None and not set(properties).isdisjoint(found.properties)

    async def read(self, uuid: str) -> bytes:
        """Raises DeviceTimeout, LinkLost, and ProtocolError where the device refuses or has no such characteristic."""
        return bytes(await self._ask(uuid, self._client.read_gatt_char))

    async def write(self, uuid: str, value: bytes) -> None:
        """The same, acknowledged where the device offers that."""
        await self._ask(uuid, lambda found: self._client.write_gatt_char(found, value, "write" in found.properties))

    async def notify(self, uuid: str, told: Callable[[bytes], None]) -> None:
        """The same; `told` is called with each value from now on."""
        await self._ask(uuid, lambda found: self._client.start_notify(found, lambda _, value: told(bytes(value))))

    async def _ask(self, uuid: str, request: Callable[[BleakGATTCharacteristic], Coroutine[Any, Any, _T]]) -> _T:
        found = self._find(uuid)
        if found is None:
            raise ProtocolError(f"it has no characteristic {uuid}")
        with link_errors("connection lost"):
            try:
                return await within(REQUEST_TIMEOUT_S, request(found))
            except BleakGATTProtocolError as error:
                raise ProtocolError(f"characteristic {uuid}: {error}") from error
            except TimeoutError:
                raise DeviceTimeout(f"no answer within {REQUEST_TIMEOUT_S:g} s") from None

    def _find(self, uuid: str) -> BleakGATTCharacteristic | None:
        if self.closed.is_set():
            raise LinkLost("connection lost")
        services = self._client.services
        found = [one for one in services.characteristics.values() if one.uuid == uuid]
        return min(found, key=lambda one: one.handle, default=None)
