"""History that was never sent: realistic, the same for the same seed, and accounted for like what is sent."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from heal7_iot.cli import EXIT_MISSING_EXTRA, main
from heal7_iot.simulate.backfill.course import Course
from heal7_iot.simulate.backfill.load import Loader
from heal7_iot.simulate.backfill.plan import MOST_SERIES, QUANTITIES, Backfill
from heal7_iot.simulate.errors import CannotSimulate
from ingest_server.storage.connection import connect
from ingest_server.storage.erasure import erasing
from ingest_server.storage.line.ledger import read_books
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.registry import places
from tests.contracts.sources import ROOT
from tests.contracts.test_extras import WITHOUT
from tests.heal7_iot.simulate.test_command import EXIT_USAGE, said
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.peers.postgres import Database

SEOUL = ZoneInfo("Asia/Seoul")
SUNDAY = datetime(2026, 11, 22, tzinfo=SEOUL)
PLAN = Backfill("sim", 2, 9, 1 / 300, 0.1, 7, int(SUNDAY.timestamp()) * 1_000_000 + 86_400_000_000, 14.0)


def course(plan: Backfill = PLAN) -> Course:
    ids = np.arange(plan.series, dtype=np.int32).reshape(-1, len(QUANTITIES))
    return Course(plan, ids, SEOUL)


def columns(rows: Rows, quantity: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hour of the day and day of the week (0: Monday) in Seoul, and values, of one quantity."""
    mine = rows.where(rows.series_ids % len(QUANTITIES) == [q for q, _ in QUANTITIES].index(quantity))
    local_s = mine.times_us // 1_000_000 + 9 * 3600
    return local_s % 86_400 / 3600, (local_s // 86_400 + 3) % 7, mine.values


def everything() -> Rows:
    return Rows.joined(course().block(0, PLAN.slots))


def test_the_same_is_said_however_it_is_cut() -> None:
    whole = everything().by_series()
    cut = [
        part for first, slots in ((0, 1), (1, 500), (501, PLAN.slots - 501)) for part in course().block(first, slots)
    ]
    again = Rows.joined(cut).by_series()
    assert np.array_equal(whole.times_us, again.times_us)
    assert np.array_equal(whole.values, again.values)
    other = Rows.joined(course(replace(PLAN, seed=8)).block(0, PLAN.slots)).by_series()
    assert not np.array_equal(whole.values, other.values)


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.49])
def test_each_series_is_in_the_order_of_its_times_and_within_the_period(jitter: float) -> None:
    plan = replace(PLAN, jitter=jitter)
    rows = Rows.joined(course(plan).block(0, plan.slots))
    assert len(rows) == plan.readings
    assert plan.from_us <= rows.times_us.min() <= rows.times_us.max() < plan.to_us
    for series in range(plan.series):
        assert (np.diff(rows.times_us[rows.series_ids == series]) > 0).all()


def test_a_block_is_bounded() -> None:
    for plan in (PLAN, replace(PLAN, rate=0.0001), replace(PLAN, gateways=1_000, sensors=20, rate=1.0)):
        blocks = list(plan.blocks())
        assert sum(slots for _, slots in blocks) == plan.slots
        assert max(slots for _, slots in blocks) * plan.series <= 100_000


def test_nobody_is_there_while_it_is_closed() -> None:
    hour, _, values = columns(everything(), "presence")
    assert set(values.tolist()) == {0.0, 1.0}
    assert not values[(hour < 10) | (hour > 20)].any()
    assert values[(hour > 13) & (hour < 17)].mean() > 0.2


def test_weekends_are_busier_and_rooms_notice() -> None:
    rows = everything()
    for quantity in ("presence", "co2"):
        hour, day, values = columns(rows, quantity)
        noon = (hour > 12) & (hour < 18)
        assert values[noon & (day >= 5)].mean() > 1.2 * values[noon & (day < 5)].mean() > 0
    hour, _, co2 = columns(rows, "co2")
    assert 380 < co2[hour < 9].mean() < 450 < co2[(hour > 14) & (hour < 16)].mean()
    hour, _, lux = columns(rows, "illuminance")
    assert lux[(hour > 22) | (hour < 5)].max() < 20 < 300 < lux[(hour > 11) & (hour < 13)].mean()


@pytest.mark.parametrize(("quantity", "least", "most"), [("temperature", 15, 30), ("humidity", 20, 80)])
def test_a_year_stays_within_what_rooms_are(quantity: str, least: float, most: float) -> None:
    plan = replace(PLAN, days=365.0, rate=1 / 7200)
    _, _, values = columns(Rows.joined(course(plan).block(0, plan.slots)), quantity)
    assert least < values.min() < values.max() < most
    assert values.max() - values.min() > 4


def test_opening_hours_follow_the_sites_clock() -> None:
    """Berlin's clock goes back on that Sunday: it opens at 09:00 UTC then, and the day before at 08:00."""
    end = int(datetime(2026, 10, 26, tzinfo=UTC).timestamp()) * 1_000_000
    plan = replace(PLAN, to_us=end, days=2.0, gateways=20, rate=1 / 60)
    berlin = Course(plan, np.arange(plan.series, dtype=np.int32).reshape(-1, 5), ZoneInfo("Europe/Berlin"))
    rows = Rows.joined(berlin.block(0, plan.slots))
    there = rows.where((rows.series_ids % 5 == 4) & (rows.values == 1))
    for day, opens in ((24, 8), (25, 9)):
        begins_us = int(datetime(2026, 10, day, tzinfo=UTC).timestamp()) * 1_000_000
        hours = (there.times_us - begins_us) / 3.6e9
        assert opens <= hours[hours >= 0].min() < opens + 1.5


async def test_what_is_written_is_accounted_for(any_database: Database) -> None:
    plan = replace(PLAN, days=2.0)
    async with Loader.open(any_database.dsn, plan, "Asia/Seoul") as loader:
        steps = [step async for step in loader.run()]
    assert sum(step.readings for step in steps) == plan.readings == 2 * 288 * 90
    assert any_database.one("SELECT count(*) FROM iot_service.sensor_readings") == plan.readings
    connection = await connect(any_database.dsn, "test", 30)
    try:
        books = await read_books(connection)
    finally:
        await connection.close()
    assert [(b.gateway, b.committed, b.sealed, b.balanced) for b in books] == [
        (f"sim/sim-{n:04d}", plan.readings // 2, plan.readings // 2, True) for n in (1, 2)
    ]
    assert any_database.one("SELECT count(*) FROM iot_service.rollup_log") == 0
    ids = [row[0] for row in any_database.query("SELECT series_id FROM iot_service.series")]
    expected, found = brute_force(any_database, ids, "Asia/Seoul"), stored(any_database, ids)
    for level in ("minutes", "hours", "days", "site_days"):
        of_level = getattr(found, level)
        assert of_level.keys() == getattr(expected, level).keys()
        for key, bucket in getattr(expected, level).items():
            # Sums of such values depend on their order by what rounding leaves.
            assert replace(of_level[key], total=0) == replace(bucket, total=0)
            assert of_level[key].total == pytest.approx(bucket.total)
    newest = "SELECT max(recorded_at) FROM iot_service."
    assert any_database.one(newest + "series_latest") == any_database.one(newest + "sensor_readings")
    moved = any_database.query(
        "SELECT zone, valid_from FROM iot_service.device_locations JOIN iot_service.iot_devices USING (device_id)"
        " WHERE device = 'sim-0001-s002' ORDER BY valid_from"
    )
    begins = SUNDAY - timedelta(days=1)
    assert moved == [("sim-0001-room-01", begins), ("sim-0001-room-02", begins + timedelta(days=1))]


async def test_a_period_that_has_readings_is_refused(database: Database) -> None:
    plan = replace(PLAN, days=0.25)
    async with Loader.open(database.dsn, plan, None) as loader:
        async for _ in loader.run():
            pass
    with pytest.raises(CannotSimulate, match=r"--site sim: has readings of that time already \(sim-0001-s"):
        async with Loader.open(database.dsn, replace(plan, to_us=plan.to_us + 3_600_000_000), None):
            pass
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == plan.readings
    # Before it there is room.
    async with Loader.open(database.dsn, replace(plan, to_us=plan.from_us), None) as loader:
        async for _ in loader.run():
            pass
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == 2 * plan.readings


async def test_what_was_erased_or_archived_is_not_filled(database: Database) -> None:
    plan = replace(PLAN, days=0.25)
    async with Loader.open(database.dsn, plan, None):
        pass
    connection = await connect(database.dsn, "test", 30)
    try:
        scope = erasing.Scope("sim", None, "sim-0001-s003", SUNDAY, SUNDAY + timedelta(days=5))
        erasure_id, _ = await erasing.request(connection, scope, reason="test", by="test")
        await erasing.carry_out(connection, erasure_id)
    finally:
        await connection.close()
    with pytest.raises(CannotSimulate, match="an erasure forbids"):
        async with Loader.open(database.dsn, plan, None):
            pass
    database.query("UPDATE iot_service.raw_horizon SET begins = %s", SUNDAY + timedelta(days=1))
    with pytest.raises(CannotSimulate, match="archived"):
        async with Loader.open(database.dsn, plan, None):
            pass


async def test_a_site_keeps_its_time_zone(database: Database) -> None:
    plan = replace(PLAN, days=0.25)
    async with Loader.open(database.dsn, plan, "Asia/Seoul"):
        pass
    with pytest.raises(CannotSimulate, match="--time-zone Europe/Berlin: site sim is in Asia/Seoul"):
        async with Loader.open(database.dsn, plan, "Europe/Berlin"):
            pass
    with pytest.raises(places.NoSuchThing, match="no time zone"):
        async with Loader.open(database.dsn, replace(plan, site="other"), "Asia/Seul"):
            pass


def test_the_command_fills_a_database_and_says_what_it_came_to(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--backfill", "0.5", "--gateways", "1", "--sensors", "2", "--dsn", database.dsn]
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments, "--json"])
    assert ended.value.code == 0
    written = capsys.readouterr()
    outcome = json.loads(written.out)
    assert (outcome["readings"], outcome["series"], outcome["site"]) == (720 * 10, 10, "sim")
    assert written.err == "", "no bar into a pipe"
    code, line = said(capsys, *arguments)
    assert code == 1
    assert "has readings of that time already" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "named", "right"),
    [
        (["--backfill", "1", "--host", "x", "--dsn", "dbname=x"], "--host", "--backfill"),
        (["--backfill", "1", "--duration", "5", "--dsn", "dbname=x"], "--duration", "--backfill"),
        (["--backfill", "1", "--together", "--dsn", "dbname=x"], "--together", "--backfill"),
        (["--backfill", "1", "--config", "x.toml", "--dsn", "dbname=x"], "--config", "--backfill"),
        (["--time-zone", "Asia/Seoul"], "--time-zone", "--backfill DAYS"),
        (["--dsn", "dbname=x"], "--dsn", "--backfill DAYS"),
        (["--backfill", "1"], "--backfill", "HEAL7_IOT_DSN"),
        (["--backfill", "732", "--dsn", "dbname=x"], "--backfill: 732 days", "731 (24 months)"),
        (["--backfill", "0", "--dsn", "dbname=x"], "--backfill: 0 days", "more than 0"),
        (["--backfill", "0.01", "--rate", "0.001", "--dsn", "dbname=x"], "--backfill", "--rate of 0.001"),
        (["--backfill", "1", "--gateways", "5000", "--dsn", "dbname=x"], "--gateways", f"{MOST_SERIES:,}"),
        (["--backfill", "1", "--dsn", "what"], "--dsn", "write e.g."),
        (["--backfill", "1", "--site", "a/b", "--dsn", "dbname=x"], "--site", "letters"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_right(
    arguments: list[str],
    named: str,
    right: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HEAL7_IOT_DSN", raising=False)
    code, line = said(capsys, *arguments)
    assert code == EXIT_USAGE
    assert line.startswith(named)
    assert right in line


def test_a_dsn_of_the_environment_is_no_mistake_of_a_fleet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL7_IOT_DSN", "dbname=x")
    assert said(capsys, "--late", "2:3")[1].startswith("--late")


def test_a_database_that_is_away_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, "--backfill", "1", "--dsn", "host=/nowhere dbname=x")
    assert (code, line.startswith("database: ")) == (1, True)


def test_a_database_without_the_schema_says_what_to_run(
    empty_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = said(capsys, "--backfill", "1", "--dsn", empty_database.dsn)
    assert (code, "heal7-iot db migrate" in line) == (1, True)


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [({"psycopg"}, ["--backfill=3"], "ingest"), ({"numpy"}, ["--backfill", "3"], "ingest")],
)
def test_a_missing_extra_is_named(absent: set[str], arguments: list[str], extra: str) -> None:
    arguments = ["simulate", *arguments, "--dsn", "dbname=x"]
    script = WITHOUT.format(absent=absent, module="heal7_iot.cli") + f"\nheal7_iot.cli.main({arguments!r})\n"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert ended.returncode == EXIT_MISSING_EXTRA
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("`heal7-iot simulate --backfill` needs ")
    assert f"heal7-iot[{extra}]" in line
