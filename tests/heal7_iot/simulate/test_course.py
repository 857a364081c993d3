"""What simulated sensors say is known beforehand."""

import itertools
import math
import random

import pytest

from device_drivers.reading import Reading
from heal7_iot.simulate.course import Course
from heal7_iot.simulate.plan import Late, Outage, Plan
from heal7_iot.simulate.sensors import Sensors

MANY = 400
BEGAN_US = 5_000_000


def test_a_reading_depends_on_nothing_but_its_names_and_the_seed() -> None:
    keys = list(itertools.product(range(3), range(4), range(50)))
    in_order = {key: Course(Plan(seed=3)).reading(*key) for key in keys}
    random.Random(1).shuffle(keys)
    course = Course(Plan(seed=3))
    assert {key: course.reading(*key) for key in keys} == in_order
    other = Course(Plan(seed=4))
    assert sum(other.reading(*key).value == due.value for key, due in in_order.items()) < len(keys) / 20


def test_a_recorded_course_stays_what_it_is() -> None:
    """Tables that were simulated by an earlier release are still to be compared with."""
    due = Course(Plan(seed=7, late=Late(0.5, 2.0))).reading(12, 3, 456)
    assert (due.value, due.after_us, due.delay_us) == (21.09, 456_566_039, 2_000_000)


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.49])
def test_times_of_a_sensor_are_in_order_and_off_by_no_more_than_the_jitter(jitter: float) -> None:
    course = Course(Plan(rate=2.0, jitter=jitter))
    times = [course.reading(1, 1, n).after_us for n in range(MANY)]
    assert times == sorted(set(times))
    assert times[0] >= 0
    phase = [time - n * 500_000 for n, time in enumerate(times)]
    assert max(phase) - min(phase) <= 2 * jitter * 500_000 + 2
    if jitter:
        assert max(phase) - min(phase) > jitter * 500_000


def test_sensors_are_not_in_step() -> None:
    course = Course(Plan(jitter=0.0))
    first = [course.reading(gateway, 0, 0).after_us for gateway in range(MANY)]
    tenths = [sum(500_000 + n * 100_000 <= time < 600_000 + n * 100_000 for time in first) for n in range(10)]
    assert min(tenths) > MANY / 40


def test_about_the_share_that_was_asked_for_is_late() -> None:
    course = Course(Plan(late=Late(0.2, 3.0)))
    delays = [course.reading(0, sensor, n).delay_us for sensor in range(5) for n in range(MANY)]
    assert set(delays) == {0, 3_000_000}
    assert 0.15 < sum(map(bool, delays)) / len(delays) < 0.25


def test_sensors_give_each_reading_once_the_late_ones_late() -> None:
    plan = Plan(sensors=3, rate=10.0, late=Late(0.3, 0.7))
    course = Course(plan)
    sensors = Sensors(plan, course, 5, BEGAN_US)
    dice = random.Random(9)
    given: list[tuple[Reading, float]] = []
    now_us = BEGAN_US
    while now_us < BEGAN_US + 5_000_000:
        now_us += dice.randrange(1, 400_000)
        given += [(reading, now_us) for reading in sensors.until(now_us)]
        assert sensors.next_us() > now_us
    given += [(reading, math.inf) for reading in sensors.rest()]
    assert sensors.rest() == []
    expected = {}
    for sensor in range(plan.sensors):
        assert sensors.taken[sensor] > 40
        for n in range(sensors.taken[sensor]):
            due = course.reading(5, sensor, n)
            expected[plan.device(5, sensor), BEGAN_US + due.after_us] = due
    assert len(given) == len(expected)
    for reading, at_us in given:
        due = expected.pop((reading.series.device, reading.taken_at_us))
        assert reading.value == due.value
        assert reading.taken_at_us + due.delay_us <= at_us
    assert expected == {}


def test_names_are_unique_within_a_site() -> None:
    plan = Plan(gateways=30, sensors=40)
    assert len({plan.device(g, s) for g in range(30) for s in range(40)}) == 1200
    assert plan.gateway(0) == "sim/sim-0001"


def test_what_a_person_writes() -> None:
    assert Late.parse("0.05:30") == Late(0.05, 30.0)
    assert Outage.parse("300/20.5", together=True) == Outage(300.0, 20.5, together=True)
    for text in ("", "5", "1.1:3", "-0.1:3", "0.1:", "0.1:3:4", "nan:1", "1e9:1"):
        with pytest.raises(ValueError, match="write SHARE:SECONDS"):
            Late.parse(text)
    for text in ("", "5", "5/5", "5/6", "5/0", "5:1", "inf/1"):
        with pytest.raises(ValueError, match="write EVERY/FOR"):
            Outage.parse(text)
