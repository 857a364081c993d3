"""Numbers in values: the specifications' examples, both byte orders, and what is no number."""

import math
import struct
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.gatt.values import number
from device_drivers.errors import ProtocolError
from device_drivers.simulator import environmental_sensing
from firmware_profiles.gatt import SIZES, Characteristic, NumberType
from firmware_profiles.selection import ProfileSet


def place(type_: str, **more: Any) -> Characteristic:
    return Characteristic.model_validate({"uuid": "2a6e", "type": type_, **more})


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("int8", "ff", -1),
        ("uint8", "ff", 255),
        ("int16", "2e09", 2350),
        ("int16", "18fc", -1000),
        ("uint16", "ffff", 65535),
        ("int24", "ffffff", -1),
        ("uint24", "010203", 0x030201),
        ("int32", "00000080", -(2**31)),
        ("uint32", "00000080", 2**31),
        ("float32", "0000c03f", 1.5),
        ("float64", "000000000000f83f", 1.5),
        # IEEE 11073-20601: 0x72 × 10⁻¹ and 0x016C × 10⁻¹, as in the Health Thermometer's examples.
        ("medfloat16", "72f0", 11.4),
        ("medfloat32", "6c0100ff", 36.4),
        ("medfloat16", "0280", 2e-8),
        ("medfloat16", "fe0f", -2),
    ],
)
def test_known_numbers(type_: str, value: str, expected: float) -> None:
    data = bytes.fromhex(value)
    assert number(place(type_), data) == expected
    big = place(type_, byte_order="big", offset=2)
    assert number(big, b"\xaa\xbb" + data[::-1] + b"\xcc") == expected


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("medfloat16", 0x07FF), ("medfloat16", 0x0800), ("medfloat16", 0x07FE), ("medfloat16", 0x0802),
        ("medfloat16", 0x0801), ("medfloat32", 0x007FFFFF), ("medfloat32", 0x00800000), ("float32", 0x7F800000),
        ("float32", 0x7FC00000), ("float64", 0x7FF8000000000000), ("float64", 0xFFF0000000000000),
    ],
)  # fmt: skip
def test_what_is_no_number_is_not_known(type_: str, value: int) -> None:
    assert number(place(type_), value.to_bytes(SIZES[type_], "little")) is None


def test_a_pattern_that_says_not_known() -> None:
    where = place("int16", not_known=[0x8000])
    assert number(where, b"\x00\x80") is None
    assert number(where, b"\x01\x80") == -32767
    assert number(place("int16"), b"\x00\x80") == -32768


def test_a_short_value_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"2 bytes of characteristic 00002a6e-.* wants 4"):
        number(place("uint16", offset=2), b"\x01\x02")


@given(type_=st.sampled_from(get_args(NumberType)), order=st.sampled_from(["little", "big"]), data=st.binary())
def test_bytes_give_a_finite_number_or_none_or_are_refused(type_: str, order: str, data: bytes) -> None:
    where = place(type_, byte_order=order)
    if len(data) < SIZES[type_]:
        with pytest.raises(ProtocolError):
            number(where, data)
    else:
        found = number(where, data)
        assert found is None or math.isfinite(found)


@given(st.integers(-(2**31), 2**31 - 1))
def test_integers_are_what_struct_packs(value: int) -> None:
    assert number(place("int32"), struct.pack("<i", value)) == value
    assert number(place("int32", byte_order="big"), struct.pack(">i", value)) == value


@pytest.mark.parametrize(
    ("channel", "value"),
    [
        ("temperature", -12.34), ("humidity", 45.67), ("pressure", 1013.2), ("illuminance", 1234.5),
        ("carbon_dioxide", 650), ("volatile_organic_compounds", 120), ("battery", 87),
    ],
)  # fmt: skip
def test_what_the_simulator_encodes_is_decoded(channel: str, value: float) -> None:
    profile = ProfileSet.load().select("Environmental Sensing", "")
    assert profile is not None
    meaning = profile.channels[channel]
    assert meaning.characteristic is not None
    raw = number(meaning.characteristic, environmental_sensing.encode(channel, value))
    assert raw is not None
    assert meaning.value(raw) == pytest.approx(value)
    if meaning.characteristic.not_known:
        assert number(meaning.characteristic, environmental_sensing.encode(channel, None)) is None
