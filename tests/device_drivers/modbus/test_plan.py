"""The fewest requests for a profile's registers, and what their replies say."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from device_drivers.modbus.plan import reads_of
from firmware_profiles.modbus import WIDTHS
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet


def profile(registers: dict[str, dict[str, Any]], **modbus: Any) -> FirmwareProfile:
    channels = {
        name: {"quantity": name, "unit": "1", "minimum": -1e9, "maximum": 1e9, "register": register}
        for name, register in registers.items()
    }
    sources = {"test": {"title": "made up", "document": "this test"}}
    table = {
        "name": "p/1",
        "models": ["m"],
        "manufacturer": "x",
        "driver": "modbus",
        "modbus": modbus,
        "sources": sources,
    }
    return FirmwareProfile.model_validate({**table, "channels": channels})


def spans(of: FirmwareProfile) -> list[tuple[int, int, int]]:
    return [(read.function, read.address, read.count) for read in reads_of(of)]


def test_the_profiles_that_are_brought() -> None:
    profiles = ProfileSet.load()
    climate, carbon = profiles.select("XY-MD02", ""), profiles.select("SCD30", "")
    assert climate is not None
    assert carbon is not None
    assert spans(climate) == [(4, 1, 2)]
    assert spans(carbon) == [(3, 0x28, 6)]
    (read,) = reads_of(climate)
    assert read.values(bytes.fromhex("01310222")) == {"temperature": 305, "humidity": 546}
    (read,) = reads_of(carbon)
    said = read.values(bytes.fromhex("43db8c2e41d9e7ff42433a1b"))
    assert said == pytest.approx({"carbon_dioxide": 439.10, "temperature": 27.24, "humidity": 48.81}, abs=0.01)


def test_registers_are_read_together_as_far_as_may_be() -> None:
    apart: dict[str, dict[str, Any]] = {
        "a": {"address": 0},
        "b": {"address": 1},
        "c": {"address": 4},
        "d": {"table": "input", "address": 2},
    }
    assert spans(profile(apart)) == [(3, 0, 2), (3, 4, 1), (4, 2, 1)]
    assert spans(profile(apart, most_gap=2)) == [(3, 0, 5), (4, 2, 1)]
    assert spans(profile(apart, most_gap=2, most_registers=4)) == [(3, 0, 2), (3, 4, 1), (4, 2, 1)]


def test_both_halves_of_a_number_in_either_order() -> None:
    of = profile(
        {
            "high": {"address": 0, "type": "float32"},
            "low": {"address": 2, "type": "float32", "words": "low_first"},
            "signed": {"address": 4, "type": "int32"},
        }
    )
    (read,) = reads_of(of)
    number = struct.pack(">f", 21.5)
    said = read.values(number + number[2:] + number[:2] + struct.pack(">i", -7))
    assert said == {"high": 21.5, "low": 21.5, "signed": -7}


REGISTERS = st.dictionaries(
    st.sampled_from("abcdefghij"),
    st.fixed_dictionaries(
        {
            "address": st.integers(0, 60),
            "type": st.sampled_from(sorted(WIDTHS.keys() - {"bit"})),
            "table": st.sampled_from(["holding", "input"]),
            "words": st.sampled_from(["high_first", "low_first"]),
        }
    ),
    min_size=1,
).filter(lambda found: len({(r["table"], r["address"]) for r in found.values()}) == len(found))


@given(REGISTERS, st.integers(0, 8), st.integers(4, 20))
def test_every_channel_is_read_once_within_bounds(
    registers: dict[str, dict[str, Any]], most_gap: int, most_registers: int
) -> None:
    reads = reads_of(profile(registers, most_gap=most_gap, most_registers=most_registers))
    assert sorted(name for read in reads for name in read.channels) == sorted(registers)
    for read in reads:
        assert read.count <= most_registers
        for register in read.channels.values():
            assert read.address <= register.address
            assert register.address + register.width <= read.address + read.count
        assert read.values(bytes(2 * read.count)) == dict.fromkeys(read.channels, 0.0)


@pytest.mark.parametrize(
    ("registers", "modbus", "why"),
    [
        ({"a": {"address": 65535, "type": "int32"}}, {}, "does not end within the table"),
        ({"a": {"address": 70000}}, {}, "less than or equal to 65535"),
        ({"a": {"address": 0, "type": "int128"}}, {}, "'int16', 'uint16'"),
        ({"a": {"address": 65533, "type": "float64"}}, {}, "does not end within the table"),
        ({"a": {"address": 0, "type": "bit"}}, {}, "which bit of the register"),
        ({"a": {"address": 0, "bit": 3}}, {}, "which bit of the register"),
        ({"a": {"address": 0, "type": "bit", "bit": 16}}, {}, "less than or equal to 15"),
        ({"a": {"address": 0, "table": "coil"}}, {}, "a table of coils holds bits"),
        ({"a": {"address": 0, "table": "discrete", "type": "bit", "bit": 1}}, {}, "holds bits"),
        ({"a": {"address": 0, "type": "float32"}}, {"most_registers": 1}, "channels.a needs 2 at once"),
        ({"a": {"address": 0, "order": "big"}}, {}, "Extra inputs"),
        ({"a": {"address": 0}}, {"most_registers": 126}, "less than or equal to 125"),
    ],
)
def test_registers_that_cannot_be(registers: dict[str, dict[str, Any]], modbus: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        profile(registers, **modbus)
