"""How people use a zone: equal to brute force, one row a day and slot, whatever comes late, moves or is erased."""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from device_drivers.reading import Series
from ingest_server.config import PatternsOptions
from ingest_server.storage.connection import connect, transaction
from ingest_server.storage.erasure import erasing
from ingest_server.storage.keeping.patterns import Slots, derive
from ingest_server.storage.keeping.rollups import refresh, refresh_all
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.registry import places
from ingest_server.storage.schema.migrations import migrate
from tests.ingest_server.line import open_writer, until_waiting_for_a_lock
from tests.ingest_server.pattern_oracle import Measured, brute_force, comfort, stored
from tests.ingest_server.rollup_oracle import us_of
from tests.peers.postgres import Database

_sites = itertools.count(1)

SPRING, AUTUMN = date(2025, 3, 30), date(2025, 10, 26)
DAYS = [SPRING, AUTUMN, date(2024, 2, 29), date(2024, 12, 31)]
ZONES = ["UTC", "Asia/Seoul", "Europe/Berlin", "Asia/Kathmandu", "America/Havana"]
LATER = datetime(2025, 12, 31, tzinfo=UTC)

CHANNELS = {
    "door": [("presence", ""), ("battery", "%")],
    "ceiling": [("motion", ""), ("temperature", "°C")],
    "wall": [("temperature", "°C"), ("temperature", "°F"), ("co2", "ppm"), ("humidity", "%")],
}
SERIES = [
    Series(device, f"{quantity}{n}", quantity, unit, "p/1", "1")
    for device, channels in CHANNELS.items()
    for n, (quantity, unit) in enumerate(channels)
]
PRESENCE, BATTERY, MOTION, WARM, TEMPERATURE, _, CO2, _ = range(len(SERIES))


@dataclass
class Center:
    """A site of its own, with what was written there and where its devices were placed."""

    database: Database
    writer: Writer
    site: str
    zone: str
    ids: list[int]
    readings: dict[int, list[tuple[datetime, float]]] = field(default_factory=lambda: defaultdict(list))
    placements: dict[str, dict[datetime, str | None]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    async def made(cls, database: Database, writer: Writer, zone: str) -> "Center":
        site = f"site-{next(_sites)}"
        table = await writer.catalogue.table(f"{site}/gw", SERIES, 0.0)
        await places.set_time_zone(writer.connection, site, zone)
        return cls(database, writer, site, zone, table.ids.tolist())

    async def place(self, device: str, zone: str | None, since: datetime) -> None:
        await places.place(self.writer.connection, self.site, device, zone, None, since)
        self.placements[device][since] = zone

    async def write(self, *readings: tuple[int, datetime, float]) -> None:
        times = np.array([us_of(at) for _, at, _ in readings], dtype=np.int64)
        ids = np.array([self.ids[n] for n, _, _ in readings], dtype=np.int32)
        zeros = np.zeros(len(ids), dtype=np.int32)
        rows = Rows(times, ids, np.array([v for _, _, v in readings]), zeros + 100, zeros)
        await self.writer.partitions.ensure(self.writer.connection, times)
        await self.writer.catalogue.rules.follow(self.writer.connection)
        async with transaction(self.writer.connection):
            await copy_rows(self.writer.connection, [rows], self.writer.catalogue.rules.number)
        for n, at, value in readings:
            self.readings[n].append((at, value))

    async def refresh(self) -> None:
        await refresh_all(self.writer.connection)

    async def derive(self, slots: Slots | None = None, now: datetime = LATER) -> int:
        await self.refresh()
        return await derive(self.writer.connection, slots or Slots(), now)

    def measured(self) -> list[Measured]:
        return [
            Measured(s.quantity, s.unit, self.readings[n], sorted(self.placements[s.device].items()))
            for n, s in enumerate(SERIES)
        ]

    def expected(self, day: date, slots: Slots | None = None, now: datetime = LATER) -> Any:
        return brute_force(self.measured(), self.zone, day, slots or Slots(), now)

    def stored(self, day: date) -> Any:
        return stored(self.database, self.site, day)

    def versions(self) -> list[tuple[Any, ...]]:
        return self.database.query("SELECT xmin::text, pattern_id FROM iot_service.user_behavior_patterns ORDER BY 2")


_MINUTES = st.integers(-60, 25 * 60 + 60)
_READINGS = st.lists(
    st.tuples(
        st.integers(0, len(SERIES) - 1),
        # Close together now and then: visits, and two readings of one minute.
        st.one_of(_MINUTES, st.integers(700, 760)),
        st.integers(0, 59),
        st.sampled_from([0.0, 1.0, 1.0, 19.25, 22.5, 26.75, 800.0]),
    ),
    min_size=1,
    max_size=60,
)
_PLACEMENTS = st.lists(
    st.tuples(st.sampled_from(sorted(CHANNELS)), st.sampled_from(["a", "b", None]), _MINUTES, st.integers(0, 59)),
    max_size=6,
)
_SLOTS = st.sets(st.integers(0, 24), min_size=4, max_size=4).map(lambda hours: Slots(*sorted(hours)))


async def play(
    database: Database,
    day: date,
    zone: str,
    parts: list[list[tuple[int, int, int, float]]],
    moves: list[tuple[str, str | None, int, int]],
    slots: Slots,
    now_minute: int,
) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    now = midnight + timedelta(minutes=now_minute)
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, zone)
        for device in CHANNELS:
            await center.place(device, "a", midnight - timedelta(days=2))
        for part in parts:
            readings = {(n, midnight + timedelta(minutes=m, seconds=s)): value for n, m, s, value in part}
            await center.write(*((n, at, value) for (n, at), value in readings.items()))
            await center.derive(slots, now)
        for device, place, minute, second in moves:
            await center.place(device, place, midnight + timedelta(minutes=minute, seconds=second))
        await center.derive(slots, now)
        for near in (day - timedelta(days=1), day, day + timedelta(days=1)):
            assert center.stored(near) == center.expected(near, slots, now)
        await center.derive(slots, LATER)
        for near in (day - timedelta(days=1), day, day + timedelta(days=1)):
            assert center.stored(near) == center.expected(near, slots)
        assert database.query("SELECT FROM iot_service.changed_days WHERE site = %s", center.site) == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(DAYS),
    st.sampled_from(ZONES),
    st.lists(_READINGS, min_size=1, max_size=2),
    _PLACEMENTS,
    _SLOTS,
    st.integers(-60, 3000),
)
def test_patterns_equal_brute_force(
    every_database: Database,
    day: date,
    zone: str,
    parts: list[list[tuple[int, int, int, float]]],
    moves: list[tuple[str, str | None, int, int]],
    slots: Slots,
    now_minute: int,
) -> None:
    asyncio.run(play(every_database, day, zone, parts, moves, slots, now_minute))


def at(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)


async def test_visits_movement_comfort_and_conditions(database: Database) -> None:
    """A morning by hand: the rules of docs/patterns.md in numbers."""
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "UTC")
        for device in CHANNELS:
            await center.place(device, "hall", at(SPRING, 0))
        await center.write(
            # Reported on change: there from 8:00 to 8:10, its minute of leaving has only a zero.
            (PRESENCE, at(SPRING, 8, 0), 1.0),
            (PRESENCE, at(SPRING, 8, 10), 0.0),
            # 8:10 to 8:14 are five minutes without: another visit; then it is silent, and believed until 8:30.
            (PRESENCE, at(SPRING, 8, 15, 59), 1.0),
            (PRESENCE, at(SPRING, 11, 0), 0.0),
            # Sees motion in less than half of it.
            (MOTION, at(SPRING, 8, 0), 1.0),
            (MOTION, at(SPRING, 8, 5), 0.0),
            # 8:00 to 8:09, and 8:15 to 8:23: 19 minutes of 20.0, 7 of 24.0.
            (TEMPERATURE, at(SPRING, 8, 0), 20.0),
            (TEMPERATURE, at(SPRING, 8, 12), 20.0),
            (TEMPERATURE, at(SPRING, 8, 24), 24.0),
            (CO2, at(SPRING, 7, 50), 1300.0),
            (BATTERY, at(SPRING, 8, 0), 90.0),
        )
        assert await center.derive() == 1
        found = center.stored(SPRING)
        assert found == center.expected(SPRING)
        hall = found["hall", "morning"]
        assert hall == {
            "dwell": 26,
            "visits": 2,
            "movement": "staying",
            # CO2 in category III is worse than temperature in II.
            "comfort": 3,
            "indicators": {
                "longest_visit_minutes": 16,
                "average_visit_minutes": 13,
                "peak_hour": 8,
                "share_of_slot_present": 0.0722,
            },
            "conditions": {
                "temperature": {"avg": pytest.approx((19 * 20 + 7 * 24) / 26, abs=0.005), "unit": "°C"},
                "co2": {"avg": 1300, "unit": "ppm"},
            },
        }
        assert found["hall", "evening"] == {
            "dwell": 0,
            "visits": 0,
            "movement": "none",
            "comfort": None,
            "indicators": {
                "longest_visit_minutes": 0,
                "average_visit_minutes": 0,
                "peak_hour": None,
                "share_of_slot_present": 0,
            },
            "conditions": {},
        }
        # Motion most of the time; then a glance.
        await center.write((MOTION, at(SPRING, 8, 7), 1.0))
        await center.derive()
        assert center.stored(SPRING)["hall", "morning"]["movement"] == "moving"
        await center.write((PRESENCE, at(SPRING, 13), 1.0), (PRESENCE, at(SPRING, 13, 1), 0.0))
        await center.derive()
        found = center.stored(SPRING)
        assert found == center.expected(SPRING)
        assert found["hall", "afternoon"]["movement"] == "passing"


@pytest.mark.parametrize(
    ("quantity", "unit", "edges", "distinct"),
    [
        ("temperature", "°C", [17.75, 18, 19, 20, 21, 25.5, 25.75, 26.25, 27.25, 28.25], 5),
        ("humidity", "%", [19, 20, 25, 30, 50, 51, 61, 71], 4),
        ("co2", "ppm", [950, 951, 1201, 1751, 5001], 5),
        ("noise", "dB", [45, 46, 56, 71, 81], 5),
        ("temperature", "°F", [70], 1),
        ("pressure", "hPa", [1013], 1),
    ],
)
async def test_comfort_by_its_bands(
    database: Database, quantity: str, unit: str, edges: list[float], distinct: int
) -> None:
    """A zone for each value, in one day."""
    async with open_writer(database) as writer:
        site = f"site-{next(_sites)}"
        series = [
            Series(f"d{n}", channel, kind, of, "p/1", "1")
            for n in range(len(edges))
            for channel, kind, of in (("see", "presence", ""), ("feel", quantity, unit))
        ]
        center = Center(
            database, writer, site, "UTC", (await writer.catalogue.table(f"{site}/g", series, 0.0)).ids.tolist()
        )
        for n, value in enumerate(edges):
            await center.place(f"d{n}", f"z{n}", at(SPRING, 0))
            await center.write((2 * n, at(SPRING, 9), 1.0), (2 * n + 1, at(SPRING, 9), value))
        await center.derive()
        found = center.stored(SPRING)
        levels = [found[f"z{n}", "morning"]["comfort"] for n in range(len(edges))]
        assert levels == [comfort(quantity, unit, value) for value in edges]
        assert len(set(levels)) == distinct


async def test_a_device_that_moves_takes_its_presence_with_it(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "UTC")
        await center.place("door", "a", at(SPRING, 0))
        await center.write(*((PRESENCE, at(SPRING, 9, minute), 1.0) for minute in range(0, 60, 10)))
        await center.derive()
        assert {zone for zone, _ in center.stored(SPRING)} == {"a"}
        # Between two minutes, and then away before noon.
        await center.place("door", "b", at(SPRING, 9, 30, 30))
        await center.place("door", None, at(SPRING, 11))
        assert await center.derive() == 1
        found = center.stored(SPRING)
        assert found == center.expected(SPRING)
        assert {key: row["dwell"] for key, row in found.items()} == {("a", "morning"): 31, ("b", "morning"): 26}


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 5), (AUTUMN, 7)])
async def test_berlins_odd_days(database: Database, day: date, hours: int) -> None:
    """A slot from midnight to six has five hours, or seven."""
    slots = Slots(0, 6, 12, 24)
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "Europe/Berlin")
        await center.place("door", "a", at(day, 0) - timedelta(days=1))
        begins = at(day, 0) - timedelta(hours=1 if day is SPRING else 2)
        await center.write(*((PRESENCE, begins + timedelta(minutes=n), 1.0) for n in range(25 * 60)))
        await center.derive(slots)
        found = center.stored(day)
        assert found == center.expected(day, slots)
        assert found["a", "morning"]["dwell"] == 60 * hours
        assert found["a", "morning"]["indicators"]["share_of_slot_present"] == 1
        assert found["a", "morning"]["indicators"]["peak_hour"] == (0 if day is SPRING else 2)


async def test_late_data_and_reruns_give_one_row_and_touch_what_changed(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "Asia/Seoul")
        await center.place("door", "a", at(SPRING, 0) - timedelta(days=2))
        await center.write((PRESENCE, at(SPRING, 1), 1.0), (PRESENCE, at(SPRING, 1, 5), 0.0))
        await center.derive()
        before = center.versions()
        assert await center.derive() == 0
        # Marked again, and nothing changed: no row is written.
        await center.place("wall", "a", at(SPRING, 0))
        await center.write((BATTERY, at(SPRING, 1), 80.0))
        assert await center.derive() == 1
        assert center.versions() == before
        await center.write((PRESENCE, at(SPRING, 4), 1.0))
        await center.derive()
        assert center.stored(SPRING) == center.expected(SPRING)
        changed = set(center.versions()) ^ set(before)
        assert len(changed) == 2
        assert {pattern for _, pattern in changed} <= {pattern for _, pattern in before}


async def test_a_day_that_is_not_over_stays_marked(database: Database) -> None:
    """Its evening has no row before it begins, and gets one though nothing more is read."""
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "UTC")
        await center.place("door", "a", at(SPRING, 0))
        await center.write((PRESENCE, at(SPRING, 12, 30), 1.0))
        for now, slots in ((at(SPRING, 12, 35), 2), (at(SPRING, 18), 3), (LATER, 3)):
            assert await center.derive(now=now) == 1
            assert center.stored(SPRING) == center.expected(SPRING, now=now)
            assert len(center.stored(SPRING)) == slots
        assert await center.derive() == 0


async def test_days_before_the_horizon_stay_as_they_are(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "Europe/Berlin")
        await center.place("door", "a", at(SPRING, 0) - timedelta(days=9))
        await center.write((PRESENCE, at(SPRING, 12), 1.0), (PRESENCE, at(SPRING, 12) + timedelta(days=1), 1.0))
        await center.derive()
        before = center.stored(SPRING)
        # The horizon lies within the first of them.
        database.query("UPDATE iot_service.raw_horizon SET begins = %s", at(SPRING, 3))
        database.query("DELETE FROM iot_service.rollup_1m WHERE bucket < %s", at(SPRING, 13))
        await center.place("door", "b", at(SPRING, 0) - timedelta(days=8))
        assert await center.derive() == 1
        assert center.stored(SPRING) == before
        assert {zone for zone, _ in center.stored(SPRING + timedelta(days=1))} == {"b"}


async def test_an_erasure_takes_what_was_derived_with_it(every_database: Database) -> None:
    """At once: not only with the next derivation. Beyond the horizon, too, where there is none."""
    async with open_writer(every_database) as writer:
        center = await Center.made(every_database, writer, "Asia/Seoul")
        await center.place("door", "a", at(SPRING, 0) - timedelta(days=9))
        await center.place("ceiling", "b", at(SPRING, 0) - timedelta(days=9))
        days = [SPRING + timedelta(days=n) for n in range(3)]
        await center.write(*((n, at(day, 3), 1.0) for day in days for n in (PRESENCE, MOTION)))
        await center.derive()
        assert all({z for z, _ in center.stored(day)} == {"a", "b"} for day in days)
        every_database.query("UPDATE iot_service.raw_horizon SET begins = %s", at(days[1], 0) - timedelta(hours=9))
        scope = erasing.Scope(center.site, "a", None, at(SPRING, 0), at(days[1], 3, 1))
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="asked for", by="test")
        assert await erasing.carry_out(writer.connection, erasure_id) == 2
        assert [{z for z, _ in center.stored(day)} for day in days] == [{"b"}, {"b"}, {"a", "b"}]
        # What is left of a day comes back; a day of which nothing is left does not.
        center.readings[PRESENCE] = [r for r in center.readings[PRESENCE] if r[0] > at(days[1], 4)]
        await center.write((PRESENCE, at(days[1], 5), 1.0))
        await center.derive()
        assert center.stored(days[1]) == center.expected(days[1])
        assert ("a", "morning") in center.stored(days[1])
        assert {z for z, _ in center.stored(SPRING)} == {"b"}


async def test_another_time_zone_moves_days(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "Asia/Seoul")
        await center.place("door", "a", at(SPRING, 0) - timedelta(days=9))
        await center.write((PRESENCE, at(SPRING, 22), 1.0))
        await center.derive()
        assert center.stored(SPRING + timedelta(days=1))
        await places.set_time_zone(writer.connection, center.site, "UTC")
        center.zone = "UTC"
        await center.derive()
        assert center.stored(SPRING) == center.expected(SPRING) != {}
        assert center.stored(SPRING + timedelta(days=1)) == {}


async def test_a_mark_waits_for_what_it_is_set_for(any_database: Database) -> None:
    """A refresh and a placement that find the mark set, and have not committed: taken then, it would be lost."""
    async with open_writer(any_database) as writer:
        center = await Center.made(any_database, writer, "UTC")
        await center.place("door", "a", at(SPRING, 0))
        await center.write((PRESENCE, at(SPRING, 9), 1.0), (PRESENCE, at(SPRING, 9, 1), 0.0))
        await center.refresh()
        other = await connect(any_database.dsn, "test", 30)
        try:
            for change in ("readings", "placement"):
                if change == "readings":
                    await center.write((PRESENCE, at(SPRING, 10), 1.0))
                async with transaction(writer.connection):
                    if change == "readings":
                        await refresh(writer.connection)
                    else:
                        await center.place("door", "b", at(SPRING, 8))
                    deriving = asyncio.create_task(derive(other, Slots(), at(SPRING, 23)))
                    await until_waiting_for_a_lock(any_database)
                assert await deriving == 1
                assert center.stored(SPRING) == center.expected(SPRING, now=at(SPRING, 23))
        finally:
            await other.close()


async def test_derivations_at_once_give_one_row(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "UTC")
        await center.place("door", "a", at(SPRING, 0))
        days = [SPRING + timedelta(days=n) for n in range(8)]
        await center.write(*((PRESENCE, at(day, 9, minute), 1.0) for day in days for minute in (0, 20, 40)))
        await center.refresh()
        others = [await connect(database.dsn, "test", 30) for _ in range(4)]
        try:
            derived = await asyncio.gather(*(derive(other, Slots(), LATER) for other in others))
        finally:
            for other in others:
                await other.close()
        assert sum(derived) == len(days)
        for day in days:
            assert center.stored(day) == center.expected(day)


@pytest.mark.parametrize("key", ["uuid", "bigint", None])
async def test_the_platforms_users_are_referenced_where_there_are_any(
    any_empty_database: Database, key: str | None
) -> None:
    database = any_empty_database
    if key is not None:
        database.query(f"CREATE TABLE public.users (account {key} PRIMARY KEY, name text)")
    connection = await connect(database.dsn, "test", 30)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    column = database.one(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'iot_service.user_behavior_patterns'::regclass AND attname = 'user_id'"
    )
    assert column == (key or "uuid")
    database.query("INSERT INTO iot_service.zones (site, zone) VALUES ('s', 'z')")
    one = "'00000000-0000-0000-0000-000000000001'" if column == "uuid" else "1"
    row = (
        "INSERT INTO iot_service.user_behavior_patterns (user_id, location_id, visit_date, time_slot,"
        " dwell_time_minutes, interaction_points, movement_pattern, preference_indicators, environmental_preferences)"
        f" VALUES ({one}, 1, '2025-01-01', 'morning', 1, 1, 'passing', '{{}}', '{{}}')"
    )
    if key is not None:
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            database.query(row)
        database.query(f"INSERT INTO public.users VALUES ({one})")
    # A user's rows beside each other: only anonymous ones are one a day.
    database.query(row)
    database.query(row)


async def test_rows_that_name_a_user_are_the_platforms(database: Database) -> None:
    async with open_writer(database) as writer:
        center = await Center.made(database, writer, "UTC")
        await center.place("door", "a", at(SPRING, 0))
        await center.write((PRESENCE, at(SPRING, 9), 1.0))
        await center.derive()
        database.query(
            "INSERT INTO iot_service.user_behavior_patterns (user_id, location_id, visit_date, time_slot,"
            " dwell_time_minutes, interaction_points, movement_pattern, preference_indicators,"
            " environmental_preferences)"
            " SELECT gen_random_uuid(), location_id, visit_date, time_slot, 7, 1, 'passing', '{}', '{}'"
            " FROM iot_service.user_behavior_patterns"
        )
        await center.place("door", None, at(SPRING, 0))
        await center.derive()
        assert center.stored(SPRING) == {}
        assert database.one("SELECT count(*) FROM iot_service.user_behavior_patterns") == 3


@pytest.mark.parametrize("hours", [(12, 6, 18, 24), (6, 6, 12, 24), (-1, 6, 12, 24), (6, 12, 18, 25)])
def test_hours_that_do_not_ascend_are_refused(hours: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="ascend, from 0 to 24"):
        Slots(*hours)
    with pytest.raises(ValidationError, match="ascend, from 0 to 24"):
        PatternsOptions.model_validate(dict(zip(("morning", "afternoon", "evening", "end"), hours, strict=True)))


def test_the_files_hours_are_those_of_slots() -> None:
    assert PatternsOptions().slots == Slots()
