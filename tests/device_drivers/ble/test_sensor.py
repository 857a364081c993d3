"""From an advertisement to readings: profile, reliability, unknown versions."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.advert import Advert, frame, uuid
from device_drivers.ble.key_doubt import FAILURES_IN_A_ROW
from device_drivers.ble.sensor import SIGNAL_STRENGTH, WEAK_SIGNAL_DBM, BleSensor
from device_drivers.reading import Causes, Reading
from device_drivers.simulator import bthome
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.conftest import ADDRESS

PROFILES = ProfileSet.load()
V1_UUID, V2_UUID = uuid(0x181C), uuid(0xFCD2)


def kept(data: bytes, service: str = V2_UUID) -> bytes:
    return frame(Advert(ADDRESS, "", 0, {service: data}, {}))


class Hall:
    """A sensor with its faults, and a clock that moves a minute with each advertisement."""

    def __init__(self, firmware: str | None = None, model: str | None = None, key: bytes | None = None) -> None:
        self.faults: Counter[str] = Counter()
        self.sensor = BleSensor(ADDRESS, "hall-1", model, firmware, key, PROFILES, self.faults)
        self.now_us = 0

    def hear(self, data: bytes, service: str = V2_UUID) -> dict[str, Reading]:
        self.now_us += 60_000_000
        readings = self.sensor.hear(Advert(ADDRESS, "", -71, {service: data}, {}, taken_at_us=self.now_us))
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


def test_a_weak_signal_is_a_cause() -> None:
    hall = Hall()
    advert = Advert(ADDRESS, "", WEAK_SIGNAL_DBM, {V2_UUID: bthome.encode({"temperature": 21.5})}, {})
    readings = {reading.series.channel: reading for reading in hall.sensor.hear(advert)}
    assert readings["temperature"].causes == Causes.WEAK_SIGNAL
    assert readings[SIGNAL_STRENGTH].causes == Causes.NONE
    assert hall.hear(bthome.encode({"temperature": 21.6}))["temperature"].causes == Causes.NONE


def test_two_probes_are_two_channels_of_one_quantity() -> None:
    heard = Hall().hear(bytes.fromhex("4002ca0902cb09"))
    assert heard["temperature_1"].value == 25.06
    assert heard["temperature_2"].value == 25.07
    assert heard["temperature_2"].series.quantity == "temperature"


def test_what_the_profile_does_not_know_is_counted() -> None:
    hall = Hall()
    assert set(hall.hear(bytes.fromhex("40" + "02ca09" + "6010"))) == {"temperature", SIGNAL_STRENGTH}
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
    assert (reading.frame, reading.series.profile, reading.series.firmware) == (kept(data), "", "3")
    assert reading.reliability == 0
    assert hall.hear(bthome.encode({"temperature": 21.5}))["temperature"].value == 21.5


def test_version_1_is_known_by_its_service() -> None:
    reading = Hall().hear(bytes.fromhex("2302ca09"), V1_UUID)["raw"]
    assert (reading.series.firmware, reading.frame) == ("1", kept(bytes.fromhex("2302ca09"), V1_UUID))


def test_a_model_or_firmware_without_a_profile_keeps_its_bytes() -> None:
    data = bthome.encode({"temperature": 21.5})
    assert set(Hall(model="Nobody's").hear(data)) == {"raw"}
    assert Hall(firmware="2.1").hear(data)["temperature"].series.firmware == "2.1"


def test_a_repeated_frame_is_kept_once() -> None:
    faults: Counter[str] = Counter()
    sensor = BleSensor(ADDRESS, "hall-1", None, None, None, PROFILES, faults)
    advert = Advert(ADDRESS, "", -60, {V2_UUID: b"\x60\x01"}, {})
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
                assert reading.frame == kept(data)


def sealed(counter: int, key: bytes, **values: float) -> bytes:
    return bthome.encode_encrypted(values or {"motion": 1.0}, bindkey=key, address=ADDRESS, counter=counter)


def test_a_wrong_bindkey_is_told_from_damage(caplog: pytest.LogCaptureFixture) -> None:
    right, wrong = bytes(range(16)), bytes(16)
    hall = Hall(key=right)
    for counter in range(10, 60):  # each other packet is damaged, or somebody's forgery
        data = sealed(counter, right)
        hall.hear(data if counter % 2 else data[:-1] + bytes([data[-1] ^ 1]))
    assert hall.faults == {"unauthentic": 25}
    assert not caplog.records
    hall = Hall(key=wrong)
    for counter in range(10, 30):
        hall.hear(sealed(counter, right))
    assert hall.faults == {"unauthentic": FAILURES_IN_A_ROW - 1, "wrong_bindkey": 20 - FAILURES_IN_A_ROW + 1}
    (record,) = caplog.records
    assert "hall-1" in record.message
    assert "bindkey is wrong" in record.message
    assert wrong.hex() not in record.message


def test_random_bytes_are_no_wrong_key() -> None:
    rng = random.Random(1)
    hall = Hall(key=bytes(16))
    for _ in range(200):
        data = rng.randbytes(rng.randrange(2, 11))
        hall.hear(bytes([0x41]) + data if len(data) < 10 else bytes([0x40]) + data)
    assert set(hall.faults) <= {"undecodable", "plain_despite_bindkey"}


def test_a_key_for_a_family_without_keys_refuses_it() -> None:
    hall = Hall(key=bytes(16))
    data = bytes.fromhex("000341c26400")
    found = hall.sensor.hear(Advert(ADDRESS, "GVH5075_2762", -60, {}, {0xEC88: data}))
    assert found == []
    assert hall.faults == {"plain_despite_bindkey": 1}


def test_what_nobody_recognises_is_kept_whole() -> None:
    hall = Hall()
    advert = Advert(ADDRESS, "Puck", -60, {uuid(0xFFF9): b"\x01"}, {0x0590: b"abc"}, (uuid(0x180F),))
    (reading,) = hall.sensor.hear(advert)
    assert (reading.series.channel, reading.series.firmware, reading.frame) == ("raw", "", frame(advert))
    assert hall.sensor.hear(advert) == []
    assert hall.sensor.hear(advert._replace(services={}, manufacturers={})) == []
    assert hall.faults == {"repeats": 1, "without_values": 1}
    # It was only its name that had not come yet.
    data = bthome.encode({"temperature": 21.5})
    assert set(hall.hear(data)) == {"temperature", SIGNAL_STRENGTH}


def test_a_configured_model_decides_for_the_profile() -> None:
    data = bytes.fromhex("000341c26400")
    advert = Advert(ADDRESS, "GVH5075_2762", -60, {}, {0xEC88: data})
    assert {r.series.profile for r in Hall().sensor.hear(advert)} == {"govee-climate/1"}
    assert {r.series.channel for r in Hall(model="H9999").sensor.hear(advert)} == {"raw"}


def test_serial_numbers_beside_measurements_are_no_raw_readings() -> None:
    hall = Hall()
    advert = Advert(ADDRESS, "GVH5075_2762", -60, {}, {0xEC88: bytes.fromhex("000341c26400")})
    hall.sensor.hear(advert)
    assert hall.sensor.hear(advert._replace(manufacturers={0xEC88: b"\x01\x02"}, name="")) == []
    assert hall.faults["other_formats"] + hall.faults["undecodable"] + hall.faults["without_values"] == 1
