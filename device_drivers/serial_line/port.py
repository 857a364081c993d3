"""How a configuration names a serial line: by something that stays the same when it is plugged in again."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

BY_ID = Path("/dev/serial/by-id")
BY_PATH = Path("/dev/serial/by-path")

# The kernel numbers these in the order in which they are plugged in: after a power cut the same name may be another
# sensor, and its readings would be filed under the wrong device. Soldered ports (ttyS0, ttyAMA0) keep their number.
_CHANGING_NAME = re.compile(r"/dev/(?:tty(?:USB|ACM|XRUSB)|rfcomm)[0-9]+")
# A raw TCP port of a serial device server. Not RFC 2217: whoever sets such a server up sets its speed, too.
_SERVER = re.compile(r"socket://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
_USB_IDENTITY = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4}):([\x21-\x7e]{1,126})")


class ListedPort(Protocol):
    """What is needed of an entry of pyserial's `list_ports.comports()`."""

    device: str
    vid: int | None
    pid: int | None
    serial_number: str | None
    product: str | None
    description: str


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """An adapter by its USB vendor and product number and its serial number."""

    vid: int
    pid: int
    serial: str

    def __str__(self) -> str:
        return f"{self.vid:04x}:{self.pid:04x}:{self.serial}"

    def matches(self, listed: Iterable[ListedPort]) -> list[str]:
        """The device paths of all listed ports with this identity."""
        return [
            port.device
            for port in listed
            if (port.vid, port.pid, port.serial_number) == (self.vid, self.pid, self.serial)
        ]


@dataclass(frozen=True, slots=True)
class DeviceServer:
    """A serial line behind a TCP port. Its speed and parity are set in the device server, not by us."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"socket://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial line by a stable path, by the USB identity of its adapter, or by its device server."""

    address: str | UsbIdentity | DeviceServer
    text: str
    """As the configuration has it."""

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, by_id: Path = BY_ID) -> Self:
        """`text`: an absolute path that stays the same, `VID:PID:serial` with hexadecimal VID and PID, or
        `socket://host:port` of a serial device server.

        Raises ValueError, which names what to write instead, for everything else.
        """
        if usb := _USB_IDENTITY.fullmatch(text):
            return cls(UsbIdentity(int(usb[1], 16), int(usb[2], 16), usb[3]), text)
        if text.startswith("socket:"):
            return cls(_server(text), text)
        if not text.startswith("/") or not text.isprintable():
            raise ValueError(
                f"{text!r} is neither an absolute path nor VID:PID:serial nor socket://host:port; "
                f"{describe_links(by_id)}"
            )
        path = os.path.normpath(text)
        if _CHANGING_NAME.fullmatch(path):
            raise ValueError(f"{path} may name another device after the next start; {describe_links(by_id)}")
        return cls(path, text)


def _server(text: str) -> DeviceServer:
    found = _SERVER.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 65_535:
        raise ValueError(f"{text!r} names no device server; write socket://host:port, such as socket://10.0.0.5:4001")
    return DeviceServer(found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class Adapter:
    """A serial line that this machine has now. device: its name until the next start. product: as it calls itself.

    port: what a configuration would write; None where nothing names it lastingly.
    """

    device: str
    product: str
    usb: UsbIdentity | None
    port: str | None


def adapter(listed: ListedPort, by_id: Path = BY_ID, by_path: Path = BY_PATH) -> Adapter:
    """Of a listed port. A link by-id first: it also names which of an adapter's several ports is meant."""
    usb = None
    if listed.vid is not None and listed.pid is not None and listed.serial_number:
        usb = UsbIdentity(listed.vid, listed.pid, listed.serial_number)
    names = [*_links_to(listed.device, by_id), *_links_to(listed.device, by_path)]
    if not names and not _CHANGING_NAME.fullmatch(listed.device):
        names = [listed.device]
    if not names and usb is not None and _USB_IDENTITY.fullmatch(str(usb)):
        names = [str(usb)]
    # pyserial says "n/a" of a port that nothing describes.
    described = "" if listed.description == "n/a" else listed.description
    return Adapter(listed.device, listed.product or described or "", usb, names[0] if names else None)


def _links_to(device: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [str(link) for link in sorted(folder.iterdir()) if os.path.realpath(link) == os.path.realpath(device)]


def describe_links(by_id: Path = BY_ID) -> str:
    """What a person could write into the configuration now, in half a sentence."""
    links = sorted(str(link) for link in by_id.iterdir()) if by_id.is_dir() else []
    if not links:
        return f"write a link from {by_id}; there is none now, so plug the adapter in first"
    return f"write one of the links that exist now: {', '.join(links)}"
