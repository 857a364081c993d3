"""What a survey holds, however long somebody watches."""

import pytest
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers.ble import survey
from device_drivers.ble.recognition import Recognizer
from device_drivers.ble.survey import Survey
from firmware_profiles.selection import ProfileSet


def test_who_was_not_heard_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones change their address every few minutes."""
    monkeypatch.setattr(survey, "MOST_DEVICES", 3)
    found = Survey(Recognizer(ProfileSet.load()), lambda: 0)
    for n in (0, 1, 2, 0, 3, 4):
        device = BLEDevice(f"4A:00:00:00:00:0{n}", None, {"props": {"AddressType": "random"}})
        found.hear("hci0", device, AdvertisementData(None, {}, {}, [], None, -60, ()))
    assert [address[-1] for address in found.devices] == ["0", "3", "4"]
    assert found.heard_by.keys() == found.devices.keys()
