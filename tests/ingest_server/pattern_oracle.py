"""Patterns of use by brute force: minute after minute of a day, out of the readings themselves, by docs/patterns.md."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ingest_server.storage.keeping.patterns import Slots
from tests.peers.postgres import Database

MINUTE = timedelta(minutes=1)
_MOTION = {"motion", "moving"}
_PRESENCE = {"presence", "occupancy", *_MOTION}


@dataclass(frozen=True)
class Measured:
    """A series, its readings in order of time, and where its device hung: (from, zone or None), in order."""

    quantity: str
    unit: str
    readings: Sequence[tuple[datetime, float]]
    placements: Sequence[tuple[datetime, str | None]]

    def placement(self, at: datetime) -> int:
        """Position of the one that held then; -1 before the first."""
        return sum(since <= at for since, _ in self.placements) - 1

    def zone(self, at: datetime) -> str | None:
        found = self.placement(at)
        return None if found < 0 else self.placements[found][1]


Patterns = dict[tuple[str, str], dict[str, Any]]
"""By (zone, time_slot)."""


def brute_force(series: Sequence[Measured], zone: str, day: date, slots: Slots, now: datetime) -> Patterns:
    """zone: the site's time zone."""
    clock = ZoneInfo(zone)
    minutes = [m for m in _around(day) if m.astimezone(clock).date() == day]
    told = [(s, _values(s, minutes)) for s in series]
    by_slot: dict[str, list[datetime]] = defaultdict(list)
    for minute in minutes:
        slot = _slot(minute.astimezone(clock).hour, slots)
        if slot is not None and minute <= now:
            by_slot[slot].append(minute)
    found: Patterns = {}
    for place in {z for s in series for _, z in s.placements if z is not None}:
        for slot, within in by_slot.items():
            eyes = [
                (s, values)
                for s, values in told
                if s.quantity in _PRESENCE and any(at.astimezone(clock).date() == day for at, _ in s.readings)
            ]
            if any(s.zone(m) == place for s, _ in eyes for m in within):
                found[place, slot] = _row(place, within, eyes, told, clock)
    return found


def stored(database: Database, site: str, day: date) -> Patterns:
    rows = database.query(
        "SELECT z.zone, p.time_slot, p.dwell_time_minutes, p.interaction_points, p.movement_pattern, p.comfort_level,"
        " p.preference_indicators, p.environmental_preferences FROM iot_service.user_behavior_patterns p"
        " JOIN iot_service.zones z USING (location_id) WHERE z.site = %s AND p.visit_date = %s AND p.user_id IS NULL",
        site,
        day,
    )
    names = ("dwell", "visits", "movement", "comfort", "indicators", "conditions")
    assert len({(zone, slot) for zone, slot, *_ in rows}) == len(rows)
    return {(zone, slot): dict(zip(names, rest, strict=True)) for zone, slot, *rest in rows}


def _around(day: date) -> list[datetime]:
    begins = datetime.combine(day, time(), UTC) - timedelta(hours=15)
    return [begins + n * MINUTE for n in range(54 * 60)]


def _slot(hour: int, slots: Slots) -> str | None:
    if not slots.morning <= hour < slots.end:
        return None
    return "morning" if hour < slots.afternoon else "afternoon" if hour < slots.evening else "evening"


def _values(series: Measured, minutes: Sequence[datetime]) -> dict[datetime, tuple[float, float]]:
    """What a series says in each minute in which it says anything: (average, maximum)."""
    buckets: dict[datetime, list[float]] = defaultdict(list)
    for at, value in sorted(series.readings):
        buckets[at.replace(second=0, microsecond=0)].append(value)
    told = {}
    held: datetime | None = None
    for minute in minutes:
        if minute in buckets:
            own = buckets[minute]
            told[minute] = (fmean(own), max(own))
            held = minute
        elif held is not None and minute - held <= 15 * MINUTE and series.placement(held) == series.placement(minute):
            last = buckets[held][-1]
            told[minute] = (last, last)
    return told


def _row(
    place: str,
    within: Sequence[datetime],
    eyes: Sequence[tuple[Measured, Mapping[datetime, tuple[float, float]]]],
    told: Sequence[tuple[Measured, Mapping[datetime, tuple[float, float]]]],
    clock: ZoneInfo,
) -> dict[str, Any]:
    def sees(kinds: set[str]) -> list[datetime]:
        return [
            m
            for m in within
            if any(s.quantity in kinds and s.zone(m) == place and v.get(m, (0, 0))[1] > 0 for s, v in eyes)
        ]

    present, moving = sees(_PRESENCE), sees(_MOTION)
    visits: list[list[datetime]] = []
    for minute in present:
        if visits and minute - visits[-1][-1] <= 5 * MINUTE:
            visits[-1].append(minute)
        else:
            visits.append([minute])
    lengths = [(v[-1] - v[0]) // MINUTE + 1 for v in visits]
    hours = Counter(m.astimezone(clock).hour for m in present)
    felt: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for s, values in told:
        if s.quantity not in _PRESENCE and s.quantity != "battery":
            for m in present:
                if s.zone(m) == place and m in values:
                    felt[s.quantity][s.unit].append(values[m][0])
    conditions = {}
    levels = []
    for quantity, units in felt.items():
        unit = min(units, key=lambda u: (-len(units[u]), u))
        average = fmean(units[unit])
        conditions[quantity] = {"avg": pytest.approx(average, abs=0.005001), "unit": unit}
        level = comfort(quantity, unit, average)
        levels += [] if level is None else [level]
    return {
        "dwell": len(present),
        "visits": len(visits),
        "movement": "none"
        if not present
        else "passing"
        if max(lengths) < 2
        else "moving"
        if len(moving) > len(present) / 2
        else "staying",
        "comfort": min(levels, default=None),
        "indicators": {
            "longest_visit_minutes": max(lengths, default=0),
            "average_visit_minutes": pytest.approx(fmean(lengths) if lengths else 0, abs=0.005001),
            "peak_hour": min(hours, key=lambda h: (-hours[h], h)) if hours else None,
            "share_of_slot_present": pytest.approx(len(present) / len(within), abs=0.00005001),
        },
        "conditions": conditions,
    }


# From level 5 down to 2: (least, most), both inclusive; outside all of them 1.
_BANDS: dict[tuple[str, str], list[tuple[float, float]]] = {
    ("temperature", "°C"): [(21, 25.5), (20, 26), (19, 27), (18, 28)],
    ("humidity", "%"): [(30, 50), (25, 60), (20, 70), (-1e9, 1e9)],
    ("co2", "ppm"): [(-1e9, 950), (-1e9, 1200), (-1e9, 1750), (-1e9, 5000)],
    ("noise", "dB"): [(-1e9, 45), (-1e9, 55), (-1e9, 70), (-1e9, 80)],
}


def comfort(quantity: str, unit: str, average: float) -> int | None:
    bands = _BANDS.get((quantity, unit))
    if bands is None:
        return None
    return next((5 - n for n, (least, most) in enumerate(bands) if least <= average <= most), 1)
