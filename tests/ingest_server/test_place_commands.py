"""Commands for places, as a person and as a program use them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.reading import Series
from tests.ingest_server.command_line import run
from tests.ingest_server.line import GATEWAY, data, reading, settle
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]


def fill(database: Database, *devices: str) -> None:
    held = [reading(20.0, series=Series(device, "t", "temperature", "°C", "p", "1")) for device in devices]
    asyncio.run(_settle(database, data(0, held)))


async def _settle(database: Database, payload: bytes) -> None:
    await settle(database, payload)


def placements(database: Database) -> list[tuple[str, str | None, str | None, datetime]]:
    return [
        (device, zone, position, valid_from)
        for device, zone, position, valid_from in database.query(
            "SELECT d.device, z.zone, p.position, p.valid_from FROM iot_service.device_placements p"
            " JOIN iot_service.iot_devices d USING (device_id) LEFT JOIN iot_service.zones z USING (location_id)"
            " ORDER BY p.valid_from, d.device"
        )
    ]


def test_devices_are_placed_replaced_and_taken_away(
    capsys: pytest.CaptureFixture[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL7_IOT_DSN", database.dsn)
    fill(database, "체험관/air", "air-2")
    assert run(capsys, "zones", "list").out == "no zones yet\n"
    assert run(capsys, "sites", "set", SITE, "--time-zone", "Asia/Seoul").code == 0
    old = f"{SITE}/체험관/air"
    said = run(capsys, "devices", "place", old, "hall", "--position", "wall", "--from", "2026-11-02T09:30")
    assert (said.code, said.out) == (0, f"{old} is in hall, a new zone of {SITE}, since 2026-11-02T09:30:00+09:00\n")
    # A time with a zone is of that; a zone that is known is no new one.
    said = run(capsys, "devices", "place", f"{SITE}/air-2", "hall", "--from", "2026-11-03T09:30+02:00")
    assert said.out == f"{SITE}/air-2 is in hall since 2026-11-03T16:30:00+09:00\n"
    zones = run(capsys, "zones", "list", "--json").json
    assert [(z["site"], z["zone"], z["devices"], z["names"]) for z in zones] == [(SITE, "hall", 2, "air-2, 체험관/air")]
    assert isinstance(zones[0]["location_id"], int)
    said = run(capsys, "devices", "place", f"{SITE}/air-2", "--away", "--from", "2026-11-04")
    assert said.out == f"{SITE}/air-2 is in no zone since 2026-11-04T00:00:00+09:00\n"
    said = run(capsys, "devices", "replace", old, "air-2", "--at", "2026-11-05T12:00")
    assert said.out == f"{SITE}/air-2 goes on with the history of {old} since 2026-11-05T12:00:00+09:00\n"
    assert placements(database) == [
        ("체험관/air", "hall", "wall", datetime(2026, 11, 2, 0, 30, tzinfo=UTC)),
        ("air-2", "hall", None, datetime(2026, 11, 3, 7, 30, tzinfo=UTC)),
        ("air-2", None, None, datetime(2026, 11, 3, 15, tzinfo=UTC)),
        ("air-2", "hall", "wall", datetime(2026, 11, 5, 3, tzinfo=UTC)),
        ("체험관/air", None, None, datetime(2026, 11, 5, 3, tzinfo=UTC)),
    ]
    devices = run(capsys, "devices", "list", "--json").json
    assert [(d["device"], d["zone"], d["position"], d["replaces"]) for d in devices] == [
        ("air-2", "hall", "wall", "체험관/air"),
        ("체험관/air", None, None, None),
    ]
    assert "hall" in run(capsys, "devices", "list").out
    # Without a time: now.
    before = datetime.now(UTC)
    assert run(capsys, "devices", "place", f"{SITE}/air-2", "attic").code == 0
    assert before - timedelta(seconds=1) <= placements(database)[-1][3] <= datetime.now(UTC)
    assert "attic" in run(capsys, "zones", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["devices", "place", "air", "hall"], 2, "write SITE/DEVICE"),
        (["devices", "place", "seoul-1/air"], 2, "Name a zone, or say --away"),
        (["devices", "place", "seoul-1/air", " "], 2, "Name a zone, or say --away"),
        (["devices", "place", "seoul-1/air", "hall", "--away"], 2, "leave ZONE and --position out"),
        (
            ["devices", "place", "seoul-1/air", "hall", "--from", "yesterday"],
            2,
            "--from: 'yesterday' is no time",
        ),
        (["devices", "place", "seoul-1/air", "hall", "--from", "2999-01-01"], 2, "has not come yet"),
        (["devices", "place", "seoul-1/air", "hall", "--from", "9999-12-31T23:59-12:00"], 2, "in the year 9999"),
        (["devices", "place", "seoul-1/air", "hall", "--from", "0001-01-01"], 2, "nothing was measured in the year 1"),
        (
            ["devices", "place", "seoul-1/lamp", "hall"],
            1,
            "no device lamp at site seoul-1; see `heal7-iot",
        ),
        (["devices", "replace", "seoul-1/air", "lamp"], 1, "no device lamp at site seoul-1"),
        (["devices", "replace", "seoul-1/air", "seoul-1/air"], 1, "it is the same device"),
        (["devices", "replace", "seoul-1/air", "air-2", "--at", "2999-01-01T00:00Z"], 2, "has not come yet"),
        (["sites", "set", "seoul-1", "--time-zone", "Asia/Seul"], 1, "write it as in Asia/Seoul"),
        # Another machine's PostgreSQL does not know it: a backup could not be restored there.
        (["sites", "set", "seoul-1", "--time-zone", "localtime"], 1, "write it as in Asia/Seoul"),
        (["sites", "set", "", "--time-zone", "UTC"], 2, "is no site"),
        (["sites", "set", "a\nb", "--time-zone", "UTC"], 2, "is no site"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], database: Database, arguments: list[str], code: int, said: str
) -> None:
    fill(database, "air", "air-2")
    ended = run(capsys, *arguments, "--dsn", database.dsn)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (code, "", 1), ended.err
    assert said in ended.err
    assert placements(database) == []
    assert database.query("SELECT FROM iot_service.zones") == []


def test_a_replacement_is_corrected_to_another_time(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    fill(database, "air", "air-2")
    dsn = ["--dsn", database.dsn]
    run(capsys, "devices", "place", f"{SITE}/air", "hall", "--from", "2026-11-01", *dsn)
    for day in ("2026-11-05", "2026-11-09", "2026-11-03"):
        said = run(capsys, "devices", "replace", f"{SITE}/air", "air-2", "--at", day, *dsn)
        assert said.out == f"{SITE}/air-2 goes on with the history of {SITE}/air since {day}T00:00:00+00:00\n"
        at = datetime.fromisoformat(f"{day}T00:00Z")
        assert placements(database) == [
            ("air", "hall", None, datetime(2026, 11, 1, tzinfo=UTC)),
            ("air", None, None, at),
            ("air-2", "hall", None, at),
        ]
        assert database.query("SELECT device, location FROM iot_service.iot_devices ORDER BY device") == [
            ("air", None),
            ("air-2", "hall"),
        ]


def test_sites_have_time_zones(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    dsn = database.dsn
    assert run(capsys, "sites", "list", "--dsn", dsn).out == "no sites yet\n"
    fill(database, "air")
    assert run(capsys, "sites", "list", "--dsn", dsn, "--json").json == [
        {"site": SITE, "time_zone": "UTC", "zones": 0, "devices": 1}
    ]
    assert "0 days of series" in run(capsys, "sites", "set", SITE, "--time-zone", "Asia/Seoul", "--dsn", dsn).out
    said = run(capsys, "sites", "set", "seoul-2", "--time-zone", "Asia/Seoul", "--dsn", dsn)
    assert (said.code, "nothing was heard of" in said.out) == (0, True)
    sites = run(capsys, "sites", "list", "--dsn", dsn, "--json").json
    assert [(s["site"], s["time_zone"], s["devices"]) for s in sites] == [
        (SITE, "Asia/Seoul", 1),
        ("seoul-2", "Asia/Seoul", 0),
    ]
    assert "Asia/Seoul" in run(capsys, "sites", "list", "--dsn", dsn).out


def test_an_hour_that_comes_twice_is_the_later_one(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    """As PostgreSQL reads it; who means the earlier one writes the offset."""
    fill(database, "air")
    dsn = database.dsn
    run(capsys, "sites", "set", SITE, "--time-zone", "Europe/Berlin", "--dsn", dsn)
    said = run(capsys, "devices", "place", f"{SITE}/air", "hall", "--from", "2025-10-26T02:30", "--dsn", dsn)
    assert said.out.endswith("since 2025-10-26T02:30:00+01:00\n")
    said = run(capsys, "devices", "place", f"{SITE}/air", "hall", "--from", "2025-10-26T02:30+02:00", "--dsn", dsn)
    assert said.out.endswith("since 2025-10-26T02:30:00+02:00\n")


def test_a_name_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways give names: brackets are no markup, neither a fault nor swallowed."""
    monkeypatch.setenv("HEAL7_IOT_DSN", database.dsn)
    fill(database, "[/x]", "dev[abc]1")
    said = run(capsys, "devices", "list")
    assert (said.code, said.err) == (0, "")
    assert "[/x]" in said.out
    assert "dev[abc]1" in said.out


def test_what_is_no_utf_8_is_one_line(
    capsys: pytest.CaptureFixture[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL7_IOT_DSN", database.dsn)
    said = run(capsys, "history", "latest", "seoul\udcff")
    assert (said.code, said.err) == (1, "database: 'seoul\\udcff' is not UTF-8: a name is\n")
