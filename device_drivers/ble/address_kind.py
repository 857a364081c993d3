"""Which Bluetooth addresses name a device for good.

Core Specification, volume 6, part B, 1.3: a public address is the device's for life; of random ones, static addresses
(two highest bits 11) stay until it loses its power, and private ones, resolvable (01) or not (00), change every few
minutes, so that nobody may follow a phone. As if each were a new device, passers-by would fill a database.
"""

from enum import Enum


class AddressKind(Enum):
    """The text is for people."""

    PUBLIC = "public"
    STATIC = "random, static"
    RESOLVABLE = "random, resolvable (changes every few minutes)"
    NON_RESOLVABLE = "random, non-resolvable (changes every few minutes)"
    RESERVED = "random, of a kind that the specification reserves"

    @property
    def stable(self) -> bool:
        return self in (AddressKind.PUBLIC, AddressKind.STATIC)


_RANDOM = (AddressKind.NON_RESOLVABLE, AddressKind.RESOLVABLE, AddressKind.RESERVED, AddressKind.STATIC)


def address_kind(address: str, address_type: str) -> AddressKind:
    """address: `A4:C1:38:8D:18:B2`. address_type: as BlueZ tells it in `AddressType`, `public` or `random`."""
    if address_type == "public":
        return AddressKind.PUBLIC
    return _RANDOM[int(address[:2], 16) >> 6]
