"""When which step is taken for a silent radio; time is made up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.recovery import LONGEST_PATIENCE_S, STEADY_SILENCES, Recovery, Step

SILENCE_S = 60.0
LADDER = [Step.NEW_SCANNER, Step.POWER_CYCLE, Step.RESTART_REQUEST]


def taken(recovery: Recovery, until_s: float) -> list[tuple[float, Step]]:
    """The steps of a silence until then, each when it is due."""
    steps: list[tuple[float, Step]] = []
    while recovery.due_s() <= until_s:
        at_s = recovery.due_s()
        step = recovery.step(at_s)
        assert step is not None
        steps.append((at_s, step))
    return steps


def test_step_by_step_and_then_more_rarely() -> None:
    steps = taken(Recovery(SILENCE_S, 1000.0), 1000.0 + 180 + 360)
    assert [step for _, step in steps] == LADDER * 2
    assert [at - 1000 for at, _ in steps] == [60, 120, 180, 300, 420, 540]


def test_nothing_is_done_before_it_is_due() -> None:
    recovery = Recovery(SILENCE_S, 0.0)
    assert recovery.step(59.9) is None
    recovery.heard(50.0)
    assert recovery.step(109.9) is None
    assert recovery.step(110.0) is Step.NEW_SCANNER
    assert recovery.step(110.0) is None


def test_a_radio_that_came_back_begins_anew() -> None:
    recovery = Recovery(SILENCE_S, 0.0)
    assert [step for _, step in taken(recovery, 120.0)] == LADDER[:2]
    for at_s in range(121, 121 + round(STEADY_SILENCES * SILENCE_S)):
        recovery.heard(at_s)
    assert [step for _, step in taken(recovery, recovery.due_s())] == LADDER[:1]


def test_one_that_hears_for_a_moment_after_each_step_goes_on() -> None:
    recovery = Recovery(SILENCE_S, 0.0)
    steps = []
    for _ in LADDER:
        steps += [step for _, step in taken(recovery, recovery.due_s())]
        recovery.heard(recovery.silent_since_s + SILENCE_S + 1)
    assert steps == LADDER


def test_an_empty_room_costs_little() -> None:
    day = taken(Recovery(SILENCE_S, 0.0), 86_400.0)
    assert len(day) <= 40
    gaps = [after - before for (before, _), (after, _) in pairwise(day)]
    assert max(gaps) == LONGEST_PATIENCE_S


@pytest.mark.parametrize("silence_s", [5.0, 86_400.0])
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10_000)), max_size=40))
def test_no_step_comes_within_the_silence_of_an_advertisement(
    silence_s: float, happened: list[tuple[bool, float]]
) -> None:
    recovery, now_s, heard_s = Recovery(silence_s, 0.0), 0.0, 0.0
    for heard, later_s in happened:
        now_s += later_s
        if heard:
            recovery.heard(now_s)
            heard_s = now_s
        elif recovery.step(now_s) is not None:
            assert now_s - heard_s >= silence_s
