"""`heal7-iot calibrations`, `redecode` and `corrections`, as a person and as a program use them."""

import asyncio
import os
import pty
import subprocess
import sys

import pytest

from device_drivers.reading import Series
from ingest_server.storage.connection import connect
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.corrected import Calibration
from tests.ingest_server.command_line import run
from tests.ingest_server.line import DAY, GATEWAY, NOW_US, data, reading, settle
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]
DUST = Series("hall-dust", "pm2_5", "pm2_5", "µg/m³", "nova-sds011/0", "")
DEVICE = ("--device", f"{SITE}/hall-dust")
ADD = ("calibrations", "add", *DEVICE, "--channel", "pm2_5", "--why", "ticket 4711")
REDECODE = ("redecode", *DEVICE, "--why", "ticket 4712")


@pytest.fixture
def filled(any_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A reading a day for four days up to noon of 2026-11-21, of a profile that counted in units, not in tenths."""
    monkeypatch.setenv("HEAL7_IOT_DSN", any_database.dsn)

    async def fill() -> None:
        await settle(any_database, data(0, [reading(100 + n, NOW_US - n * DAY, DUST) for n in range(4)]))
        connection = await connect(any_database.dsn, "test", 30)
        await refresh_all(connection)
        await connection.close()

    asyncio.run(fill())
    for channel in ("pm2_5", "pm1"):
        any_database.query(
            'INSERT INTO iot_service.profile_channels (profile, channel, quantity, unit, scale, "offset", source)'
            f" VALUES ('nova-sds011/0', '{channel}', '{channel}', 'µg/m³', 1, 0, 'sds011')"
        )
    return any_database


def values(database: Database) -> list[float]:
    return [row[0] for row in database.query("SELECT value FROM iot_service.sensor_readings ORDER BY recorded_at")]


def test_a_calibration_is_added_listed_and_removed(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    assert run(capsys, "calibrations", "list").out == "nothing was ever corrected\n"
    said = run(capsys, *ADD, "--valid-from", "2026-11-20", "--gain", "2", "--offset", "-0.5", "--yes")
    assert said.code == 0, said.err
    assert "2026-11-20T12:00:00+00:00: 101 → 201.5 µg/m³" in said.out
    assert "calibration 1 is in force: 2 readings follow it, and what arrives later will" in said.out
    assert values(filled) == [103, 102, 201.5, 199.5]
    said = run(capsys, *ADD, "--valid-from", "2026-11-21", "--polynomial", "1,0,0.5", "--by", "kim", "--yes", "--json")
    assert (said.code, said.json["number"], said.json["readings"]) == (0, 2, 1)
    assert said.json["affected"][0]["examples"] == [{"at_us": NOW_US, "before": 199.5, "after": 5001.0}]
    newest, first = run(capsys, "calibrations", "list", *DEVICE, "--json").json
    assert (newest["made_by"], newest["coefficients"], newest["channel"]) == ("kim", [1, 0, 0.5], "pm2_5")
    assert "@" in first["made_by"]
    assert "1 + 0·x + 0.5·x² µg/m³" in run(capsys, "calibrations", "list").out
    said = run(capsys, "calibrations", "remove", "1", "--why", "wrong reference", "--yes")
    assert "1 is withdrawn (by 3): 1 readings were written anew" in said.out
    assert values(filled) == [103, 102, 101, 5001]
    assert run(capsys, "corrections", "withdraw", "2", "--why", "so was this", "--yes", "--json").json["readings"] == 1
    assert values(filled) == [103, 102, 101, 100]
    assert "withdrawn by 3" in run(capsys, "corrections", "list").out
    assert filled.query("SELECT FROM iot_service.rollup_log") == []
    assert filled.one("SELECT total FROM iot_service.rollup_1d ORDER BY bucket DESC LIMIT 1") == 100


def test_times_are_by_the_sites_clock(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    run(capsys, "sites", "set", SITE, "--time-zone", "Asia/Seoul")
    said = run(capsys, *ADD, "--valid-from", "2026-11-21T21:00", "--offset", "1", "--yes", "--json")
    assert said.json["readings"] == 1
    assert values(filled) == [103, 102, 101, 101]


def test_a_wrong_profile_is_corrected(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    """The old profile is not installed any more: what it said was published."""
    said = run(capsys, *REDECODE, "--from", "2026-11-19", "--to", "2026-11-21", "--yes")
    assert said.code == 0, said.err
    assert "what nova-sds011/0 decoded means what nova-sds011/1 says, from 2026-11-19T00:00:00+00:00, to" in said.out
    assert "2026-11-19T12:00:00+00:00: 102 → 10.2 µg/m³" in said.out
    assert "nova-sds011/1 has no such channel: it stays as it is" in said.out
    assert "nova-sds011/0 has no such channel: there is no reading that could be corrected" in said.out
    assert values(filled) == [103, 102 * 0.1, 101 * 0.1, 100]
    asyncio.run(_settled(filled, DUST))
    assert values(filled) == [103, 102 * 0.1, 55 * 0.1, 101 * 0.1, 100]
    said = run(capsys, *REDECODE, "--from", "2026-11-21", "--profile", "nova-sds011/1", "--yes", "--json")
    assert (said.code, said.json["readings"], said.json["was"]) == (0, 1, "nova-sds011/0")
    assert values(filled)[-1] == 10.0


async def _settled(database: Database, series: Series) -> None:
    late = [reading(55, NOW_US - 3 * DAY // 2, series)]
    await settle(database, data(1, late, before=4))


def test_of_two_profiles_the_wrong_one_is_named(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    newer = Series("hall-dust", "pm2_5", "pm2_5", "µg/m³", "nova-sds011/5", "")
    asyncio.run(_settled(filled, newer))
    said = run(capsys, *REDECODE, "--from", "2026-11-19", "--profile", "nova-sds011/1", "--yes")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "--was: name the profile that was wrong: nova-sds011/0, nova-sds011/5 gave readings" in said.err
    said = run(capsys, *REDECODE, "--from", "2026-11-19", "--was", "nova-sds011/0", "--yes")
    assert "1 of them were written after another profile had been met, and are taken for nova-sds011/0's" in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([*ADD, "--valid-from", "2026-11-20"], 2, "--gain, --offset or --polynomial: say what"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "0"], 2, "every value would become the same"),
        ([*ADD, "--valid-from", "2026-11-20", "--offset", "nan"], 2, "write finite numbers"),
        ([*ADD, "--valid-from", "2026-11-20", "--polynomial", "1;2"], 2, "'1;2' is no list of numbers"),
        (
            [*ADD, "--valid-from", "2026-11-20", "--polynomial", "1,2", "--gain", "2"],
            2,
            "leave --gain and --offset out",
        ),
        ([*ADD, "--valid-from", "2999-01-01", "--gain", "2"], 2, "has not come yet"),
        ([*ADD, "--valid-from", "20.11.2026", "--gain", "2"], 2, "--valid-from: '20.11.2026' is no time"),
        ([*ADD[:-1], " ", "--valid-from", "2026-11-20", "--gain", "2"], 2, "--why: say which reference"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--by", " "], 2, "--by: name somebody"),
        (
            [*ADD[:-1], "\x1b[2J", "--valid-from", "2026-11-20", "--gain", "2"],
            2,
            "--why: write one line of at most 1000",
        ),
        (
            [*ADD[:-1], "\udcff", "--valid-from", "2026-11-20", "--gain", "2"],
            2,
            "--why: write one line of at most 1000",
        ),
        ([*ADD[:-1], "w" * 1001, "--valid-from", "2026-11-20", "--gain", "2"], 2, "--why: write one line of at"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--by", "k\nx"], 2, "--by: write one line of at most 200"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--unit", "ppm"], 1, "has been in µg/m³: name one"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--channel", "pm1"], 1, "no channel pm1, but pm2_5"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--device", "x"], 2, "write SITE/DEVICE"),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2", "--device", f"{SITE}/x"], 1, "no device x at site"),
        (["calibrations", "remove", "7", "--why", "x"], 1, "no calibration has the number 7; see"),
        (["corrections", "withdraw", "7", "--why", "x"], 1, "no correction has the number 7; see"),
        ([*REDECODE, "--from", "2026-11-20", "--profile", "nova/9"], 1, "no profile nova/9 is installed here"),
        ([*REDECODE, "--from", "2026-11-20", "--was", "nova/9"], 1, "nova/9 decoded nothing of this device, but nova-"),
        ([*REDECODE, "--from", "2026-11-20", "--to", "2026-11-19"], 2, "is not before --to"),
        (
            [*REDECODE, "--from", "2026-11-20", "--profile", "hi-link-ld2410/1"],
            2,
            "no channel can be computed from its number, and no raw frame",
        ),
        ([*ADD, "--valid-from", "2026-11-20", "--gain", "2"], 2, "nobody can be asked without a terminal"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], filled: Database, arguments: list[str], code: int, said: str
) -> None:
    ended = run(capsys, *arguments)
    assert (ended.code, len(ended.err.splitlines())) == (code, 1), ended.err
    assert said in ended.err
    assert values(filled) == [103, 102, 101, 100]
    assert filled.query("SELECT FROM iot_service.corrections") == []


def test_a_change_of_the_unit_is_refused(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    filled.query("UPDATE iot_service.profile_channels SET unit = 'mg/m³' WHERE profile = 'nova-sds011/0'")
    said = run(capsys, *REDECODE, "--from", "2026-11-20", "--yes")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "is pm2_5 in mg/m³ by nova-sds011/0, and pm2_5 in µg/m³ by nova-sds011/1: that is another" in said.err


def test_what_was_interrupted_is_finished(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    async def enter() -> None:
        connection = await connect(filled.dsn, "test", 30)
        device = await entries.device_id(connection, SITE, "hall-dust")
        rule = Calibration(0, "pm2_5", "µg/m³", NOW_US, (1.0, 1.0))
        await entries.calibrate(connection, device, rule, Signed("kim", "x"))
        await connection.close()

    asyncio.run(enter())
    assert "NOT CARRIED OUT" in run(capsys, "corrections", "list").out
    assert run(capsys, "corrections", "resume").out == "finished: 1, with 1 readings\n"
    assert run(capsys, "corrections", "resume").out == "nothing was left to do\n"
    assert run(capsys, "corrections", "resume", "--json").json == {"corrections": 0, "readings": 0}
    assert values(filled) == [103, 102, 101, 101]


@pytest.mark.parametrize(("answer", "code", "after"), [(b"y\n", 0, 101), (b"n\n", 1, 100)])
def test_a_person_is_asked(filled: Database, answer: bytes, code: int, after: float) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "heal7_iot", *ADD, "--valid-from", "2026-11-21", "--offset", "1"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        os.close(theirs)
        os.write(ours, answer)
        _, err = asked.communicate(timeout=60)
    os.close(ours)
    assert asked.returncode == code, err
    assert b"write 1 readings anew?" in err
    assert values(filled)[-1] == after
