"""The one rule of reliability, and what only a row of readings shows."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.interpretation import Interpreter
from device_drivers.reading import Causes
from device_drivers.reliability import CAPS, STUCK_READINGS, reliability
from firmware_profiles.profile import FirmwareProfile

SECOND = 1_000_000
CLOCK = {Causes.CLOCK_UNCERTAIN, Causes.CLOCK_ESTIMATED}


def interpreter(**limits: float) -> Interpreter:
    channel = {"quantity": "temperature", "unit": "Cel", "minimum": -20, "maximum": 60, **limits}
    return Interpreter(
        "d",
        "1",
        FirmwareProfile.model_validate(
            {
                "name": "probe/1",
                "models": ["Probe"],
                "manufacturer": "Somebody",
                "driver": "probe",
                "sources": {"test": {"title": "made up", "document": "this test"}},
                "channels": {"temperature": channel},
            }
        ),
    )


def causes_of(told: Sequence[tuple[float, float]], **limits: float) -> list[Causes]:
    """told: (seconds, value)."""
    one = interpreter(**limits)
    return [Causes(one.reading("temperature", value, round(s * SECOND)).causes) for s, value in told]


def test_every_cause_has_a_cap_or_is_the_clocks() -> None:
    assert set(CAPS) | CLOCK == set(Causes)
    assert not CLOCK & set(CAPS), "the server judges these, by WIRE.md"


def test_the_gravest_cause_decides() -> None:
    assert reliability(0) == 100
    for cause, cap in CAPS.items():
        assert reliability(cause.value) == cap
        assert reliability(cause | Causes.SENSOR_ERROR) == min(cap, 10)
    assert reliability(Causes.CLOCK_UNCERTAIN) == 100
    assert reliability(1 << 20) == 100, "a cause that this version does not know"


def test_the_document_has_the_same_caps() -> None:
    document = (Path(__file__).parents[2] / "docs" / "reading-reliability.md").read_text()
    table = dict(re.findall(r"^\| `([a-z_]+)` \| \d+ \| (\d+) \|", document, re.MULTILINE))
    assert {name: int(cap) for name, cap in table.items()} == {c.names(c)[0]: cap for c, cap in CAPS.items()}
    bits = dict(re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", document, re.MULTILINE))
    assert {name: int(bit) for name, bit in bits.items()} == {c.names(c)[0]: c.value for c in Causes}


def test_a_spike_is_one_doubtful_reading() -> None:
    assert causes_of([(0, 20.0), (10, 20.5), (20, 45.0), (30, 20.4)], max_rate=0.1) == [
        Causes.NONE,
        Causes.NONE,
        Causes.FAST_CHANGE,
        Causes.NONE,
    ]


def test_a_step_that_lasts_is_believed_in_the_end() -> None:
    found = causes_of([(10.0 * n, 20.0 if n == 0 else 25.0) for n in range(8)], max_rate=0.1)
    assert found == [Causes.NONE, *[Causes.FAST_CHANGE] * 4, *[Causes.NONE] * 3]


def test_a_change_of_one_second_is_always_allowed() -> None:
    assert causes_of([(0, 20.0), (0, 20.125), (0, 20.375)], max_rate=0.125) == [
        Causes.NONE,
        Causes.NONE,
        Causes.FAST_CHANGE,
    ]


def test_what_is_no_number_spoils_nothing_after_it() -> None:
    for odd in (math.nan, math.inf):
        (_, _, after) = causes_of([(0, 20.0), (10, odd), (20, 20.2)], max_rate=0.1)
        assert after == Causes.NONE
        (first, after) = causes_of([(0, odd), (10, 20.2)], max_rate=0.1)
        assert first == Causes.OUT_OF_RANGE
        assert after == Causes.NONE


def test_the_same_number_for_too_long_is_stuck_until_it_moves() -> None:
    told = [(600.0 * n, 21.0) for n in range(8)] + [(4800.0, 21.1)]
    assert causes_of(told, stuck_after_s=3600) == [*[Causes.NONE] * 6, Causes.STUCK, Causes.STUCK, Causes.NONE]


def test_a_device_that_comes_back_is_not_stuck() -> None:
    told = [(0.0, 21.0)] + [(86_400.0 + n, 21.0) for n in range(STUCK_READINGS - 1)]
    *before, last = causes_of(told, stuck_after_s=3600)
    assert before == [Causes.NONE] * (STUCK_READINGS - 1)
    assert last == Causes.STUCK


def test_without_limits_nothing_is_judged() -> None:
    told = [(0, 20.0), (1, 60.0), *[(float(n), 60.0) for n in range(2, 100_000, 10_000)]]
    assert set(causes_of(told)) == {Causes.NONE}


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(allow_nan=True))), st.floats(0.001, 1e6), st.floats(60, 1e6))
def test_any_row_of_values_is_judged(told: list[tuple[float, float]], rate: float, stuck_s: float) -> None:
    one = interpreter(max_rate=rate, stuck_after_s=stuck_s)
    for seconds, value in told:
        reading = one.reading("temperature", value, round(seconds * SECOND))
        assert reading.reliability == reliability(reading.causes)
        assert 0 <= reading.reliability <= 100


def test_names() -> None:
    assert Causes.names(0) == []
    assert Causes.names(1 | 64) == ["out_of_range", "stuck"]
    assert Causes.names(512 | 2 | 2048) == ["clock_uncertain", "bit_512", "bit_2048"]


@pytest.mark.parametrize("limits", [{"max_rate": 0}, {"max_rate": -1}, {"stuck_after_s": 1}])
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater than"):
        interpreter(**limits)
