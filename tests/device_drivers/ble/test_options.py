"""What an operator may write about a radio, and what is refused with a reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from device_drivers.ble.options import BleOptions

SENSOR = {"address": "a4:c1:38:8d:18:b2", "device": "hall-1"}
KEY = "231d39c1d7cc1ab1aee224cd096db932"


def test_defaults_and_spelling() -> None:
    options = BleOptions.model_validate({"device": [{**SENSOR, "bindkey": KEY.upper()}]})
    assert (options.adapters, options.mode, options.silence_s) == (("hci0",), "active", 60)
    (device,) = options.device
    assert device.address == "A4:C1:38:8D:18:B2"
    assert (device.model, device.firmware, device.key()) == (None, None, bytes.fromhex(KEY))


def test_a_bindkey_is_not_printed() -> None:
    options = BleOptions.model_validate({"device": [{**SENSOR, "bindkey": KEY}]})
    assert KEY not in repr(options)
    assert KEY not in options.model_dump_json()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "list at least one"),
        ({"device": [SENSOR], "adapter": "hci1"}, "adapter"),
        ({"device": [SENSOR], "adapters": ["/org/bluez/hci0"]}, "adapters"),
        ({"device": [SENSOR], "adapters": []}, "adapters"),
        ({"device": [SENSOR], "adapters": ["hci0", "hci0"]}, "listed twice"),
        ({"accept": ["bthome", "bluetooth"]}, "write one of bthome, xiaomi"),
        ({"device": [SENSOR], "silence_s": 3}, "silence_s"),
        ({"device": [SENSOR], "silence_s": float("nan")}, "silence_s"),
        ({"device": [SENSOR], "mode": "promiscuous"}, "mode"),
        ({"device": [SENSOR, {**SENSOR, "device": "hall-2"}]}, "listed twice"),
        ({"device": [SENSOR, {**SENSOR, "address": "A4:C1:38:8D:18:B3"}]}, "listed twice"),
        ({"device": [{**SENSOR, "address": "A4-C1-38-8D-18-B2"}]}, "with colons"),
        ({"device": [{**SENSOR, "device": "hall\n1"}]}, "control characters"),
        ({"device": [{**SENSOR, "device": ""}]}, "must be a name"),
        ({"device": [{**SENSOR, "device": "로비" * 22}]}, "128 bytes"),
        ({"device": [{**SENSOR, "bindkey": KEY[:-1]}]}, "32 hexadecimal digits"),
        ({"device": [{**SENSOR, "firmware": "two"}]}, "firmware"),
    ],
)
def test_refused(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BleOptions.model_validate(table)


def test_a_radio_without_a_list_has_to_be_asked_for() -> None:
    assert BleOptions.model_validate({"accept": ["bthome", "ruuvi"]}).device == ()
