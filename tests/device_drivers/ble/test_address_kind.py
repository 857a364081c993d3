"""Which addresses stay, and how many strangers may come."""

import pytest

from device_drivers.ble.address_kind import AddressKind, address_kind
from device_drivers.ble.newcomers import MOST_IN_AN_HOUR, Newcomers

HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("address", "type_", "kind", "stable"),
    [
        ("A4:C1:38:8D:18:B2", "public", AddressKind.PUBLIC, True),
        ("5A:C1:38:8D:18:B2", "public", AddressKind.PUBLIC, True),
        ("C4:35:33:33:77:38", "random", AddressKind.STATIC, True),
        ("FF:35:33:33:77:38", "random", AddressKind.STATIC, True),
        ("7F:35:33:33:77:38", "random", AddressKind.RESOLVABLE, False),
        ("40:35:33:33:77:38", "random", AddressKind.RESOLVABLE, False),
        ("3F:35:33:33:77:38", "random", AddressKind.NON_RESOLVABLE, False),
        ("A4:C1:38:8D:18:B2", "random", AddressKind.RESERVED, False),
        ("5A:C1:38:8D:18:B2", "", AddressKind.RESOLVABLE, False),
    ],
)
def test_kinds(address: str, type_: str, kind: AddressKind, stable: bool) -> None:
    assert address_kind(address, type_) is kind
    assert kind.stable is stable


def test_so_many_in_an_hour() -> None:
    newcomers = Newcomers()
    assert all(newcomers.admits(n) for n in range(MOST_IN_AN_HOUR))
    assert not newcomers.admits(HOUR_US - 1)
    assert newcomers.admits(HOUR_US)
    assert newcomers.admits(HOUR_US + 1)
    assert not newcomers.admits(HOUR_US + 1)
