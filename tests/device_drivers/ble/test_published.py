"""Every published advertisement means what is published: of decoder, sensor and profile together."""

from collections import Counter

import pytest

from device_drivers.ble.advert import frame, parse
from device_drivers.ble.families import recognised
from device_drivers.ble.heard import Heard
from device_drivers.ble.sensor import SIGNAL_STRENGTH, BleSensor
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.ble.published import Published, published

PROFILES = ProfileSet.load()

# ruuvitag-ble computes these; the makers' own vectors do not know them.
_COMPUTED = {"acceleration_total"}


@pytest.mark.parametrize("one", published())
def test_a_published_advertisement_means_what_is_published(one: Published) -> None:
    faults: Counter[str] = Counter()
    sensor = BleSensor(one.advert.address, "hall-1", None, None, one.bindkey, PROFILES, faults)
    readings = {reading.series.channel: reading for reading in sensor.hear(one.advert)}
    values = {channel: reading.value for channel, reading in readings.items() if channel != SIGNAL_STRENGTH}
    assert {channel: values[channel] for channel in one.values} == pytest.approx(one.values, abs=0.0051)
    assert set(values) - set(one.values) <= _COMPUTED
    assert readings[SIGNAL_STRENGTH].value == one.advert.rssi
    for channel, unit in one.units.items():
        assert readings[channel].series.unit == unit, channel
    assert faults["events"] == one.events
    # The makers' vectors do not list what the library tells as invalid beside them.
    assert (faults["not_numbers"] == one.others) or one.name.startswith("ruuvi-spec:")
    assert set(faults) <= {"events", "not_numbers"}


@pytest.mark.parametrize("one", published())
def test_its_bytes_can_be_kept_and_decoded_later(one: Published) -> None:
    kept = parse(one.advert.address, frame(one.advert))
    assert kept.services == one.advert.services
    assert kept.manufacturers == one.advert.manufacturers
    assert (kept.name, kept.uuids) == (one.advert.name, one.advert.uuids)
    family = recognised(kept)
    assert family is not None
    assert isinstance(family.open(kept.address, one.bindkey).decode(kept), Heard)
