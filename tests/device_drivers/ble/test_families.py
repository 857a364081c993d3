"""What a passive scan asks for."""

from device_drivers.ble.families import MOST_PATTERNS, patterns


def test_the_patterns_are_no_more_than_bluetoothd_survives() -> None:
    asked = patterns()
    assert len(asked) <= MOST_PATTERNS
    assert len(set(asked)) == len(asked)


def test_firmware_that_may_leave_its_flags_out_is_heard_by_its_service_data() -> None:
    assert {(0, 0x16, b"\x1a\x18"), (0, 0x16, b"\xd2\xfc"), (0, 0x16, b"\x95\xfe")} <= set(patterns())
