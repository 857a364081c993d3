"""An emulated BlueZ on a private bus, for real bleak: adapters, scans, advertisements, and GATT servers.

It answers as bluetoothd 5.6x does: https://github.com/bluez/bluez/tree/master/doc (org.bluez.Adapter,
org.bluez.AdvertisementMonitorManager, org.bluez.Device). What bleak reads is there, the rest is left out.
"""

import asyncio
import select
from collections.abc import Iterable, Mapping
from typing import Literal, Self

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

_FLAGS, _SERVICE_DATA, _MANUFACTURER_DATA = 0x01, 0x16, 0xFF

Properties = dict[str, Variant]
Pattern = tuple[int, int, bytes]
"""Where in the data, of which type, which bytes: an `or_pattern`."""

Cure = Literal["new scanner", "power cycle", "restart"]
"""What makes a deaf radio hear again."""


class EmulatedDevice:
    """One sensor in range of one adapter; `EmulatedBlueZ.device` makes it."""

    def __init__(self, bluez: "EmulatedBlueZ", adapter: "_Adapter", address: str, name: str | None, type_: str) -> None:
        self._bluez = bluez
        self._adapter = adapter
        self.path = f"{adapter.path}/dev_{address.replace(':', '_')}"
        self.address = address
        self._name = name
        self._type = type_
        self.known = False
        self.gatt = EmulatedGatt(self.path, bluez.emit)
        self._properties: Properties = {}
        self._services: dict[str, bytes] = {}
        self._manufacturers: dict[int, bytes] = {}

    async def advertise(
        self,
        service_data: Mapping[int | str, bytes] | Mapping[int, bytes],
        *,
        rssi: int = -60,
        manufacturer_data: Mapping[int, bytes] | None = None,
        service_uuids: Iterable[int | str] = (),
        flags: int | None = 0x06,
    ) -> bool:
        """Sends one advertisement; whether some scan heard it. Raises OSError where the bus is gone.

        service_data, service_uuids: by UUID, of 16 bits or in full; manufacturer_data: by company. rssi: dBm. What is
        told is all that the device said since it is known, as BlueZ gathers it by UUID and company. flags: None where
        it sends none; they are no property of a device, and only patterns of passive scans see them.
        """
        services = {full_uuid(key): data for key, data in service_data.items()}
        manufacturers = dict(manufacturer_data or {})
        if not self._adapter.hears(flags, services, manufacturers):
            return False
        self._services |= services
        self._manufacturers |= manufacturers
        changed: Properties = {"RSSI": Variant("n", rssi)}
        if services:
            data = {key: Variant("ay", value) for key, value in self._services.items()}
            changed["ServiceData"] = Variant("a{sv}", data)
        if manufacturers:
            kept = {key: Variant("ay", value) for key, value in self._manufacturers.items()}
            changed["ManufacturerData"] = Variant("a{qv}", kept)
        if uuids := [full_uuid(key) for key in service_uuids]:
            changed["UUIDs"] = Variant("as", uuids)
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
            "AddressType": Variant("s", self._type),
            "Alias": Variant("s", self._name or self.address.replace(":", "-")),
            "Adapter": Variant("o", self._adapter.path),
            "UUIDs": Variant("as", []),
            **self.gatt.properties(),
        }
        if self._name is not None:
            properties["Name"] = Variant("s", self._name)
        return properties | self._properties

    def strength_forgotten(self) -> bool:
        """Drops the signal strength; whether there was one."""
        return self._properties.pop("RSSI", None) is not None


class _Adapter:
    """What bluetoothd knows of one radio, and who scans through it."""

    def __init__(self, name: str) -> None:
        self.path = f"/org/bluez/{name}"
        self.powered = True
        self.discovering: set[str] = set()
        self.roots: set[tuple[str, str]] = set()
        self.monitors: dict[tuple[str, str], list[Pattern]] = {}
        self.scanned = asyncio.Event()
        self.devices: dict[str, EmulatedDevice] = {}
        self.cure: Cure | None = None
        """None for a radio that hears."""

    @property
    def scans(self) -> int:
        return len(self.discovering) + len(self.monitors)

    def stop(self) -> None:
        """Ends active scans and connections, as without power."""
        for device in self.devices.values():
            device.gatt.drop()
        self.discovering.clear()

    def end_discovery(self, client: str) -> None:
        self.discovering.discard(client)
        if not self.discovering:
            for device in self.devices.values():
                device.strength_forgotten()

    def note_scans(self) -> None:
        if self.powered and self.scans:
            self.scanned.set()
        else:
            self.scanned.clear()

    def hears(self, flags: int | None, services: Mapping[str, bytes], manufacturers: Mapping[int, bytes]) -> bool:
        """Whether some scan would report an advertisement with these data."""
        if not self.powered or self.cure is not None:
            return False
        if self.discovering:
            return True
        parts = [] if flags is None else [(_FLAGS, bytes([flags]))]
        parts += [(_SERVICE_DATA, bytes.fromhex(uuid[4:8])[::-1] + data) for uuid, data in services.items()]
        parts += [(_MANUFACTURER_DATA, key.to_bytes(2, "little") + data) for key, data in manufacturers.items()]
        return any(
            kind == part_kind and data[start : start + len(content)] == content
            for patterns in self.monitors.values()
            for start, kind, content in patterns
            for part_kind, data in parts
        )

    def properties(self) -> Properties:
        return {
            "Address": Variant("s", "00:00:5E:00:53:01"),
            "Name": Variant("s", "emulated"),
            "Powered": Variant("b", self.powered),
            "Discovering": Variant("b", bool(self.discovering)),
            "Roles": Variant("as", ["central"]),
        }


class EmulatedBlueZ:
    """org.bluez with its adapters on the bus at `address`, from entering to leaving.

    Leaving is bluetoothd killed: its name and objects are gone without a word to those who scan. Where a method takes
    an adapter, an empty name is the first.
    """

    def __init__(self, address: str, *adapters: str) -> None:
        """adapters: by name; hci0 if none is given."""
        self._adapters = {name: _Adapter(name) for name in adapters or ("hci0",)}
        self._bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM)
        self.most_connected = 0
        """Devices at once, so far."""
        self.answers_scans = True
        """False for a bluetoothd that hangs: it begins active scans, ends none, and says nothing of either."""
        self.power_cycles = 0
        """How often somebody switched an adapter on over the bus."""
        self._switching: list[asyncio.Task[None]] = []

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
        await asyncio.gather(*self._switching, return_exceptions=True)
        if self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def device(
        self, address: str, name: str | None = None, *, adapter: str = "", address_type: str = "public"
    ) -> EmulatedDevice:
        """The sensor at `address`, as one adapter hears it; it is in range from its first advertisement."""
        address = address.upper()
        one = self._adapter(adapter)
        if address not in one.devices:
            one.devices[address] = EmulatedDevice(self, one, address, name, address_type)
        return one.devices[address]

    @property
    def scans(self) -> int:
        """How many scans run, active and passive, over all adapters."""
        return sum(adapter.scans for adapter in self._adapters.values())

    async def scanned(self, adapter: str = "") -> None:
        """Waits until some scan runs; a passive one counts once its patterns are known."""
        await self._adapter(adapter).scanned.wait()

    async def power(self, on: bool, adapter: str = "") -> None:
        """Switches the adapter. Off ends all active scans, and nothing tells those who scan."""
        one = self._adapter(adapter)
        one.powered = on
        if on:
            if one.cure == "power cycle":
                one.cure = None
        else:
            one.stop()
            for device in one.devices.values():
                if device.strength_forgotten():
                    await self.changed(device.path, _DEVICE, {}, ("RSSI",))
        await self.changed(
            one.path,
            _ADAPTER,
            {"Powered": Variant("b", on), "Discovering": Variant("b", bool(one.discovering))},
        )
        one.note_scans()

    def deafen(self, cure: Cure, adapter: str = "") -> None:
        """From now on the radio hears nothing, and says that it scans; `cure` is what helps."""
        self._adapter(adapter).cure = cure

    def _adapter(self, name: str) -> _Adapter:
        return self._adapters[name] if name else next(iter(self._adapters.values()))

    async def remove(self, adapter: str = "") -> None:
        """The adapter is unplugged."""
        one = self._adapter(adapter)
        one.powered = False
        one.stop()
        one.note_scans()
        await self._signal("/", _OBJECTS, "InterfacesRemoved", "oas", [one.path, [_ADAPTER, _MONITORS]])

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

    def _objects(self) -> dict[str, dict[str, Properties]]:
        monitors: Properties = {"SupportedMonitorTypes": Variant("as", ["or_patterns"])}
        objects: dict[str, dict[str, Properties]] = {}
        for adapter in self._adapters.values():
            objects[adapter.path] = {_ADAPTER: adapter.properties(), _MONITORS: monitors}
            for device in adapter.devices.values():
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
        adapter = next((one for one in self._adapters.values() if one.path == message.path), None)
        if adapter is None:
            return self._on_devices(message)
        if message.interface == _ADAPTER:
            return self._on_adapter(adapter, message)
        if message.interface == _PROPERTIES:
            return self._on_properties(adapter, message)
        if message.interface == _MONITORS:
            return self._on_monitors(adapter, message)
        return None

    def _on_devices(self, message: Message) -> Message | bool | None:
        for adapter in self._adapters.values():
            for device in adapter.devices.values():
                if device.known and (message.path or "").startswith(device.path):
                    return self._on_device(device, message)
        return None

    def _on_device(self, device: EmulatedDevice, message: Message) -> Message | bool | None:
        if message.path == device.path and (message.interface, message.member) == (_PROPERTIES, "GetAll"):
            return Message.new_method_return(message, "a{sv}", [device.properties()])
        answer = device.gatt.call(message)
        devices = (one for adapter in self._adapters.values() for one in adapter.devices.values())
        self.most_connected = max(self.most_connected, sum(one.gatt.connected for one in devices))
        return answer

    def _on_properties(self, adapter: _Adapter, message: Message) -> Message | None:
        match message.member, message.body:
            case "Get", [str(interface), str(name)] if interface == _ADAPTER:
                return Message.new_method_return(message, "v", [adapter.properties()[name]])
            case "Set", [str(interface), "Powered", Variant() as on] if interface == _ADAPTER:
                self.power_cycles += bool(on.value)
                name = adapter.path.rpartition("/")[2]
                self._switching.append(asyncio.create_task(self.power(bool(on.value), name)))
                return Message.new_method_return(message)
            case _:
                return None

    def _on_adapter(self, adapter: _Adapter, message: Message) -> Message | bool | None:
        sender = message.sender or ""
        match message.member:
            case "SetDiscoveryFilter":
                pass
            case "StartDiscovery" if not adapter.powered:
                return Message.new_error(message, "org.bluez.Error.NotReady", "Resource Not Ready")
            case "StartDiscovery" if sender in adapter.discovering:
                return Message.new_error(message, "org.bluez.Error.InProgress", "Operation already in progress")
            case "StartDiscovery":
                adapter.discovering.add(sender)
                if adapter.cure == "new scanner":
                    adapter.cure = None
                adapter.note_scans()
                if not self.answers_scans:
                    return True
            case "StopDiscovery" if sender not in adapter.discovering:
                return Message.new_error(message, "org.bluez.Error.Failed", "No discovery started")
            case "StopDiscovery" if not self.answers_scans:
                return True
            case "StopDiscovery":
                adapter.end_discovery(sender)
            case _:
                return None
        adapter.note_scans()
        return Message.new_method_return(message)

    def _on_monitors(self, adapter: _Adapter, message: Message) -> Message | None:
        key = (message.sender or "", str(message.body[0]))
        match message.member:
            case "RegisterMonitor" if key in adapter.roots:
                return Message.new_error(message, "org.bluez.Error.AlreadyExists", "Already Exists")
            case "RegisterMonitor":
                adapter.roots.add(key)
            case "UnregisterMonitor" if key not in adapter.roots:
                return Message.new_error(message, "org.bluez.Error.DoesNotExist", "Does Not Exist")
            case "UnregisterMonitor":
                adapter.roots.discard(key)
                adapter.monitors.pop(key, None)
            case _:
                return None
        adapter.note_scans()
        return Message.new_method_return(message)

    def _on_signal(self, message: Message) -> None:
        if message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if not owner:
                self._scanner_left(name)
        elif message.member == "InterfacesAdded":
            path, interfaces = message.body
            key = (message.sender or "", str(path))
            for adapter in self._adapters.values():
                if key in adapter.roots and _MONITOR in interfaces:
                    patterns = interfaces[_MONITOR]["Patterns"].value
                    adapter.monitors[key] = [(start, kind, bytes(content)) for start, kind, content in patterns]
                    self._activate(*key)
                    adapter.note_scans()

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

    def _scanner_left(self, client: str) -> None:
        for adapter in self._adapters.values():
            adapter.end_discovery(client)
            adapter.roots = {key for key in adapter.roots if key[0] != client}
            adapter.monitors = {key: found for key, found in adapter.monitors.items() if key[0] != client}
            adapter.note_scans()


def full_uuid(key: int | str) -> str:
    """A UUID in full; one of 16 bits on Bluetooth's base."""
    return key if isinstance(key, str) else f"0000{key:04x}-0000-1000-8000-00805f9b34fb"
