"""The registry: what a configuration may say, checked without a hardware library."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line.options import Pms5003Options
from firmware_profiles.selection import ProfileSet

PMS = {"kind": "pms5003", "device": "lobby-air", "port": "/dev/serial/by-id/usb-x"}


def _error(table: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as refusal:
        Pms5003Options.model_validate(table)
    return str(refusal.value)


def test_a_device_with_its_defaults() -> None:
    options = Pms5003Options.model_validate(PMS)
    assert (options.model, options.firmware, options.silence_s) == ("PMS5003", "", 10.0)
    defaults = {"model": "PMS5003", "firmware": "", "keep_frames": False, "silence_s": 10.0}
    assert options.model_dump() == {**PMS, **defaults}
    with pytest.raises(ValidationError):
        options.device = "other"


def test_each_kind_is_called_by_its_name() -> None:
    for kind, entry in DRIVER_KINDS.items():
        assert entry.options.model_fields["kind"].annotation is not None
        assert kind in str(entry.options.model_fields["kind"].annotation)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("prot", "/dev/x", "Extra inputs are not permitted"),
        ("device", "", "too_short"),
        ("device", "a\nb", "control characters"),
        ("device", "ä" * 65, "at most 128 bytes"),
        ("model", "", "too_short"),
        ("model", "P" * 129, "at most 128 bytes"),
        ("zone", "hall", "Extra inputs are not permitted"),
        ("port", "/dev/ttyUSB0", "by-id"),
        ("port", 7, "as text"),
        ("silence_s", 0, "greater than 0"),
        ("silence_s", float("nan"), "finite"),
    ],
)
def test_a_wrong_key_is_named(key: str, value: object, says: str) -> None:
    message = _error({**PMS, key: value})
    assert f"\n{key}\n" in message
    assert says in message


def test_a_driver_is_opened_by_its_kind() -> None:
    kind = DRIVER_KINDS["pms5003"]
    driver = kind.open(kind.options.model_validate(PMS), ProfileSet.load(), lambda: 0)
    assert driver.name == "pms5003 on /dev/serial/by-id/usb-x"


def test_checking_options_needs_no_hardware_library() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('serial', 'serialx', 'bleak', 'habluetooth', 'bthome_ble')));"
        "from device_drivers.registry import DRIVER_KINDS;"
        f"print(DRIVER_KINDS['pms5003'].options.model_validate({PMS!r}).device)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("lobby-air\n", "")
