"""The GATT server of an emulated device, as BlueZ shows it to those who connect.

D-Bus interfaces: https://github.com/bluez/bluez/tree/master/doc (org.bluez.Device, org.bluez.GattCharacteristic).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dbus_fast import Message, Variant

Properties = dict[str, Variant]
Emit = Callable[[str, str, str, str, list[object]], None]
"""Sends a signal: path, interface, member, signature, body."""

_DEVICE = "org.bluez.Device1"
_SERVICE = "org.bluez.GattService1"
_CHARACTERISTIC = "org.bluez.GattCharacteristic1"
_OBJECTS = "org.freedesktop.DBus.ObjectManager"
_PROPERTIES = "org.freedesktop.DBus.Properties"

READ = ("read",)
READ_NOTIFY = ("read", "notify")


@dataclass(eq=False, slots=True)
class EmulatedCharacteristic:
    """written: what it was told, in order. refuses: an error of BlueZ by which it answers each request."""

    path: str
    service: str
    uuid: str
    value: bytes
    flags: Sequence[str]
    written: list[bytes]
    notifying: bool = False
    refuses: str = ""


class EmulatedGatt:
    """Services of one device. `answers` False: it is heard, and neither connects nor replies, as one at the edge of
    range does."""

    def __init__(self, path: str, emit: Emit) -> None:
        """path: the device's object."""
        self.answers = True
        self.connected = False
        self.connections = 0
        """How often somebody connected."""
        self._path = path
        self._emit = emit
        self._services: dict[str, str] = {}
        self._characteristics: dict[str, EmulatedCharacteristic] = {}

    def service(self, uuid: str) -> str:
        """Adds one; its path. uuid: in full."""
        path = f"{self._path}/service{0x10 + 0x20 * len(self._services):04x}"
        self._services[path] = uuid
        return path

    def characteristic(
        self, service: str, uuid: str, value: bytes, flags: Sequence[str] = READ
    ) -> EmulatedCharacteristic:
        """Adds one to the service of that path."""
        before = sum(other.service == service for other in self._characteristics.values())
        path = f"{service}/char{int(service[-4:], 16) + 1 + 3 * before:04x}"
        added = EmulatedCharacteristic(path, service, uuid, value, flags, [])
        self._characteristics[path] = added
        return added

    def set_value(self, characteristic: EmulatedCharacteristic, value: bytes) -> bool:
        """What it says from now on; whether somebody was told."""
        characteristic.value = value
        if not (self.connected and characteristic.notifying):
            return False
        self._changed(characteristic.path, _CHARACTERISTIC, {"Value": Variant("ay", value)})
        return True

    def drop(self) -> None:
        """The link is lost, or was ended."""
        if not self.connected:
            return
        self.connected = False
        for path, interfaces in reversed(list(self.objects())):
            self._emit("/", _OBJECTS, "InterfacesRemoved", "oas", [path, list(interfaces)])
        for characteristic in self._characteristics.values():
            characteristic.notifying = False
        self._changed(self._path, _DEVICE, self.properties())

    def properties(self) -> Properties:
        """Of the device, as far as it is a matter of the connection."""
        return {"Connected": Variant("b", self.connected), "ServicesResolved": Variant("b", self.connected)}

    def objects(self) -> Iterator[tuple[str, dict[str, Properties]]]:
        """What BlueZ shows while somebody is connected."""
        for path, uuid in self._services.items():
            yield (
                path,
                {
                    _SERVICE: {
                        "UUID": Variant("s", uuid),
                        "Device": Variant("o", self._path),
                        "Primary": Variant("b", True),
                    }
                },
            )
        for path, characteristic in self._characteristics.items():
            yield (
                path,
                {
                    _CHARACTERISTIC: {
                        "UUID": Variant("s", characteristic.uuid),
                        "Service": Variant("o", characteristic.service),
                        "Value": Variant("ay", b""),
                        "Notifying": Variant("b", characteristic.notifying),
                        "Flags": Variant("as", list(characteristic.flags)),
                        "MTU": Variant("q", 247),
                    }
                },
            )

    def call(self, message: Message) -> Message | bool | None:
        """Answers what concerns this device: True for "never", None for somebody else's."""
        characteristic = self._characteristics.get(message.path or "")
        if message.interface == _DEVICE and message.path == self._path:
            match message.member:
                case "Connect" | "Disconnect" if not self.answers:
                    return True
                case "Connect":
                    self._connect()
                case "Disconnect":
                    self.drop()
                case _:
                    return None
            return Message.new_method_return(message)
        if message.interface != _CHARACTERISTIC or characteristic is None:
            return None
        if not self.answers:
            return True
        if not self.connected:
            return Message.new_error(message, "org.bluez.Error.Failed", "Not connected")
        if characteristic.refuses:
            return Message.new_error(message, characteristic.refuses, "Read not permitted")
        match message.member:
            case "ReadValue":
                return Message.new_method_return(message, "ay", [characteristic.value])
            case "WriteValue":
                characteristic.written.append(bytes(message.body[0]))
            case "StartNotify":
                characteristic.notifying = True
            case "StopNotify":
                characteristic.notifying = False
            case _:
                return None
        return Message.new_method_return(message)

    def _connect(self) -> None:
        self.connected = True
        self.connections += 1
        for path, interfaces in self.objects():
            self._emit("/", _OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])
        self._changed(self._path, _DEVICE, self.properties())

    def _changed(self, path: str, interface: str, properties: Properties) -> None:
        self._emit(path, _PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, properties, []])
