"""What a profile may say of a device that is read over GATT."""

from pathlib import Path

import pytest

from firmware_profiles.errors import ProfileError
from firmware_profiles.gatt import Gatt, full_uuid
from tests.firmware_profiles.written import SOURCE, load

GOOD = f"""
name = "thing/1"
models = ["Thing"]
manufacturer = "Somebody"
driver = "gatt"
{SOURCE}

[gatt]
begin = [{{ uuid = "F000AA01-0451-4000-B000-000000000000", value = "01 FF" }}]

[channels.temperature]
quantity = "temperature"
unit = "Cel"
minimum = -40
maximum = 85
characteristic = {{ uuid = "2A6E", type = "int16", not_known = [0x8000] }}

[channels.second]
quantity = "temperature"
unit = "Cel"
minimum = -40
maximum = 85
characteristic = {{ uuid = "2a6e", offset = 2, type = "int16" }}
"""


def test_a_good_profile(tmp_path: Path) -> None:
    (profile,) = load(tmp_path, GOOD)
    assert isinstance(profile.gatt, Gatt)
    (write,) = profile.gatt.begin
    assert (write.uuid, write.value) == ("f000aa01-0451-4000-b000-000000000000", "01ff")
    place = profile.channels["temperature"].characteristic
    assert place is not None
    assert (place.uuid, place.end) == ("00002a6e-0000-1000-8000-00805f9b34fb", 2)
    assert (place.byte_order, place.not_known, place.notify) == ("little", (0x8000,), False)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('uuid = "2A6E"', 'uuid = "2A6"', "channels.temperature.characteristic.uuid", "four hexadecimal digits"),
        ('uuid = "2A6E"', 'uuid = "0x2A6E"', "channels.temperature.characteristic.uuid", "four hexadecimal digits"),
        ("offset = 2", "offset = 511", "channels.second.characteristic", "at most 512 bytes"),
        ("offset = 2", "offset = -1", "channels.second.characteristic.offset", "must be at least 0"),
        ("offset = 2", "ofset = 2", "channels.second.characteristic.ofset", "unknown key"),
        (
            "offset = 2",
            "offset = 2, notify = true",
            "channels.second.characteristic.notify",
            "another channel of this characteristic",
        ),
        ('type = "int16", not', 'type = "int12", not', "channels.temperature.characteristic.type", "int16"),
        ("0x8000", "-32768", "channels.temperature.characteristic", "a number from 0 to 0xffff"),
        ("0x8000", "0x10000", "channels.temperature.characteristic", "a number from 0 to 0xffff"),
        ("01 FF", "1 F", "gatt.begin[0].value", "pairs of hexadecimal digits"),
        ("01 FF", "", "gatt.begin[0].value", "at least one byte"),
        ("[gatt]\nbegin", "#", "gatt", "write a table [gatt]"),
        ("[gatt]", "[modbus]\n[gatt]", "channels.temperature.register", "is missing"),
        (
            'characteristic = { uuid = "2a6e", offset = 2, type = "int16" }',
            "",
            "channels.second.characteristic",
            "is missing",
        ),
    ],
)
def test_a_fault_is_named(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as refusal:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert refusal.value.file == "thing.toml"
    assert refusal.value.key.startswith(key)
    assert says in refusal.value.remedy


def test_a_short_uuid_stands_for_a_long_one() -> None:
    assert full_uuid("180F") == full_uuid("0000180F-0000-1000-8000-00805F9B34FB")
