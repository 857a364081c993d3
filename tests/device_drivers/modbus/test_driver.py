"""What a line with several units is told before it is opened, and how often a silent one is asked."""

import pytest

from device_drivers.modbus.driver import _Unit, open_modbus
from device_drivers.modbus.options import ModbusDeviceOptions, ModbusOptions
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet


def test_a_model_without_registers_is_refused_by_name() -> None:
    devices = [{"unit": 1, "device": "hall", "model": "PMS5003"}]
    options = ModbusOptions.model_validate({"kind": "modbus", "port": "/dev/ttyS9", "device": devices})
    with pytest.raises(ProfileError, match="PMS5003: no profile with registers knows it; there are those of SCD30"):
        open_modbus(options, ProfileSet.load(), lambda: 0)


def test_profiles_of_one_model_that_ask_for_its_version_in_two_places_are_refused() -> None:
    def of(name: str, low: str, high: str, address: int) -> tuple[str, FirmwareProfile]:
        channel = {"quantity": "co2", "unit": "[ppm]", "minimum": 0, "maximum": 1, "register": {"address": 0}}
        table = {"name": name, "models": ["X"], "manufacturer": "x", "driver": "modbus", "channels": {"co2": channel}}
        version = {"version": {"address": address}}
        return name, FirmwareProfile.model_validate(
            {
                **table,
                "firmware": f">={low},<{high}",
                "sources": {"test": {"title": "made up", "document": "this test"}},
                "modbus": version,
            }
        )

    profiles = ProfileSet([of("a/1", "1", "2", 8), of("b/1", "2", "3", 9)])
    unit = ModbusDeviceOptions(unit=1, device="d", model="X")
    with pytest.raises(ProfileError, match=r"X: modbus\.version: its profiles name different registers"):
        _Unit(unit, profiles)
    _Unit(ModbusDeviceOptions(unit=1, device="d", model="X", firmware="1.5"), profiles)


def test_a_silent_unit_is_asked_less_and_less_often() -> None:
    unit = _Unit(ModbusDeviceOptions(unit=1, device="d", model="XY-MD02", interval_s=2), ProfileSet.load())
    waits = []
    for unanswered in (0, 1, 2, 3, 4, 5, 6, 7, 8, 100):
        unit.unanswered = unanswered
        waits.append(unit.next_s(0.0))
    assert waits == [2, 2, 2, 4, 8, 16, 32, 60, 60, 60]
