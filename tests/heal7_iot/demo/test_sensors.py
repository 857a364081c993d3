"""What the emulated sensors say is what the drivers' own decoders take."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.decoders.bthome import BTHomeDecoder
from device_drivers.ble.heard import Heard
from device_drivers.serial_line.framing import FrameFinder
from device_drivers.serial_line.plantower import PLANTOWER, decode, encode
from device_drivers.simulator import bthome
from heal7_iot.demo.center import ROOMS, Center, Conditions
from heal7_iot.demo.sensors import BLE_KINDS, ble_sensors, ble_values, dust_frame


@given(pm2_5=st.floats(0, 150), seed=st.integers())
def test_a_frame_is_one_that_a_sensor_could_send(pm2_5: float, seed: int) -> None:
    frame = dust_frame(pm2_5, random.Random(seed))
    assert [decode(found) for found in FrameFinder(PLANTOWER.framing).feed(encode(frame))] == [frame]
    assert frame.pm1 <= frame.pm2_5 <= frame.pm10
    assert abs(frame.pm2_5 - pm2_5) <= 1 + 0.3 * pm2_5
    counts = [frame.particles_0_3, frame.particles_0_5, frame.particles_1, frame.particles_2_5, frame.particles_5]
    assert sorted(counts, reverse=True) == counts


@pytest.mark.parametrize("hour", [3, 12, 16, 20])
def test_advertisements_are_decoded_as_they_were_meant(hour: int) -> None:
    conditions = Center(2).at(hour * 3600)
    for sensor in ble_sensors():
        now = conditions[sensor.room.key]
        values = ble_values(sensor, now, 80.4, random.Random(1))
        data = bthome.encode(values, packet_id=9)
        heard = BTHomeDecoder(sensor.address).decode(Advert(sensor.address, "", -60, {uuid(bthome.SERVICE): data}, {}))
        assert isinstance(heard, Heard)
        assert heard.values == {name: pytest.approx(value, abs=0.51) for name, value in values.items()}


def test_every_room_has_every_kind_of_sensor_and_no_address_twice() -> None:
    sensors = list(ble_sensors())
    assert {(s.room.key, s.kind) for s in sensors} == {(room.key, kind) for room in ROOMS for kind in BLE_KINDS}
    assert len({s.address for s in sensors}) == len(sensors)


def test_motion_needs_people_and_meditation_is_still() -> None:
    rng = random.Random(4)

    def share(room: str, visitors: int) -> float:
        (sensor,) = [s for s in ble_sensors() if s.room.key == room and s.kind == "presence"]
        now = Conditions(visitors, 22, 45, 600, 300, 8)
        return sum(ble_values(sensor, now, 90, rng)["motion"] for _ in range(500)) / 500

    assert share("studio", 0) == 0
    assert share("studio", 6) > 0.95
    assert 0.05 < share("meditation", 6) < 0.5
