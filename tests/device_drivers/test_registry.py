"""The registry: what a configuration may say, checked without a hardware library."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from device_drivers.registry import DRIVER_KINDS, open_driver, parse_options
from device_drivers.serial_line.options import Pms5003Options
from firmware_profiles.selection import ProfileSet

PMS = {"kind": "pms5003", "device": "lobby-air", "port": "/dev/serial/by-id/usb-x"}


def _error(table: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as refusal:
        parse_options(table)
    return str(refusal.value)


def test_a_device_with_its_defaults() -> None:
    options = parse_options(PMS)
    assert isinstance(options, Pms5003Options)
    assert (options.model, options.firmware, options.zone, options.silence_s) == ("PMS5003", "", "", 10.0)
    assert options.model_dump() == {**PMS, "model": "PMS5003", "firmware": "", "zone": "", "silence_s": 10.0}
    with pytest.raises(ValidationError):
        options.device = "other"


def test_each_kind_is_called_by_its_name() -> None:
    for kind, entry in DRIVER_KINDS.items():
        assert entry.options.model_fields["kind"].annotation is not None
        assert kind in str(entry.options.model_fields["kind"].annotation)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    message = _error({**PMS, "kind": "pms9003"})
    assert "pms9003" in message
    assert "'pms5003', 'ble'" in message


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("prot", "/dev/x", "Extra inputs are not permitted"),
        ("device", "", "too_short"),
        ("device", "a\nb", "control characters"),
        ("device", "ä" * 65, "at most 128 bytes"),
        ("model", "PMS1003", "'PMS5003' or 'PMS7003'"),
        ("port", "/dev/ttyUSB0", "by-id"),
        ("port", 7, "as text"),
        ("silence_s", 0, "greater than 0"),
        ("silence_s", float("nan"), "finite"),
    ],
)
def test_a_wrong_key_is_named(key: str, value: object, says: str) -> None:
    message = _error({**PMS, key: value})
    assert f"pms5003.{key}" in message
    assert says in message


def test_a_driver_is_opened_by_its_kind() -> None:
    driver = open_driver(parse_options(PMS), ProfileSet.load(), lambda: 0)
    assert driver.name == "pms5003 on /dev/serial/by-id/usb-x"


def test_checking_options_needs_no_hardware_library() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('serial', 'serialx', 'bleak', 'habluetooth', 'bthome_ble')));"
        f"from device_drivers.registry import parse_options; print(parse_options({PMS!r}).device)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("lobby-air\n", "")
