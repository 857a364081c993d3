"""An emulated BlueZ on a private bus, for real bleak: scans, advertisements, and connections to GATT servers.

It answers as bluetoothd 5.6x does: https://github.com/bluez/bluez/tree/master/doc (org.bluez.Adapter,
org.bluez.AdvertisementMonitorManager, org.bluez.Device). What bleak reads is there, the rest is left out.
"""

import asyncio
import select
from collections.abc import Mapping
from typing import Self

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from device_drivers.simulator.gatt_server import EmulatedGatt

_ADAPTER = "org.bluez.Adapter1"
_DEVICE = "org.bluez.Device1"
_MONITOR = "org.bluez.AdvertisementMonitor1"
_MONITORS = "org.bluez.AdvertisementMonitorManager1"
_BUS = "org.freedesktop.DBus"
_OBJECTS = f"{_BUS}.ObjectManager"
_PROPERTIES = f"{_BUS}.Properties"

_SERVICE_DATA, _MANUFACTURER_DATA = 0x16, 0xFF

Properties = dict[str, Variant]
Pattern = tuple[int, int, bytes]
"""Where in the data, of which type, which bytes: an `or_pattern`."""


class EmulatedDevice:
    """One sensor in range; `EmulatedBlueZ.device` makes it."""

    def __init__(self, bluez: "EmulatedBlueZ", path: str, address: str, name: str | None) -> None:
        self._bluez = bluez
        self.path = path
        self.address = address
        self._name = name
        self.known = False
        self.gatt = EmulatedGatt(path, bluez.emit)
        self._properties: Properties = {}

    async def advertise(
        self,
        service_data: Mapping[int, bytes],
        *,
        rssi: int = -60,
        manufacturer_data: Mapping[int, bytes] | None = None,
    ) -> bool:
        """Sends one advertisement; whether some scan heard it. Raises OSError where the bus is gone.

        service_data: by 16-bit UUID; manufacturer_data: by company. rssi: dBm.
        """
        manufacturers = manufacturer_data or {}
        if not self._bluez.hears(service_data, manufacturers):
            return False
        changed: Properties = {
            "RSSI": Variant("n", rssi),
            "ServiceData": Variant(
                "a{sv}", {full_uuid(key): Variant("ay", data) for key, data in service_data.items()}
            ),
        }
        if manufacturers:
            changed["ManufacturerData"] = Variant(
                "a{qv}", {key: Variant("ay", data) for key, data in manufacturers.items()}
            )
        self._properties |= changed
        if self.known:
            await self._bluez.changed(self.path, _DEVICE, changed)
        else:
            self.known = True
            await self._bluez.added(self.path, {_DEVICE: self.properties()})
        return True

    def properties(self) -> Properties:
        properties = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "random"),
            "Alias": Variant("s", self._name or self.address.replace(":", "-")),
            "Adapter": Variant("o", self._bluez.path),
            "UUIDs": Variant("as", []),
            **self.gatt.properties(),
        }
        if self._name is not None:
            properties["Name"] = Variant("s", self._name)
        return properties | self._properties

    def strength_forgotten(self) -> bool:
        """Drops the signal strength; whether there was one."""
        return self._properties.pop("RSSI", None) is not None


class EmulatedBlueZ:
    """org.bluez with one adapter on the bus at `address`, from entering to leaving.

    Leaving is bluetoothd killed: its name and objects are gone without a word to those who scan.
    """

    def __init__(self, address: str, adapter: str = "hci0") -> None:
        self.path = f"/org/bluez/{adapter}"
        self._bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM)
        self._devices: dict[str, EmulatedDevice] = {}
        self._powered = True
        self._discovering: set[str] = set()
        self._roots: set[tuple[str, str]] = set()
        self._monitors: dict[tuple[str, str], list[Pattern]] = {}
        self._scanned = asyncio.Event()
        self.answers_scans = True
        """False for a bluetoothd that hangs: it begins active scans, ends none, and says nothing of either."""

    async def __aenter__(self) -> Self:
        """Raises OSError where there is no bus at the address."""
        await self._bus.connect()
        self._bus.add_message_handler(self._on_message)
        # Scanners that end without a word, and monitors once they are exported.
        await self._match(f"type='signal',sender='{_BUS}',member='NameOwnerChanged'")
        await self._match(f"type='signal',interface='{_OBJECTS}',member='InterfacesAdded'")
        await self._bus.request_name("org.bluez")
        return self

    async def __aexit__(self, *exc: object) -> None:
        # What is still in the socket would be answered over a connection that is closed.
        self._bus.remove_message_handler(self._on_message)
        if self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def device(self, address: str, name: str | None = None) -> EmulatedDevice:
        """The sensor at `address`; it is in range from its first advertisement."""
        address = address.upper()
        if address not in self._devices:
            path = f"{self.path}/dev_{address.replace(':', '_')}"
            self._devices[address] = EmulatedDevice(self, path, address, name)
        return self._devices[address]

    @property
    def scans(self) -> int:
        """How many scans run, active and passive."""
        return len(self._discovering) + len(self._monitors)

    async def scanned(self) -> None:
        """Waits until some scan runs; a passive one counts once its patterns are known."""
        await self._scanned.wait()

    async def power(self, on: bool) -> None:
        """Switches the adapter. Off ends all active scans, and nothing tells those who scan."""
        self._powered = on
        if not on:
            for device in self._devices.values():
                device.gatt.drop()
            self._discovering.clear()
            await self._forget_strengths()
        await self.changed(
            self.path,
            _ADAPTER,
            {"Powered": Variant("b", on), "Discovering": Variant("b", bool(self._discovering))},
        )
        self._note_scans()

    def hears(self, service_data: Mapping[int, bytes], manufacturer_data: Mapping[int, bytes]) -> bool:
        """Whether some scan would report an advertisement with these data."""
        if not self._powered:
            return False
        if self._discovering:
            return True
        parts = [
            *((_SERVICE_DATA, key.to_bytes(2, "little") + data) for key, data in service_data.items()),
            *((_MANUFACTURER_DATA, key.to_bytes(2, "little") + data) for key, data in manufacturer_data.items()),
        ]
        return any(
            kind == part_kind and data[start : start + len(content)] == content
            for patterns in self._monitors.values()
            for start, kind, content in patterns
            for part_kind, data in parts
        )

    async def remove(self) -> None:
        """The adapter is unplugged."""
        self._powered = False
        self._discovering.clear()
        for device in self._devices.values():
            device.gatt.drop()
        self._note_scans()
        await self._signal("/", _OBJECTS, "InterfacesRemoved", "oas", [self.path, [_ADAPTER, _MONITORS]])

    async def changed(self, path: str, interface: str, properties: Properties, gone: tuple[str, ...] = ()) -> None:
        """Tells all that properties of an object have new values, and which have none any more."""
        await self._signal(path, _PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, properties, [*gone]])

    async def added(self, path: str, interfaces: dict[str, Properties]) -> None:
        """Tells all that there is a new object."""
        await self._signal("/", _OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    def emit(self, path: str, interface: str, member: str, signature: str, body: list[object]) -> None:
        """Sends a signal without waiting; for the few of a connection."""
        self._bus.send(Message.new_signal(path, interface, member, signature, body))

    async def _signal(self, path: str, interface: str, member: str, signature: str, body: list[object]) -> None:
        # dbus-fast takes a socket that is full for one that broke: as fast as the bus reads, one message at a time.
        socket = self._bus._fd
        assert socket is not None, "enter it before"
        while not select.select((), (socket,), (), 0)[1]:  # noqa: ASYNC110 - its event is dbus-fast's own
            await asyncio.sleep(0.0005)
        await self._bus.send(Message.new_signal(path, interface, member, signature, body))
        # A sent message is a finished future, which lets nobody else run: the readers would fall behind.
        await asyncio.sleep(0)

    async def _match(self, rule: str) -> None:
        await self._bus.call(
            Message(
                destination=_BUS,
                path="/org/freedesktop/DBus",
                interface=_BUS,
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )

    async def _forget_strengths(self) -> None:
        for device in self._devices.values():
            if device.strength_forgotten():
                await self.changed(device.path, _DEVICE, {}, ("RSSI",))

    def _note_scans(self) -> None:
        if self._powered and self.scans:
            self._scanned.set()
        else:
            self._scanned.clear()

    def _objects(self) -> dict[str, dict[str, Properties]]:
        adapter: Properties = {
            "Address": Variant("s", "00:00:5E:00:53:01"),
            "Name": Variant("s", "emulated"),
            "Powered": Variant("b", self._powered),
            "Discovering": Variant("b", bool(self._discovering)),
            "Roles": Variant("as", ["central"]),
        }
        monitors: Properties = {"SupportedMonitorTypes": Variant("as", ["or_patterns"])}
        objects = {self.path: {_ADAPTER: adapter, _MONITORS: monitors}}
        for device in self._devices.values():
            if device.known:
                objects[device.path] = {_DEVICE: device.properties()}
            if device.gatt.connected:
                objects |= device.gatt.objects()
        return objects

    def _on_message(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self._on_signal(message)
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        call = (message.interface, message.member)
        if call == (_OBJECTS, "GetManagedObjects"):
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._objects()])
        if message.path == self.path and message.interface == _ADAPTER:
            return self._on_adapter(message)
        if message.path == self.path and message.interface == _MONITORS:
            return self._on_monitors(message)
        for device in self._devices.values():
            if device.known and (message.path or "").startswith(device.path):
                return self._on_device(device, message)
        return None

    def _on_device(self, device: EmulatedDevice, message: Message) -> Message | bool | None:
        if message.path == device.path and (message.interface, message.member) == (_PROPERTIES, "GetAll"):
            return Message.new_method_return(message, "a{sv}", [device.properties()])
        return device.gatt.call(message)

    def _on_adapter(self, message: Message) -> Message | bool | None:
        sender = message.sender or ""
        match message.member:
            case "SetDiscoveryFilter":
                pass
            case "StartDiscovery" if not self._powered:
                return Message.new_error(message, "org.bluez.Error.NotReady", "Resource Not Ready")
            case "StartDiscovery" if sender in self._discovering:
                return Message.new_error(message, "org.bluez.Error.InProgress", "Operation already in progress")
            case "StartDiscovery":
                self._discovering.add(sender)
                self._note_scans()
                if not self.answers_scans:
                    return True
            case "StopDiscovery" if sender not in self._discovering:
                return Message.new_error(message, "org.bluez.Error.Failed", "No discovery started")
            case "StopDiscovery" if not self.answers_scans:
                return True
            case "StopDiscovery":
                self._end_discovery(sender)
            case _:
                return None
        self._note_scans()
        return Message.new_method_return(message)

    def _on_monitors(self, message: Message) -> Message | None:
        key = (message.sender or "", str(message.body[0]))
        match message.member:
            case "RegisterMonitor" if key in self._roots:
                return Message.new_error(message, "org.bluez.Error.AlreadyExists", "Already Exists")
            case "RegisterMonitor":
                self._roots.add(key)
            case "UnregisterMonitor" if key not in self._roots:
                return Message.new_error(message, "org.bluez.Error.DoesNotExist", "Does Not Exist")
            case "UnregisterMonitor":
                self._roots.discard(key)
                self._monitors.pop(key, None)
            case _:
                return None
        self._note_scans()
        return Message.new_method_return(message)

    def _on_signal(self, message: Message) -> None:
        if message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if not owner:
                self._scanner_left(name)
        elif message.member == "InterfacesAdded":
            path, interfaces = message.body
            key = (message.sender or "", str(path))
            if key in self._roots and _MONITOR in interfaces:
                patterns = interfaces[_MONITOR]["Patterns"].value
                self._monitors[key] = [(start, kind, bytes(content)) for start, kind, content in patterns]
                self._activate(*key)
                self._note_scans()

    def _activate(self, client: str, path: str) -> None:
        self._bus.send(
            Message(
                destination=client,
                path=path,
                interface=_MONITOR,
                member="Activate",
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )

    def _end_discovery(self, client: str) -> None:
        self._discovering.discard(client)
        if not self._discovering:
            for device in self._devices.values():
                device.strength_forgotten()

    def _scanner_left(self, client: str) -> None:
        self._end_discovery(client)
        self._roots = {key for key in self._roots if key[0] != client}
        self._monitors = {key: found for key, found in self._monitors.items() if key[0] != client}
        self._note_scans()


def full_uuid(short: int) -> str:
    """A 16-bit UUID in full, on Bluetooth's base."""
    return f"0000{short:04x}-0000-1000-8000-00805f9b34fb"
