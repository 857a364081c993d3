"""One advertisement, and its bytes as they are kept where nobody can decode them yet."""

from collections.abc import Mapping
from typing import NamedTuple

from device_drivers.errors import ProtocolError

_BASE = "-0000-1000-8000-00805f9b34fb"

# AD types: Bluetooth SIG, Assigned Numbers, 2.3; their layout: Core Specification Supplement, part A.
_UUIDS_16, _UUIDS_128 = 0x03, 0x07
_NAME = 0x09
_SERVICE_16, _SERVICE_32, _SERVICE_128 = 0x16, 0x20, 0x21
_MANUFACTURER = 0xFF

# The length byte counts the type, too.
_MOST_IN_STRUCTURE = 254


class Advert(NamedTuple):
    """What a radio heard of one device, as BlueZ gathers it from advertisement and scan response.

    name: the local name, empty where none was sent. rssi: dBm. services: service data by UUID, in full and lower
    case. manufacturers: manufacturer data by company. uuids: of services that it only lists. adapter: who heard it.
    taken_at_us: microseconds of this boot's monotonic clock.
    """

    address: str
    name: str
    rssi: int
    services: Mapping[str, bytes]
    manufacturers: Mapping[int, bytes]
    uuids: tuple[str, ...] = ()
    adapter: str = ""
    taken_at_us: int = 0


def uuid(short: int) -> str:
    """A 16-bit UUID in full, on Bluetooth's base."""
    return f"0000{short:04x}{_BASE}"


def frame(advert: Advert) -> bytes:
    """Name, service UUIDs, service data and manufacturer data as AD structures, which is what is on the air.

    Length, type and content each; what a structure cannot hold (beyond 253 bytes of content) is cut off. `parse`
    undoes it, so that what was kept can be decoded later.
    """
    parts = [(_NAME, advert.name.encode())] if advert.name else []
    for text in advert.uuids:
        kind, number = _number(text)
        parts.append((_UUIDS_128 if kind == _SERVICE_128 else _UUIDS_16, number))
    for text, data in advert.services.items():
        kind, number = _number(text)
        parts.append((kind, number + data))
    parts += [(_MANUFACTURER, company.to_bytes(2, "little") + data) for company, data in advert.manufacturers.items()]
    cut = [(kind, content[: _MOST_IN_STRUCTURE - 1]) for kind, content in parts]
    return b"".join(bytes([1 + len(content), kind]) + content for kind, content in cut)


def parse(address: str, data: bytes, taken_at_us: int = 0) -> Advert:
    """The advertisement of a `frame`, its strength unknown (0). Raises ProtocolError where the bytes are none."""
    name = ""
    uuids: list[str] = []
    services: dict[str, bytes] = {}
    manufacturers: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if data[at] == 0 or end > len(data):
            raise ProtocolError(f"AD structure at byte {at} says {data[at]} bytes, {len(data) - at - 1} follow")
        kind, content = data[at + 1], data[at + 2 : end]
        at = end
        match kind:
            case 0x09:
                name = content.decode(errors="replace")
            case 0x03 | 0x07:
                uuids.append(_text(content))
            case 0x16 | 0x20 | 0x21:
                size = {_SERVICE_16: 2, _SERVICE_32: 4, _SERVICE_128: 16}[kind]
                services[_text(content[:size])] = content[size:]
            case 0xFF if len(content) >= 2:
                manufacturers[int.from_bytes(content[:2], "little")] = content[2:]
            case _:
                raise ProtocolError(f"AD type 0x{kind:02x} of {len(content)} bytes is none that is kept")
    return Advert(address, name, 0, services, manufacturers, tuple(uuids), "", taken_at_us)


def _number(text: str) -> tuple[int, bytes]:
    """The UUID in the fewest bytes that hold it, and the type of service data with one of that size."""
    plain = text.replace("-", "").lower()
    number = bytes.fromhex(plain)[::-1]
    if not text.endswith(_BASE):
        return _SERVICE_128, number
    return (_SERVICE_16, number[12:14]) if plain.startswith("0000") else (_SERVICE_32, number[12:16])


def _text(number: bytes) -> str:
    if len(number) in (2, 4):
        return f"{int.from_bytes(number, 'little'):08x}{_BASE}"
    if len(number) != 16:
        raise ProtocolError(f"a UUID of {len(number)} bytes")
    plain = number[::-1].hex()
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"
