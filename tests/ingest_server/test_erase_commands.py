"""`heal7-iot erase`, as a person and as a program use it."""

import asyncio
import json
import os
import pty
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest_server.storage.connection import connect
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from ingest_server.storage.keeping.rollups import refresh_all
from tests.ingest_server.command_line import run
from tests.ingest_server.line import DAY, GATEWAY, NOW_US, data, reading, settle, values
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]
RUN = ("erase", "run", SITE, "--reason", "request 4711")


@pytest.fixture
def filled(any_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A reading a day for four days up to noon of 2026-11-21, and the rollups of them."""
    monkeypatch.setenv("HEAL7_IOT_DSN", any_database.dsn)

    async def fill() -> None:
        await settle(any_database, data(0, [reading(-n, NOW_US - n * DAY) for n in range(4)]))
        connection = await connect(any_database.dsn, "test", 30)
        await refresh_all(connection)
        await connection.close()

    asyncio.run(fill())
    return any_database


async def requested(database: Database) -> None:
    """An erasure that was interrupted at once."""
    connection = await connect(database.dsn, "test", 30)
    try:
        scope = erasing.Scope(SITE, None, None, None, datetime(2026, 11, 20, tzinfo=UTC))
        await erasing.request(connection, scope, reason="stopped", by="test")
    finally:
        await connection.close()


def test_a_run_shows_removes_and_tells(capsys: pytest.CaptureFixture[str], filled: Database, tmp_path: Path) -> None:
    journal = tmp_path / "erasures.jsonl"
    assert run(capsys, "erase", "list").out == "nothing was ever erased\n"
    assert run(capsys, "erase", "list", "--json").json == []
    span = ("--from", "2026-11-19", "--to", "2026-11-20T12:00")
    said = run(capsys, *RUN, "--device", "hall-1", *span, "--journal", str(journal), "--yes")
    assert said.code == 0
    assert "to be erased: seoul-1: device hall-1, 2026-11-19T00:00:00+00:00 to 2026-11-20T12:00:00+00:00" in said.out
    assert "2026-11-19T12:00:00+00:00" in said.out
    assert "1 readings erased" in said.out
    assert values(filled) == [-3, -1, 0]
    assert filled.query("SELECT FROM iot_service.rollup_log") == []
    assert filled.one("SELECT count(*) FROM iot_service.rollup_1d") == 3
    (entry,) = run(capsys, "erase", "list", "--json").json
    assert (entry["reason"], entry["readings"], entry["refused"]) == ("request 4711", 1, 0)
    assert "@" in entry["requested_by"]
    assert "request 4711" in run(capsys, "erase", "list").out
    ((told, rules),) = erasure_journal.read(journal)
    assert (str(told.erasure_id), told.scope) == (entry["erasure_id"], entry["scope"])
    assert [(r.site, r.device, r.from_at) for r in rules] == [(SITE, "hall-1", "2026-11-19 00:00:00+00")]
    # For programs; the whole site, up to now.
    said = run(capsys, *RUN, "--yes", "--json")
    assert (said.code, said.json["readings"], said.json["rules"]) == (0, 3, 1)
    assert [(d["device"], d["readings"]) for d in said.json["devices"]] == [("hall-1", 3)]
    assert values(filled) == []


def test_times_are_by_the_sites_clock(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    run(capsys, "sites", "set", SITE, "--time-zone", "Asia/Seoul")
    said = run(capsys, *RUN, "--from", "2026-11-20T21:00", "--to", "2026-11-20T21:01", "--yes", "--json")
    assert said.json["readings"] == 1
    assert values(filled) == [-3, -2, 0]


def test_a_zone_is_erased(capsys: pytest.CaptureFixture[str], filled: Database) -> None:
    run(capsys, "devices", "place", f"{SITE}/hall-1", "hall", "--from", "2026-11-19")
    run(capsys, "devices", "place", f"{SITE}/hall-1", "attic", "--from", "2026-11-20")
    assert run(capsys, *RUN, "--zone", "hall", "--yes", "--json").json["readings"] == 1
    assert values(filled) == [-3, -1, 0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["erase", "run", "seoul", "--reason", "x", "--yes"], 1, "no site is called seoul; see `heal7-iot sites list`"),
        ([*RUN, "--device", "hall", "--yes"], 1, "no device hall at site seoul-1"),
        ([*RUN, "--zone", "hall", "--yes"], 1, "no zone hall at site seoul-1; see `heal7-iot zones list`"),
        ([*RUN, "--zone", "hall", "--device", "hall-1", "--yes"], 2, "say one of them"),
        ([*RUN, "--from", "20.11.2026", "--yes"], 2, "--from: '20.11.2026' is no time"),
        ([*RUN, "--to", "2999-01-01", "--yes"], 2, "has not come yet"),
        ([*RUN, "--from", "2026-11-20", "--to", "2026-11-19", "--yes"], 2, "is not before --to"),
        (["erase", "run", SITE, "--reason", " ", "--yes"], 2, "--reason: say who asked for it"),
        ([*RUN, "--journal", "/nowhere/file", "--yes"], 2, "name a file that can be written"),
        ([*RUN, "--journal", "/", "--yes"], 2, "this is no file"),
        ([*RUN, "--journal", "/dev/zero", "--yes"], 2, "this is no file"),
    ],
)
def test_a_mistake_is_one_line_and_erases_nothing(
    capsys: pytest.CaptureFixture[str], filled: Database, arguments: list[str], code: int, said: str
) -> None:
    ended = run(capsys, *arguments)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (code, "", 1), ended.err
    assert said in ended.err
    assert len(values(filled)) == 4
    assert filled.query("SELECT FROM iot_service.erasures") == []


def test_a_damaged_journal_is_named_before_anything_is_erased(
    capsys: pytest.CaptureFixture[str], filled: Database, tmp_path: Path
) -> None:
    journal = tmp_path / "erasures.jsonl"
    journal.write_text("{}\n")
    said = run(capsys, *RUN, "--journal", str(journal), "--yes")
    assert (said.code, "line 1: this is no erasure" in said.err) == (2, True)
    assert len(values(filled)) == 4


def test_a_journal_that_fills_its_disk_is_told_and_mended(
    capsys: pytest.CaptureFixture[str], filled: Database, tmp_path: Path
) -> None:
    """The rule is in force by then: the erasure goes on, and is entered later."""
    journal = tmp_path / "erasures.jsonl"
    ended = subprocess.run(
        [sys.executable, "-m", "heal7_iot", *RUN, "--journal", journal, "--yes"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (74, 1), ended.stderr
    assert "erased, but the journal lacks it: " in ended.stderr
    assert values(filled) == []
    assert run(capsys, "erase", "resume", "--journal", str(journal)).out == "nothing was left to do\n"
    assert len(erasure_journal.read(journal)) == 1
    run(capsys, "erase", "resume", "--journal", str(journal))
    assert len(erasure_journal.read(journal)) == 1


def test_what_was_interrupted_is_resumed(capsys: pytest.CaptureFixture[str], filled: Database, tmp_path: Path) -> None:
    asyncio.run(requested(filled))
    assert "NO" in run(capsys, "erase", "list").out
    journal = tmp_path / "erasures.jsonl"
    said = run(capsys, "erase", "resume", "--json", "--journal", str(journal))
    assert said.json == {"erasures": 1, "readings": 2}
    assert values(filled) == [-1, 0]
    assert [e.reason for e, _ in erasure_journal.read(journal)] == ["stopped"]
    assert filled.one("SELECT count(*) FROM iot_service.rollup_1d") == 2


def test_without_a_terminal_it_needs_to_be_told(filled: Database) -> None:
    command = [sys.executable, "-m", "heal7_iot", *RUN]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "nothing was erased: nobody can be asked without a terminal; look at it, then say --yes\n"
    assert "hall-1" in ended.stdout
    assert len(values(filled)) == 4


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 4), (b"y\n", 0, 0)])
def test_a_person_is_asked(filled: Database, answer: bytes, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    try:
        started = subprocess.Popen(
            [sys.executable, "-m", "heal7_iot", *RUN], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.write(ours, answer)
        out, err = started.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert started.returncode == code, err
    assert b"Erase 4 readings for good?" in err
    assert (b"nothing was erased" in err) == (code == 1)
    assert b"4 readings erased" in out or code == 1
    assert len(values(filled)) == left


def test_the_answer_for_programs_is_one_document(filled: Database) -> None:
    command = [sys.executable, "-m", "heal7_iot", *RUN, "--yes", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ended.stdout)["readings"] == 4
    assert ended.stderr == ""
