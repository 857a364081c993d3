"""From an advertisement to readings: profile, reliability, unknown versions."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.bthome import UUIDS, V2_UUID, Advert
from device_drivers.ble.sensor import SIGNAL_STRENGTH, BleSensor
from device_drivers.reading import Causes, Reading
from device_drivers.simulator import bthome
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import ADDRESS

PROFILES = ProfileSet.load()


class Hall:
    """A sensor with its faults, and a clock that moves a minute with each advertisement."""

    def __init__(self, firmware: str = "2", model: str = "BTHome") -> None:
        self.faults: Counter[str] = Counter()
        self.sensor = BleSensor(ADDRESS, "hall-1", model, firmware, None, PROFILES, self.faults)
        self.now_us = 0

    def hear(self, data: bytes, uuid: str = V2_UUID) -> dict[str, Reading]:
        self.now_us += 60_000_000
        readings = self.sensor.hear(Advert(ADDRESS, -71, uuid, data, self.now_us))
        assert len({reading.series for reading in readings}) == len(readings)
        return {reading.series.channel: reading for reading in readings}


def test_a_reading_says_what_it_is() -> None:
    heard = Hall().hear(bthome.encode({"temperature": 21.5, "motion": 1.0}, 1))
    assert set(heard) == {"temperature", "motion", SIGNAL_STRENGTH}
    reading = heard["temperature"]
    series = reading.series
    assert (series.device, series.quantity, series.unit, series.firmware) == ("hall-1", "temperature", "°C", "2")
    assert series.profile == "bthome-v2/1"
    assert (reading.value, reading.taken_at_us, reading.reliability, reading.causes) == (21.5, 60_000_000, 100, 0)
    assert heard["motion"].value == 1.0
    assert (heard[SIGNAL_STRENGTH].value, heard[SIGNAL_STRENGTH].series.unit) == (-71, "dBm")


def test_series_are_built_once() -> None:
    hall = Hall()
    first = hall.hear(bthome.encode({"temperature": 21.5}, 1))
    second = hall.hear(bthome.encode({"temperature": 21.6}, 2))
    assert first["temperature"].series is second["temperature"].series


def test_out_of_range_is_kept_and_marked() -> None:
    reading = Hall().hear(bthome.encode({"temperature": 120.0}))["temperature"]
    assert reading.value == 120.0
    assert reading.causes == Causes.OUT_OF_RANGE
    assert reading.reliability < 100


def test_a_low_battery_lowers_what_follows_until_it_is_replaced() -> None:
    hall = Hall()
    low = hall.hear(bthome.encode({"battery": 4.0, "temperature": 21.5}, 1))
    assert low["temperature"].causes == Causes.LOW_BATTERY
    assert low[SIGNAL_STRENGTH].causes == Causes.NONE, "our own radio measures it"
    assert hall.hear(bthome.encode({"temperature": 21.5}, 2))["temperature"].causes == Causes.LOW_BATTERY
    assert hall.hear(bthome.encode({"battery": 100.0}, 3))["battery"].causes == Causes.NONE
    assert hall.hear(bthome.encode({"temperature": 21.5}, 4))["temperature"].reliability == 100
    warned = hall.hear(bthome.encode({"battery_low": 1.0, "temperature": 21.5}, 5))
    assert warned["temperature"].causes == Causes.LOW_BATTERY


def test_two_probes_are_two_channels_of_one_quantity() -> None:
    heard = Hall().hear(bytes.fromhex("4002ca0902cb09"))
    assert heard["temperature_1"].value == 25.06
    assert heard["temperature_2"].value == 25.07
    assert heard["temperature_2"].series.quantity == "temperature"


def test_what_the_profile_does_not_know_is_counted() -> None:
    hall = Hall()
    assert set(hall.hear(bytes.fromhex("40" + "0910" + "02ca09"))) == {"temperature", SIGNAL_STRENGTH}
    assert hall.faults == {"unknown_channels": 1}


def test_events_and_texts_are_counted() -> None:
    hall = Hall()
    hall.hear(bytes.fromhex("403a01"))
    hall.hear(bytes.fromhex("4053024869"))
    assert hall.faults == {"events": 1, "not_numbers": 1}


def test_an_unknown_version_keeps_its_bytes() -> None:
    data = bytes([0x60]) + bthome.encode({"temperature": 21.5})[1:]
    hall = Hall()
    reading = hall.hear(data)["raw"]
    assert math.isnan(reading.value)
    assert (reading.frame, reading.series.profile, reading.series.firmware) == (data, "", "3")
    assert reading.reliability == 0
    assert hall.hear(bthome.encode({"temperature": 21.5}))["temperature"].value == 21.5


def test_version_1_is_known_by_its_service() -> None:
    reading = Hall().hear(bytes.fromhex("2302ca09"), UUIDS[1])["raw"]
    assert (reading.series.firmware, reading.frame) == ("1", bytes.fromhex("2302ca09"))


def test_a_model_or_firmware_without_a_profile_keeps_its_bytes() -> None:
    data = bthome.encode({"temperature": 21.5})
    assert set(Hall(model="Nobody's").hear(data)) == {"raw"}
    assert Hall(firmware="2.1").hear(data)["temperature"].series.firmware == "2.1"


def test_a_repeated_frame_is_kept_once() -> None:
    faults: Counter[str] = Counter()
    sensor = BleSensor(ADDRESS, "hall-1", "BTHome", "2", None, PROFILES, faults)
    advert = Advert(ADDRESS, -60, V2_UUID, b"\x60\x01", 0)
    assert len(sensor.hear(advert)) == 1
    assert sensor.hear(advert) == []
    assert faults == {"repeats": 1}


@given(st.lists(st.binary(max_size=40) | st.builds(bytes.__add__, st.just(b"@"), st.binary(max_size=40)), max_size=6))
def test_random_bytes_give_only_valid_readings(frames: list[bytes]) -> None:
    hall = Hall()
    for data in frames:
        for reading in hall.hear(data).values():
            assert 0 <= reading.reliability <= 100
            if reading.series.profile:
                assert math.isfinite(reading.value)
                assert reading.frame is None
            else:
                assert reading.frame == data
