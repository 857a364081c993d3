"""What a scan says of each device that it hears."""

import tomllib

import pytest

from device_drivers.ble.address_kind import AddressKind
from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.options import BleOptions
from device_drivers.ble.recognition import MOST_DEVICES, Recognition, Recognizer, Verdict, driver_lines
from device_drivers.simulator import bthome
from device_drivers.simulator.ble_sensor import BINDKEY, KINDS
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import ADDRESS
from tests.device_drivers.ble.published import Published, published

PROFILES = ProfileSet.load()
NOTHING = ProfileSet([])
VALUES = {"temperature": 21.5, "humidity": 48.0, "battery": 50.0, "voltage": 2.9, "pressure": 1003.0}


def listed(bindkey: bytes | None = None, address: str = ADDRESS) -> BleOptions:
    device = {"address": address, "device": "hall-1", "bindkey": bindkey.hex() if bindkey else None}
    return BleOptions.model_validate({"device": [device]})


def advert(kind: str, number: int = 1, address: str = ADDRESS, *, updated: bool = False) -> Advert:
    one = KINDS[kind]
    encode = one.updated if updated and one.updated else one.encode
    packet = encode({channel: VALUES[channel] for channel in one.channels}, address, number)
    services = {uuid(key): data for key, data in packet.services.items()}
    return Advert(address, one.name or "", -60, services, packet.manufacturers)


@pytest.mark.parametrize("one", published())
def test_every_published_advertisement_is_recognised(one: Published) -> None:
    options = None
    if one.bindkey:
        options = listed(one.bindkey, one.advert.address)
    found = Recognizer(PROFILES, options).hear(one.advert, "public")
    assert found.verdict is Verdict.DECODABLE
    assert found.model
    assert found.profile
    assert found.lines == "" if one.bindkey else found.lines


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_its_lines_are_a_configuration(kind: str) -> None:
    found = Recognizer(PROFILES).hear(advert(kind), "public")
    assert found.verdict is (Verdict.NEEDS_BINDKEY if KINDS[kind].bindkey else Verdict.DECODABLE)
    text = (driver_lines(["hci0", "hci1"]) + found.lines).replace("…", BINDKEY.hex())
    (table,) = tomllib.loads(text)["driver"]
    options = BleOptions.model_validate(table)
    assert options.adapters == ("hci0", "hci1")
    assert options.device[0].address == ADDRESS
    assert options.device[0].key() == KINDS[kind].bindkey
    again = Recognizer(PROFILES, options).hear(advert(kind), "public")
    assert (again.verdict, again.device, again.lines) == (Verdict.DECODABLE, options.device[0].device, "")


def test_what_it_says() -> None:
    found = Recognizer(PROFILES).hear(advert("ruuvi"), "public")
    assert (found.name, found.rssi, found.family, found.model, found.firmware) == (
        "Ruuvi 18B2",
        -60,
        "ruuvi",
        "RuuviTag",
        "5",
    )
    assert (found.profile, found.address_kind) == ("ruuvi-ruuvitag/1", AddressKind.PUBLIC)
    assert found.values["temperature"] == 21.5
    assert 'device = "ruuvitag-18b2"' in found.lines


def test_why_not() -> None:
    recognizer = Recognizer(PROFILES)
    phone = Advert("5A:00:00:00:00:01", "", -80, {}, {0x004C: b"\x10\x05"})
    found = recognizer.hear(phone, "random")
    assert (found.verdict, found.family, found.lines) == (Verdict.NO_PARSER, "", "")
    assert recognizer.hear(advert("bthome", address="5A:00:00:00:00:02"), "random").verdict is Verdict.ROTATING
    assert Recognizer(NOTHING).hear(advert("govee"), "public").verdict is Verdict.NO_PROFILE
    for kind in ("bthome", "xiaomi", "ruuvi"):
        found = Recognizer(PROFILES).hear(advert(kind, updated=True), "public")
        assert found.verdict is Verdict.UNKNOWN_MODEL
        assert found.model or found.firmware
        assert found.lines
    silent = Advert(ADDRESS, "GVH5075_18B2", -60, {}, {}, (uuid(0xEC88),))
    assert Recognizer(PROFILES).hear(silent, "public").verdict is Verdict.SILENT
    damaged = Advert(ADDRESS, "", -60, {uuid(bthome.SERVICE): b"\x40"}, {})
    assert Recognizer(PROFILES).hear(damaged, "public").verdict is Verdict.DAMAGED
    assert Recognizer(PROFILES, listed(BINDKEY)).hear(advert("bthome"), "public").verdict is Verdict.NEEDS_NO_BINDKEY
    assert Recognizer(PROFILES, listed(BINDKEY)).hear(advert("govee"), "public").verdict is Verdict.NEEDS_NO_BINDKEY


@pytest.mark.parametrize("kind", [kind for kind in sorted(KINDS) if KINDS[kind].bindkey])
def test_a_wrong_bindkey_is_said_once_it_is_sure(kind: str) -> None:
    recognizer = Recognizer(PROFILES, listed(bytes(16)))
    verdicts = [recognizer.hear(advert(kind, number), "public").verdict for number in (1, 1, 2, 3, 3)]
    assert verdicts == [Verdict.DAMAGED] * 3 + [Verdict.WRONG_BINDKEY] * 2


def test_a_listed_device_may_have_whatever_address() -> None:
    options = listed(address="5A:00:00:00:00:02")
    found = Recognizer(PROFILES, options).hear(advert("bthome", address="5A:00:00:00:00:02"), "random")
    assert (found.verdict, found.device) == (Verdict.DECODABLE, "hall-1")


def test_what_was_found_out_is_not_forgotten() -> None:
    recognizer = Recognizer(PROFILES)
    recognizer.hear(advert("ruuvi"), "public")
    found: Recognition = recognizer.hear(Advert(ADDRESS, "", -90, {}, {0x004C: b"\x02"}), "public")
    assert (found.verdict, found.name, found.rssi) == (Verdict.DECODABLE, "Ruuvi 18B2", -90)
    assert found.values["temperature"] == 21.5


def test_a_street_of_phones_is_bounded() -> None:
    recognizer = Recognizer(PROFILES)
    for number in range(MOST_DEVICES + 10):
        recognizer.hear(Advert(f"5A:00:00:00:{number >> 8:02X}:{number & 255:02X}", "", -80, {}, {}), "random")
    assert len(recognizer._met) == MOST_DEVICES
