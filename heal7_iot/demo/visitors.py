"""Who is in which room when: groups that arrive at random, go from room to room, and leave. No clock in here."""

import math
import random
from dataclasses import dataclass

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
OPENS_S = 9 * HOUR_S
CLOSES_S = 21 * HOUR_S
_LAST_ADMISSION_S = 19.5 * HOUR_S

# Groups an hour at the busiest; thinning compares with it.
_MOST_GROUPS_PER_HOUR = 10.0
_GROUP_SIZES = (1, 2, 3, 4, 5, 6)
_GROUP_SHARES = (18, 38, 16, 16, 7, 5)


@dataclass(frozen=True, slots=True)
class Stay:
    """A group in a room, from when until when: seconds since the day's midnight, half-open."""

    room: str
    visitors: int
    from_s: float
    to_s: float


def groups_per_hour(time_of_day_s: float) -> float:
    """How many groups come: few in the morning, a peak at lunch, a broader one in the afternoon."""
    if not OPENS_S <= time_of_day_s < _LAST_ADMISSION_S:
        return 0.0
    hour = time_of_day_s / HOUR_S
    lunch = 4.0 * math.exp(-(((hour - 12.3) / 0.9) ** 2))
    afternoon = 5.0 * math.exp(-(((hour - 15.5) / 1.6) ** 2))
    return min(_MOST_GROUPS_PER_HOUR, 4.0 + lunch + afternoon)


def stays_of(seed: int, day: int) -> tuple[Stay, ...]:
    """All stays of a day; the same for the same seed and day."""
    rng = random.Random(f"visitors {seed} {day}")
    stays: list[Stay] = []
    now_s = OPENS_S
    while now_s < _LAST_ADMISSION_S:
        now_s += rng.expovariate(_MOST_GROUPS_PER_HOUR / HOUR_S)
        if rng.random() * _MOST_GROUPS_PER_HOUR < groups_per_hour(now_s):
            stays += _visit(rng, now_s)
    return tuple(stays)


def _visit(rng: random.Random, arrives_s: float) -> list[Stay]:
    """One group's way: a welcome in the lounge, one or both of the other rooms, tea in the lounge."""
    (visitors,) = rng.choices(_GROUP_SIZES, _GROUP_SHARES)
    middle = rng.choice([["meditation"], ["studio"], ["meditation", "studio"], ["studio", "meditation"]])
    minutes = {"lounge": (10.0, 25.0), "meditation": (35.0, 55.0), "studio": (30.0, 70.0)}
    stays = []
    now_s = arrives_s
    for room in ["lounge", *middle, "lounge"]:
        leaves_s = min(now_s + 60 * rng.uniform(*minutes[room]), CLOSES_S)
        if leaves_s > now_s:
            stays.append(Stay(room, visitors, now_s, leaves_s))
        now_s = leaves_s
    return stays
