"""What an operator may write about sensors that are read over GATT, and what is refused with a reason."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from device_drivers.ble.gatt.options import GattOptions
from device_drivers.ble.gatt.presence import presence

SENSOR = {"address": "d0:00:00:00:00:01", "device": "hall-1"}


def test_defaults_and_spelling() -> None:
    options = GattOptions.model_validate({"kind": "gatt", "device": [SENSOR]})
    assert (options.adapter, options.max_connections) == ("hci0", 3)
    (device,) = options.device
    assert (device.address, device.model) == ("D0:00:00:00:00:01", "Environmental Sensing")
    assert (device.firmware, device.interval_s) == ("", 60)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "device"),
        ({"device": []}, "at least 1 item"),
        ({"device": [SENSOR], "max_connections": 0}, "max_connections"),
        ({"device": [SENSOR], "adapter": "/org/bluez/hci0"}, "adapter"),
        ({"device": [{**SENSOR, "interval_s": 0.5}]}, "interval_s"),
        ({"device": [{**SENSOR, "address": "D0-00-00-00-00-01"}]}, "with colons"),
        ({"device": [{**SENSOR, "device": "hall\n1"}]}, "control characters"),
        ({"device": [{**SENSOR, "bindkey": "00"}]}, "bindkey"),
        ({"device": [SENSOR, {**SENSOR, "device": "hall-2"}]}, "address 'D0:00:00:00:00:01' is listed twice"),
        ({"device": [SENSOR, {**SENSOR, "address": "D0:00:00:00:00:02"}]}, "device 'hall-1' is listed twice"),
    ],
)
def test_refused(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GattOptions.model_validate({"kind": "gatt", **table})


def test_presence_looks_for_the_adapter(tmp_path: Path) -> None:
    options = GattOptions.model_validate({"kind": "gatt", "device": [SENSOR]})
    assert presence(options, tmp_path / "none").faults == ("no Bluetooth adapter hci0; there is none",)
    (tmp_path / "hci1").touch()
    assert presence(options, tmp_path).faults == ("no Bluetooth adapter hci0; there is hci1",)
    (tmp_path / "hci0").touch()
    found = presence(options, tmp_path)
    assert (found.found, found.faults, [d.device for d in found.devices]) == (True, (), ["hall-1"])
