"""`heal7-iot history` as a person and as a program use it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.reading import Causes
from heal7_iot.simulate.backfill.load import Loader
from heal7_iot.simulate.backfill.plan import Backfill
from tests.ingest_server.command_line import Said, run
from tests.ingest_server.line import NOW_US, SECOND, data, reading, settle
from tests.peers.postgres import Database

END = datetime(2026, 11, 20, 15, tzinfo=UTC)
"""Midnight in Seoul."""
PLAN = Backfill("seoul-1", 1, 9, 1 / 600, 0.1, 7, int(END.timestamp()) * 1_000_000, 3.0)
DEVICE, MOVED, ROOM = "seoul-1/sim-0001-s001", "seoul-1/sim-0001-s002", "seoul-1/sim-0001-room-01"
PERIOD = ("--from", "2026-11-19", "--to", "2026-11-20")


@pytest.fixture
def filled(database: Database) -> Database:
    async def fill() -> None:
        async with Loader.open(database.dsn, PLAN, "Asia/Seoul") as loader:
            async for _ in loader.run():
                pass

    asyncio.run(fill())
    return database


def test_what_was_measured_for_programs(filled: Database, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(*arguments: str) -> object:
        said = run(capsys, "history", *arguments, "--dsn", filled.dsn, "--json")
        assert (said.code, said.err) == (0, "")
        return said.json

    latest = asked("latest", DEVICE)
    assert isinstance(latest, list)
    assert [row["reading_type"] for row in latest] == ["co2", "humidity", "illuminance", "presence", "temperature"]
    newest = datetime.fromisoformat(latest[0]["recorded_at"])
    assert newest.utcoffset() == timedelta(hours=9)
    assert END - timedelta(minutes=10) <= newest < END
    of_site = asked("latest", "seoul-1")
    assert isinstance(of_site, list)
    assert len(of_site) == 45

    page = asked("raw", DEVICE, *PERIOD, "--limit", "100")
    assert isinstance(page, dict)
    rest = asked("raw", DEVICE, "--from", page["next_from"], "--to", "2026-11-20", "--limit", "1000")
    assert isinstance(rest, dict)
    assert rest["next_from"] is None
    times = [datetime.fromisoformat(row["recorded_at"]) for row in page["readings"] + rest["readings"]]
    assert len(times) == 144 * 5
    assert times == sorted(times)
    # Days by Seoul's clock.
    assert END - timedelta(hours=48) <= times[0] <= times[-1] < END - timedelta(hours=24)

    hours = asked("hours", DEVICE, *PERIOD, "--type", "co2")
    assert isinstance(hours, list)
    assert [row["hour"] for row in hours] == [f"2026-11-19T{hour:02d}:00:00+09:00" for hour in range(24)]
    assert {row["reading_count"] for row in hours} == {6}
    also = asked("hours", DEVICE, "--from", "2026-11-18T15:00Z", "--to", "2026-11-19T15:00+00:00", "--type", "co2")
    assert also == hours

    days = asked("days", DEVICE, "--from", "2026-11-18", "--to", "2026-11-20", "--type", "co2")
    assert isinstance(days, list)
    assert [(row["reading_date"], row["reading_count"]) for row in days] == [
        (f"2026-11-{day}", 144) for day in (18, 19, 20)
    ]

    # At noon of the second day one of its four moved out.
    zone = asked("zone", ROOM, "--date", "2026-11-19", "--type", "co2")
    assert isinstance(zone, list)
    assert sum(row["reading_count"] for row in zone) == 3 * 144 + 72
    assert sum(row["reading_count"] for row in zone if f"seoul-1/{row['device']}" == MOVED) == 72
    raw = asked("zone", ROOM, "--date", "2026-11-19", "--type", "co2", "--raw")
    assert isinstance(raw, dict)
    assert len(raw["readings"]) == 3 * 144 + 72
    part = asked("zone", ROOM, *PERIOD, "--type", "co2")
    assert part == zone


def test_what_was_measured_for_a_person(filled: Database, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> str:
        return run(capsys, "history", *arguments, "--dsn", filled.dsn).out

    assert "sim-0001-room-01" in shown("latest", DEVICE)
    assert "2026-11-19T07:00:00+09:00" in shown("hours", DEVICE, *PERIOD)
    assert "2026-11-19" in shown("days", DEVICE, "--from", "2026-11-19", "--to", "2026-11-19")
    assert "wall 2" in shown("zone", ROOM, "--date", "2026-11-19")
    assert "at that time" in shown("zone", ROOM, "--date", "2020-01-01")
    said = run(capsys, "history", "raw", DEVICE, *PERIOD, "--limit", "5", "--dsn", filled.dsn)
    assert "there may be more: --from 2026-11-19T00:" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["latest", "seul-1"], 1, "no site seul-1 (is it seoul-1?)"),
        (["latest", "seoul-1/sim-001-s001"], 1, "sim-0001-s001"),
        (["raw", "seoul-1/nobody"], 1, "no device nobody at site seoul-1; see `heal7-iot devices list`"),
        (["raw", "seoul-1"], 2, "write SITE/DEVICE"),
        (["hours", DEVICE, "--from", "yesterday"], 2, "--from: 'yesterday' is no time: write 2026"),
        (["hours", DEVICE, "--from", "2026-11-20", "--to", "2026-11-19"], 2, "is not before --to 2026-11-19T00:00:00+"),
        (["raw", DEVICE, "--from", "0001-01-01"], 2, "--from: nothing was measured in the year 1"),
        (["raw", DEVICE, "--to", "0001-01-01"], 2, "--to: nothing was measured in the year 1"),
        (["zone", ROOM, "--date", "9999-12-31"], 2, "--date: nothing was measured in the year 9999"),
        (["days", DEVICE, "--from", "2026-13-01"], 2, "--from: '2026-13-01' is no day"),
        (["days", DEVICE, "--from", "2026-11-02", "--to", "2026-11-01"], 2, "--to: 2026-11-01 is before"),
        (["zone", "seoul-1/sim-0001-room-9"], 1, "or sim-0001-room-01?)"),
        (["zone", ROOM, "--date", "2026-11-20", "--from", "2026-11-20"], 2, "--date"),
        (["raw", DEVICE, "--dsn", "host=/nowhere dbname=x"], 1, "database: "),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, told: str, filled: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = [] if "--dsn" in arguments else ["--dsn", filled.dsn]
    said = run(capsys, "history", *arguments, *dsn)
    assert said.code == code
    (line,) = said.err.strip().splitlines()
    assert told in line


async def test_why_a_reading_is_doubtful_is_said_by_name(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words for a person, in a list for a program; a table in which all is well has no such column."""
    doubtful = [
        replace(reading(20.5, NOW_US - 2 * SECOND), reliability=30, causes=Causes.STUCK | Causes.WARMING_UP),
        reading(20.75, NOW_US - SECOND),
    ]
    await settle(database, data(0, doubtful))
    begin = datetime.fromtimestamp(NOW_US / 1e6 - 10, UTC).isoformat()
    end = datetime.fromtimestamp(NOW_US / 1e6, UTC).isoformat()

    def asked(*more: str, begin: str = begin) -> Said:
        wanted = ("raw", f"seoul-1/{doubtful[0].series.device}", "--from", begin, "--to", end, *more)
        return run(capsys, "history", *wanted, "--dsn", database.dsn)

    said = await asyncio.to_thread(asked, "--json")
    assert isinstance(said.json, dict)
    assert [row["causes"] for row in said.json["readings"]] == [["warming_up", "stuck"], []]
    assert "warming_up, stuck" in (await asyncio.to_thread(asked)).out
    later = datetime.fromtimestamp(NOW_US / 1e6 - 1, UTC).isoformat()
    assert "causes" not in (await asyncio.to_thread(asked, begin=later)).out
