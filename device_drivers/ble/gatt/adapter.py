"""One adapter as BlueZ shows it: whether it is there and on, and which devices are on the air now.

It has a D-Bus connection of its own. BlueZ allows one discovery for each connection, and that of bleak belongs to
whoever listens to advertisements on the same adapter.
D-Bus interface: https://github.com/bluez/bluez/tree/master/doc (org.bluez.Adapter, org.bluez.Device).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from bleak.exc import BleakDBusError
from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from device_drivers.ble.gatt.waiting import within
from device_drivers.ble.link import LINK_ERRORS, cut_connection, explain, link_errors
from device_drivers.errors import DeviceTimeout, LinkLost

logger = logging.getLogger(__name__)

# bluetoothd answers within milliseconds.
ANSWER_TIMEOUT_S = 10.0
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0

# Battery sensors advertise every 1 to 10 s, and not every advertisement is heard.
HEARD_TIMEOUT_S = 30.0

_BLUEZ = "org.bluez"
_ADAPTER = "org.bluez.Adapter1"
_DEVICE = "org.bluez.Device1"
_DBUS = "org.freedesktop.DBus"
_PROPERTIES = f"{_DBUS}.Properties"
_OBJECTS = f"{_DBUS}.ObjectManager"

# What changes when BlueZ hears an advertisement.
_SIGNS = frozenset({"RSSI", "ServiceData", "ManufacturerData"})

_REMEDY_OFF = "the adapter is powered off (bluetoothctl power on; rfkill list)"


class Adapter:
    """From entering to leaving. `lost` says why it is gone, and `on_lost` is called once when it is."""

    def __init__(self, name: str, on_lost: Callable[[], None]) -> None:
        self.name = name
        self.path = f"/org/bluez/{name}"
        self.lost = ""
        self._on_lost = on_lost
        self._bus: MessageBus | None = None
        self._watch: asyncio.Task[None] | None = None
        self._wanted: dict[str, asyncio.Event] = {}
        self._searches = 0
        self._search_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Raises LinkLost where there is no bus, BlueZ, or powered adapter of this name."""
        with link_errors(f"Bluetooth adapter {self.name}"):
            try:
                await within(ANSWER_TIMEOUT_S, self._open())
            except BaseException:
                await self._close()
                raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def device_path(self, address: str) -> str:
        return f"{self.path}/dev_{address.replace(':', '_')}"

    async def heard(self, address: str) -> None:
        """Waits until the device is on the air (or connected). Raises DeviceTimeout, LinkLost.

        So that nobody connects to one that is away: that would keep a connection from the others until it times out.
        """
        path = self.device_path(address)
        rules = (
            f"type='signal',sender='{_BLUEZ}',interface='{_PROPERTIES}',path='{path}'",
            f"type='signal',sender='{_BLUEZ}',interface='{_OBJECTS}',member='InterfacesAdded',arg0path='{path}'",
        )
        event = self._wanted[path] = asyncio.Event()
        try:
            with link_errors(f"Bluetooth adapter {self.name}"):
                for rule in rules:
                    await self._match(rule)
                async with self._search():
                    if not await self._is_there(path):
                        await _set_within(HEARD_TIMEOUT_S, event)
        finally:
            del self._wanted[path]
            for rule in rules:
                self._unmatch(rule)

    async def _open(self) -> None:
        self._bus = MessageBus(bus_type=BusType.SYSTEM)
        await self._bus.connect()
        self._watch = asyncio.create_task(self._until_disconnected(self._bus), name=f"d-bus of {self.name}")
        self._bus.add_message_handler(self._on_message)
        for rule in (
            f"type='signal',sender='{_DBUS}',member='NameOwnerChanged',arg0='{_BLUEZ}'",
            f"type='signal',sender='{_BLUEZ}',interface='{_PROPERTIES}',path='{self.path}'",
            f"type='signal',sender='{_BLUEZ}',interface='{_OBJECTS}',member='InterfacesRemoved'",
        ):
            await self._match(rule)
        (objects,) = await self._call(_BLUEZ, "/", _OBJECTS, "GetManagedObjects")
        adapters = {path.rpartition("/")[2]: found[_ADAPTER] for path, found in objects.items() if _ADAPTER in found}
        if self.name not in adapters:
            others = f"there is {', '.join(sorted(adapters))}" if adapters else "there is none"
            raise LinkLost(f"no Bluetooth adapter {self.name}; {others}")
        if not adapters[self.name]["Powered"].value:
            raise LinkLost(f"Bluetooth adapter {self.name}: {_REMEDY_OFF}")

    async def _close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is None:
            return
        bus.remove_message_handler(self._on_message)
        # BlueZ ends a discovery with the connection that asked for it.
        bus.disconnect()
        if self._watch is not None:
            await asyncio.wait({self._watch})

    async def _until_disconnected(self, bus: MessageBus) -> None:
        try:
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        except LINK_ERRORS as error:
            logger.debug("%s: %s", self.name, explain(error))
        if self._bus is not None:
            self._lose("the connection to D-Bus was cut")

    def _lose(self, why: str) -> None:
        if not self.lost:
            self.lost = f"Bluetooth adapter {self.name}: {why}"
            self._on_lost()

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member:
            case "NameOwnerChanged" if message.body[0] == _BLUEZ and not message.body[2]:
                # bleak hears nothing of it, and would go on believing what the dead one said of its devices.
                cut_connection()
                self._lose("BlueZ has stopped (systemctl status bluetooth)")
            case "InterfacesRemoved" if message.body[0] == self.path and _ADAPTER in message.body[1]:
                self._lose("the adapter is gone")
            case "InterfacesAdded" if message.body[0] in self._wanted:
                self._note(message.body[0], message.body[1].get(_DEVICE, {}))
            case "PropertiesChanged" if message.path == self.path and message.body[0] == _ADAPTER:
                powered = message.body[1].get("Powered")
                if powered is not None and not powered.value:
                    self._lose(_REMEDY_OFF)
            case "PropertiesChanged" if message.path in self._wanted and message.body[0] == _DEVICE:
                self._note(message.path, message.body[1])
            case _:
                pass

    def _note(self, path: str, properties: dict[str, Variant]) -> None:
        if _SIGNS & properties.keys():
            self._wanted[path].set()

    async def _is_there(self, path: str) -> bool:
        """By what BlueZ knows already. It forgets the signal strength when a discovery ends, and while one goes on it
        tells only of changes."""
        try:
            (properties,) = await self._call(_BLUEZ, path, _PROPERTIES, "GetAll", "s", [_DEVICE])
        except BleakDBusError:
            # No such device yet.
            return False
        return "RSSI" in properties or properties["Connected"].value is True

    @asynccontextmanager
    async def _search(self) -> AsyncIterator[None]:
        """A discovery runs meanwhile; all who search share it."""
        async with self._search_lock:
            if self._searches == 0:
                await self._call(
                    _BLUEZ, self.path, _ADAPTER, "SetDiscoveryFilter", "a{sv}", [{"Transport": Variant("s", "le")}]
                )
                await self._start_discovery()
            self._searches += 1
        try:
            yield
        finally:
            self._searches -= 1
            if self._searches == 0:
                await self._stop_discovery()

    async def _start_discovery(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._call(_BLUEZ, self.path, _ADAPTER, "StartDiscovery")
        except TimeoutError:
            # It may yet begin one; only a new connection has none for sure.
            self._lose("BlueZ does not answer")
            raise
        except BleakDBusError as error:
            # We have one already, of which we were not told that it has ended.
            if error.dbus_error != "org.bluez.Error.InProgress":
                raise

    async def _stop_discovery(self) -> None:
        async with self._search_lock:
            # What is lost has ended it; dbus-fast tells of a message to a broken bus by a traceback.
            if self._searches or self.lost:
                return
            try:
                # Little patience: whoever leaves this driver waits for it.
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._call(_BLUEZ, self.path, _ADAPTER, "StopDiscovery")
            except LINK_ERRORS as error:
                # It ended with the adapter, which is told of elsewhere.
                logger.debug("%s: discovery not stopped: %s", self.name, explain(error))

    async def _match(self, rule: str) -> None:
        await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", "s", [rule])

    def _unmatch(self, rule: str) -> None:
        """Without waiting: this is also done while a task is being cancelled."""
        if self._bus is None or not self._bus.connected or self.lost:
            return
        sent = self._bus.send(
            Message(
                destination=_DBUS,
                path="/org/freedesktop/DBus",
                interface=_DBUS,
                member="RemoveMatch",
                signature="s",
                body=[rule],
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )
        # A bus that breaks here has taken its rules with it: nobody need be told.
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", body: Any = ()
    ) -> list[Any]:
        """The reply's body. Raises TimeoutError, and BleakDBusError for a reply that is an error."""
        if self._bus is None or not self._bus.connected:
            raise EOFError
        call = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reply = await self._bus.call(call)
        if reply.message_type is MessageType.ERROR:
            raise BleakDBusError(reply.error_name or "", reply.body)
        return list(reply.body)


async def _set_within(timeout_s: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        raise DeviceTimeout(
            f"not heard for {timeout_s:g} s: is it powered, in range, and not connected to something else?"
        ) from None
