"""Raw numbers to readings: scale and offset, range, and the worst cause that decides reliability."""

import math

import pytest

from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.reading import Causes
from firmware_profiles.profile import FirmwareProfile

PROFILE = FirmwareProfile.model_validate(
    {
        "name": "probe/1",
        "models": ["Probe"],
        "manufacturer": "Somebody",
        "driver": "probe",
        "sources": {"test": {"title": "made up", "document": "this test"}},
        "channels": {
            "temperature": {
                "quantity": "temperature",
                "unit": "Cel",
                "scale": 0.1,
                "offset": -40.0,
                "minimum": -20,
                "maximum": 60,
            }
        },
    }
)


def test_scale_then_offset() -> None:
    reading = Interpreter("d", "1", PROFILE).reading("temperature", 615, 7)
    assert reading.value == pytest.approx(21.5)
    assert (reading.taken_at_us, reading.reliability, reading.causes) == (7, 100, 0)


@pytest.mark.parametrize(("raw", "causes"), [(200, 0), (199, 1), (1000, 0), (1001, 1), (math.nan, 1), (math.inf, 1)])
def test_the_range_is_that_of_the_value(raw: float, causes: int) -> None:
    assert Interpreter("d", "1", PROFILE).reading("temperature", raw, 7).causes == causes


def test_causes_add_up_and_the_worst_decides() -> None:
    interpreter = Interpreter("d", "1", PROFILE)
    reading = interpreter.reading("temperature", 0, 7, Causes.WARMING_UP)
    assert reading.causes == Causes.WARMING_UP | Causes.OUT_OF_RANGE
    assert reading.reliability == 20


def test_an_unknown_channel_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Interpreter("d", "1", PROFILE).reading("humidity", 0, 7)


def test_what_cannot_be_decoded_keeps_its_bytes() -> None:
    reading = raw_reading(raw_series("d", "9"), b"\x01\x02", 7)
    assert math.isnan(reading.value)
    assert (reading.frame, reading.series.profile, reading.series.firmware) == (b"\x01\x02", "", "9")
