"""Our drivers with the real bluetoothd and the kernel, in a guest with emulated controllers."""

from typing import Any

import pytest

from tests.peers.bluetooth_guest.machine import report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(tmp_path_factory.mktemp("guest"))


HEARD = {"temperature of 2": 20.0, "signal_strength of 2": -50.0}
NOTIFIED = "temperature of 1.4.2"


@pytest.mark.parametrize("mode", ["active", "passive"])
def test_advertisements_are_heard(told: dict[str, Any], mode: str) -> None:
    assert told[mode].get("values") == HEARD, told[mode]
    assert told[mode]["lost"] == []


def test_environmental_sensing_is_read(told: dict[str, Any]) -> None:
    # Its humidity is "not known": it is left out.
    assert set(told["polled"].get("values", ())) == {NOTIFIED, "battery of 1.4.2"}, told["polled"]
    assert told["polled"]["values"]["battery of 1.4.2"] == 87
    assert 23 <= told["polled"]["values"][NOTIFIED] < 24
    assert told["polled"]["lost"] == []


def test_notifications_are_read(told: dict[str, Any]) -> None:
    values = [value[NOTIFIED] for value in told["notified"].get("values", ())]
    assert len(set(values)) == 3, told["notified"]
    assert all(23 <= value < 24 for value in values)
    assert told["notified"]["lost"] == []


@pytest.mark.parametrize(
    ("what", "says"), [("restarted", "BlueZ has stopped"), ("powered", "the adapter is powered off")]
)
def test_both_drivers_recover(told: dict[str, Any], what: str, says: str) -> None:
    part = told[what]
    assert "error" not in part, part["error"]
    for when in ("before", "after"):
        assert part[when]["heard"] == HEARD
        assert set(part[when]["notified"]) == {NOTIFIED}
    assert part["steps"]["radio_new_scanners"] >= 1
    assert part["ble"] == [], "the listener brings its radio back by itself"
    assert says in part["gatt"][0]
