"""The model: days that look like days, visitors that look like visitors."""

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal7_iot.demo.center import ROOMS, Center, Conditions
from heal7_iot.demo.timelapse import Timelapse
from heal7_iot.demo.visitors import CLOSES_S, DAY_S, HOUR_S, OPENS_S, stays_of

_KEYS = [room.key for room in ROOMS]


def _hours(center: Center, room: str, first: int, last: int) -> list[Conditions]:
    """Ten minutes apart."""
    return [center.at(t * 600)[room] for t in range(first * 6, last * 6)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), time_s=st.floats(0, 5 * DAY_S))
def test_every_moment_is_one_that_a_room_can_have(seed: int, time_s: float) -> None:
    for now in Center(seed).at(time_s).values():
        assert 0 <= now.visitors < 120
        assert 15 < now.temperature < 32
        assert 25 < now.humidity < 75
        assert 400 < now.co2 < 3500
        assert 0 < now.illuminance < 2000
        assert 0 < now.pm2_5 < 150


@pytest.mark.parametrize("room", _KEYS)
@pytest.mark.parametrize("seed", range(5))
def test_the_night_is_quiet_and_the_day_is_not(room: str, seed: int) -> None:
    center = Center(seed)
    night, day = _hours(center, room, 2, 6), _hours(center, room, 11, 19)
    assert not any(now.visitors for now in night)
    assert mean(now.visitors for now in day) > 1
    for quantity in ("co2", "temperature", "illuminance", "pm2_5"):
        assert mean(getattr(now, quantity) for now in day) > mean(getattr(now, quantity) for now in night), quantity
    assert max(now.illuminance for now in night) < 5
    assert max(now.co2 for now in night) < 460


@pytest.mark.parametrize("seed", range(5))
def test_more_come_in_the_afternoon_than_in_the_morning(seed: int) -> None:
    center = Center(seed)

    def people(first: int, last: int) -> float:
        return mean(
            sum(_visitors(center, t * 600))
            for day in range(5)
            for t in range(day * 144 + first * 6, day * 144 + last * 6)
        )

    assert people(15, 17) > people(9, 11) > 0


def _visitors(center: Center, time_s: float) -> list[int]:
    return [now.visitors for now in center.at(time_s).values()]


def test_air_follows_people_slowly_and_recovers() -> None:
    center = Center(3)
    minutes = [center.at(t * 60)["studio"] for t in range(24 * 60)]
    steps = [abs(b.co2 - a.co2) for a, b in pairwise(minutes)]
    assert max(steps) < 60  # ppm in a minute: no room jumps
    fullest = max(range(len(minutes)), key=lambda t: minutes[t].co2)
    assert minutes[fullest].co2 > 700
    assert any(minutes[t].visitors for t in range(fullest - 30, fullest))
    assert minutes[-1].co2 < 500


def test_midnight_is_no_step() -> None:
    center = Center(11)
    for midnight in (DAY_S, 2 * DAY_S):
        before, after = center.at(midnight - 60), center.at(midnight)
        for room in _KEYS:
            assert abs(before[room].co2 - after[room].co2) < 1
            assert abs(before[room].temperature - after[room].temperature) < 0.1


@given(seed=st.integers(0, 10**9), day=st.integers(-1, 1000))
def test_groups_stay_together_within_opening_hours_and_leave(seed: int, day: int) -> None:
    for stay in stays_of(seed, day):
        assert stay.room in _KEYS
        assert 1 <= stay.visitors <= 6
        assert OPENS_S <= stay.from_s < stay.to_s <= CLOSES_S


def test_the_same_seed_gives_the_same_days_and_another_seed_others() -> None:
    times = [t * 600 for t in range(300)]
    one, again, other = ([center.at(t) for t in times] for center in map(Center, (5, 5, 6)))
    assert one == again
    assert one != other
    # Whoever asks for noon only gets the noon of whoever watched the morning.
    assert Center(5).at(12 * HOUR_S) == one[72]


def test_no_day_is_like_the_one_before() -> None:
    assert len({stays_of(7, day) for day in range(20)}) == 20


def test_a_simulated_day_takes_as_long_as_asked_and_begins_before_opening() -> None:
    timelapse = Timelapse(120)
    assert timelapse.at(0) < OPENS_S
    assert timelapse.at(120) - timelapse.at(0) == pytest.approx(DAY_S)
    assert timelapse.clock(0) == "day 1 08:30"
    assert timelapse.clock(120) == "day 2 08:30"
