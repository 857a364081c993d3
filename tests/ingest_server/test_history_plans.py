"""What each question touches of a table of 14 months: read from the plan that was executed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from heal7_iot.simulate.backfill.load import Loader
from heal7_iot.simulate.backfill.plan import Backfill
from ingest_server.storage.connection import sql
from tests.peers.postgres import Database

BEGAN = datetime(2026, 10, 20, 12, tzinfo=UTC)
PLAN = Backfill("bench", 1, 5, 1 / 43_200, 0.1, 7, int(BEGAN.timestamp()) * 1_000_000, 400.0)
MONTHS = 14
DAY = timedelta(days=1)
IN_A_MONTH = datetime(2026, 5, 11, tzinfo=UTC)
AT_A_BORDER = datetime(2026, 4, 30, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Touched:
    """Partitions of readings and of minutes that were looked into."""

    readings: int
    minutes: int


NOTHING = Touched(0, 0)


def between(begin: datetime, length: timedelta) -> dict[str, object]:
    return {"from_at": begin, "to_at": begin + length, "reading_type": None}


def raw(begin: datetime, length: timedelta) -> dict[str, object]:
    return {**between(begin, length), "most": 1000}


YEAR = {"from_date": (BEGAN - 365 * DAY).date(), "to_date": BEGAN.date(), "reading_type": None}
CASES: list[tuple[str, Mapping[str, object], Touched]] = [
    ("queries/history_latest_of_device", {}, NOTHING),
    ("queries/history_latest_of_site", {"site": "bench"}, NOTHING),
    ("queries/history_raw_of_device", raw(IN_A_MONTH, DAY), Touched(1, 0)),
    ("queries/history_raw_of_device", raw(AT_A_BORDER, DAY), Touched(2, 0)),
    ("queries/history_raw_of_zone", raw(IN_A_MONTH, DAY), Touched(1, 0)),
    ("queries/history_raw_of_zone", raw(AT_A_BORDER, DAY), Touched(2, 0)),
    ("queries/history_hours_of_device", between(IN_A_MONTH, 30 * DAY), NOTHING),
    ("queries/history_hours_of_zone", between(IN_A_MONTH, DAY), NOTHING),
    ("queries/history_hours_of_zone", between(IN_A_MONTH + timedelta(minutes=20), DAY), Touched(0, 1)),
    ("queries/history_days_of_device", YEAR, NOTHING),
]
"""Statement, its values, what it may touch."""


def touched(plan: dict[str, Any]) -> Touched:
    nodes = [node for node in _nodes(plan) if node["Actual Loops"] > 0]
    tables = {node["Relation Name"] for node in nodes if "Relation Name" in node}
    return Touched(*(sum(t.startswith(name) for t in tables) for name in ("sensor_readings_", "rollup_1m_")))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def explained(connection: psycopg.Connection[Any], name: str, values: Mapping[str, object]) -> dict[str, Any]:
    cursor = connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + sql(name), values, prepare=True)
    row = cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


async def test_each_question_touches_the_partitions_of_its_time_alone(any_database: Database) -> None:
    """Also with a plan that was made without knowing the time, which PostgreSQL may keep for a prepared statement."""
    async with Loader.open(any_database.dsn, PLAN, "Asia/Seoul") as loader:
        written = [step.readings async for step in loader.run()]
    assert sum(written) == PLAN.readings
    # It serves for a part of the time: its history has its predecessor's in it.
    any_database.query(
        "INSERT INTO iot_service.device_successions SELECT 3, 4, %s", BEGAN - 200 * DAY + timedelta(minutes=30)
    )
    any_database.query("ANALYZE")
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'iot_service.sensor_readings'::regclass"
    assert any_database.one(months) == MONTHS
    with psycopg.connect(any_database.dsn, autocommit=True, options="-c timezone=UTC -c jit=off") as connection:
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name, values, expected in CASES:
                named = {"device_id": 1, "location_id": 1, **values}
                plan = explained(connection, name, named)
                assert touched(plan) == expected, (mode, name, values)
                assert "latest" in name or plan["Actual Rows"] > 0, (mode, name, values)
            # An hour in which one took over from the other is put together from minutes, of its month alone.
            for name, values, _ in CASES:
                if name in ("queries/history_hours_of_device", "history_days_of_device"):
                    wide = {**values, "device_id": 3, **({"from_at": BEGAN - 210 * DAY} if "from_at" in values else {})}
                    assert touched(explained(connection, name, wide)) == Touched(0, 1), (mode, name)
            everything = raw(BEGAN - 400 * DAY, 400 * DAY)
            plan = explained(connection, "queries/history_raw_of_device", {"device_id": 3, **everything})
            assert touched(plan).readings == MONTHS, "the count does count"


@pytest.mark.parametrize("view", ["device_lineage", "device_locations"])
async def test_who_asks_for_one_device_does_not_read_those_of_all_others(any_database: Database, view: str) -> None:
    plan = Backfill("bench", 2, 200, 1 / 86_400, 0.1, 7, int(BEGAN.timestamp()) * 1_000_000, 2.0)
    async with Loader.open(any_database.dsn, plan, None):
        pass
    any_database.query("ANALYZE")
    with psycopg.connect(any_database.dsn, autocommit=True, options="-c enable_seqscan=off") as connection:
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM iot_service.{view} WHERE device_id = 77"
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    rows = [node["Actual Rows"] * node["Actual Loops"] for node in _nodes(row[0][0]["Plan"])]
    assert max(rows) <= 2
