"""The server's commands, as a person and as a program use them."""

import asyncio
import io
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from device_drivers.reading import Series
from firmware_profiles.selection import ProfileSet
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from ingest_server.commands import database_option
from ingest_server.quarantine import replay
from ingest_server.screening import AcceptedTime
from ingest_server.storage.line import liveness
from ingest_server.storage.line.values import UNSUMMABLE
from ingest_server.storage.quarantine.entries import read_entry
from ingest_server.storage.schema.migrations import migrations
from tests.golden.wire import independent
from tests.ingest_server.command_line import run
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    NOW_US,
    books_of,
    data,
    open_writer,
    reading,
    running_line,
    settle,
    status,
    values,
)
from tests.peers.postgres import Database

NONE_NEW = ProfileSet([])

ALL = [m.version for m in migrations()]
COMMANDS = [
    ("ingest", "run"),
    ("ingest", "check"),
    ("db", "migrate"),
    ("db", "status"),
    ("db", "backup"),
    ("db", "restore"),
    ("db", "verify"),
    ("db", "check"),
    ("jobs", "list"),
    ("jobs", "run"),
    ("gateways", "list"),
    ("gateways", "resolve"),
    ("devices", "list"),
    ("calibrations", "add"),
    ("calibrations", "list"),
    ("calibrations", "remove"),
    ("corrections", "list"),
    ("corrections", "withdraw"),
    ("corrections", "resume"),
    ("redecode",),
    ("devices", "place"),
    ("devices", "replace"),
    ("sites", "list"),
    ("sites", "set"),
    ("zones", "list"),
    ("erase", "run"),
    ("erase", "list"),
    ("erase", "resume"),
    ("erase", "enforce"),
    ("audit",),
    ("quarantine", "list"),
    ("quarantine", "show"),
    ("quarantine", "summary"),
    ("quarantine", "replay"),
    ("quarantine", "discard"),
    ("history", "latest"),
    ("history", "raw"),
    ("history", "hours"),
    ("history", "days"),
    ("history", "zone"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    said = run(capsys, *command, "--help")
    assert said.code == 0
    assert f"Example: heal7-iot {' '.join(command)}" in " ".join(said.out.split())


def test_the_top_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "--help")
    assert all(name in said.out for name in ("gateway", "ingest", "db", "audit", "quarantine", "devices", "demo"))
    assert run(capsys, "--version").out.startswith("heal7-iot ")
    assert run(capsys, "nonsense").code == 2


def test_db(capsys: pytest.CaptureFixture[str], empty_database: Database) -> None:
    dsn = empty_database.dsn
    assert run(capsys, "db", "status", "--dsn", dsn).code == 1
    audit = run(capsys, "audit", "--dsn", dsn)
    assert (audit.code, "heal7-iot db migrate" in audit.err) == (1, True)
    assert [step["version"] for step in run(capsys, "db", "migrate", "--dsn", dsn, "--json").json["applied"]] == ALL
    assert run(capsys, "db", "migrate", "--dsn", dsn, "--json").json == {"applied": [], "taken_back": []}
    assert run(capsys, "db", "migrate", "--dsn", dsn).out == "no step was missing: the schema is current\n"
    said = run(capsys, "db", "status", "--dsn", dsn, "--json")
    assert (said.code, said.json[0]["version"]) == (0, 1)
    assert "the_line" in run(capsys, "db", "status", "--dsn", dsn).out


def test_the_database_may_be_named_by_the_environment(
    capsys: pytest.CaptureFixture[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL7_IOT_DSN", database.dsn)
    assert run(capsys, "audit", "--json").json == {"balanced": True, "gateways": []}


@pytest.mark.parametrize("command", [("audit",), ("devices", "list"), ("quarantine", "list"), ("db", "status")])
def test_a_database_that_is_away_is_one_line(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    said = run(capsys, *command, "--dsn", "host=/nowhere dbname=heal7")
    assert said.code == 1
    assert said.err.startswith("database: ")
    assert len(said.err.splitlines()) == 1


def test_audit_ends_with_1_where_the_books_do_not_balance(
    capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    asyncio.run(_settle(database, data(0)))
    said = run(capsys, "audit", "--dsn", database.dsn, "--json")
    assert said.code == 0
    assert said.json["balanced"] is True
    assert {k: said.json["gateways"][0][k] for k in ("gateway", "sealed", "committed", "in_flight")} == {
        "gateway": GATEWAY,
        "sealed": 2,
        "committed": 2,
        "in_flight": 0,
    }
    assert "yes" in run(capsys, "audit", "--dsn", database.dsn).out
    asyncio.run(_hear(database, EpochBook(epoch=EPOCH, next=3, sealed=6, held=RangeSet([(2, 3)]))))
    said = run(capsys, "audit", "--dsn", database.dsn, "--json")
    assert (said.code, said.json["balanced"], said.json["gateways"][0]["in_flight"]) == (1, False, 4)
    assert "NO" in run(capsys, "audit", "--dsn", database.dsn).out


async def _settle(database: Database, *payloads: bytes) -> None:
    await settle(database, *payloads)


async def _hear(database: Database, *books: EpochBook, instance: int = 1, beats: range = range(1)) -> None:
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for beat in beats:
            said = status(*books, instance=instance, beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=600, device_silence_s=900)


def test_who_is_there(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    for command in ("gateways", "devices"):
        assert run(capsys, command, "list", "--dsn", database.dsn).out == f"no {command} yet\n"
        assert run(capsys, command, "list", "--dsn", database.dsn, "--json").json == []
    asyncio.run(_settle(database, data(0, [reading(series=Series("체험관-로비", "t", "temperature", "°C", "p", "1"))])))
    asyncio.run(_hear(database))
    (gateway,) = run(capsys, "gateways", "list", "--dsn", database.dsn, "--json").json
    assert (gateway["name"], gateway["state"], gateway["devices"], gateway["held_instances"]) == (
        GATEWAY,
        "online",
        1,
        0,
    )
    (device,) = run(capsys, "devices", "list", "--dsn", database.dsn, "--json").json
    assert (device["device"], device["home"], device["series"]) == ("체험관-로비", GATEWAY, 1)
    assert "체험관-로비" in run(capsys, "devices", "list", "--dsn", database.dsn).out
    assert "online" in run(capsys, "gateways", "list", "--dsn", database.dsn).out


def test_an_identity_conflict_is_resolved_and_replayed(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    old, new = 11, 22

    async def conflict() -> None:
        for instance, beats in ((old, range(1)), (new, range(1)), (old, range(1, 3))):
            await _hear(database, instance=instance, beats=beats)
        await settle(database, data(0, instance=new), data(1, instance=new), data(0, instance=old, epoch=9))

    asyncio.run(conflict())
    dsn = database.dsn
    entries = run(capsys, "quarantine", "list", "--dsn", dsn, "--json").json
    assert [(e["reason"], e["readings"], e["seq"]) for e in entries] == [("identity_conflict", 2, n) for n in (1, 0)]
    assert "identity_conflict" in run(capsys, "quarantine", "list", "--dsn", dsn).out
    number = str(entries[0]["quarantine_id"])
    shown = run(capsys, "quarantine", "show", number, "--dsn", dsn, "--json").json
    assert shown["content"]["envelope"]["instance"] == f"{new:016x}"
    assert [r["value"] for r in shown["content"]["readings"]] == ["1.25", "1.5"]
    assert "identity_conflict" in run(capsys, "quarantine", "show", number, "--dsn", dsn).out
    assert run(capsys, "gateways", "resolve", "no/body", "--dsn", dsn).code == 1
    assert run(capsys, "gateways", "resolve", GATEWAY, "--dsn", dsn).code == 0
    assert asyncio.run(_books(database)) == (2, 4)
    replayed = run(capsys, "quarantine", "replay", "--reason", "identity_conflict", "--dsn", dsn, "--json").json
    assert [(r["committed"], r["left"]) for r in replayed] == [(2, 0), (2, 0)]
    assert asyncio.run(_books(database)) == (6, 0)
    assert values(database) == [0.25, 0.25, 0.5, 0.5, 1.25, 1.5]
    # A second time there is nothing left to do, by reason or by number.
    assert run(capsys, "quarantine", "replay", "--dsn", dsn, "--json").json == []
    again = run(capsys, "quarantine", "replay", number, "--dsn", dsn, "--json").json
    assert [(r["committed"], r["left"], r["why"]) for r in again] == [(0, 0, "was replayed before")]
    assert len(values(database)) == 6
    assert run(capsys, "quarantine", "list", "--dsn", dsn).out == "nothing is in quarantine\n"
    assert len(run(capsys, "quarantine", "list", "--replayed", "--dsn", dsn, "--json").json) == 2
    assert run(capsys, "audit", "--dsn", dsn).code == 0


async def _books(database: Database) -> tuple[int, int]:
    books = await books_of(database)
    assert books.balanced
    return books.committed, books.quarantined


def test_a_replay_commits_what_is_sound_and_leaves_the_rest(
    capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    """Two readings were too old for a short retention, a third is not a number."""
    old = NOW_US - 450 * 86_400 * 1_000_000
    held = [reading(1.0), reading(2.0, old), reading(float("nan"), old), reading(4.0, old + 7)]
    asyncio.run(_settle(database, data(0, held)))
    entries = run(capsys, "quarantine", "list", "--dsn", database.dsn, "--json").json
    assert [(e["reason"], e["indices"]) for e in entries] == [("time_too_old", [1, 3]), ("value_not_finite", [2])]
    said = run(capsys, "quarantine", "replay", "--retention-days", "100000", "--dsn", database.dsn)
    assert said.code == 0
    assert "2 readings committed, 1 left" in said.out
    assert values(database) == [1.0, 2.0, 4.0]
    assert asyncio.run(_books(database)) == (3, 1)
    shown = run(capsys, "quarantine", "show", str(entries[1]["quarantine_id"]), "--dsn", database.dsn, "--json").json
    assert [(r["index"], r["value"]) for r in shown["content"]["readings"]] == [(2, "nan")]


def test_a_replay_is_judged_by_the_servers_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, database: Database
) -> None:
    """Once the command knew the defaults alone: what a raised limit allows stayed in quarantine."""
    many = [reading(n, series=Series(f"d{n}", "t", "temperature", "°C", "p", "1")) for n in range(600)]
    asyncio.run(_settle(database, data(0, many)))
    assert asyncio.run(_books(database)) == (500, 100)
    assert "0 readings committed, 100 left" in run(capsys, "quarantine", "replay", "--dsn", database.dsn).out
    file = tmp_path / "ingest.toml"
    file.write_text(f'[database]\ndsn = "{database.dsn}"\n[books]\nnew_devices_per_hour = 600\n')
    said = run(capsys, "quarantine", "replay", "--config", str(file))
    assert (said.code, said.out) == (0, "100 readings committed, 0 left, in 1 entry\n")
    assert asyncio.run(_books(database)) == (600, 0)
    wrong = run(capsys, "quarantine", "replay", "--config", str(tmp_path / "none.toml"))
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 1)
    nowhere = run(capsys, "quarantine", "replay")
    assert (nowhere.code, nowhere.err) == (2, "which database? Give --dsn, HEAL7_IOT_DSN or --config\n")


def test_what_a_replay_of_many_leaves_is_told_in_short(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    asyncio.run(_settle(database, *(data(n, [reading(float("nan"))], before=n) for n in range(30))))
    lines = run(capsys, "quarantine", "replay", "--dsn", database.dsn).out.splitlines()
    assert len(lines) == 22
    assert lines[0] == f"1: 0 committed, 1 left (1 × value_not_finite: {UNSUMMABLE})"
    assert lines[20:] == [
        f"10 more: 1 × value_not_finite: {UNSUMMABLE}",
        "0 readings committed, 30 left, in 30 entries",
    ]


def test_entries_are_counted_chosen_and_given_up(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    dsn, attic = database.dsn, "seoul-1/attic"
    assert run(capsys, "quarantine", "summary", "--dsn", dsn).out == "nothing is in quarantine\n"
    assert run(capsys, "quarantine", "summary", "--dsn", dsn, "--json").json == []
    series = Series("attic-1", "t", "temperature", "°C", "p", "1")

    async def fill() -> None:
        await settle(database, data(0, [reading(float("nan")), reading(1.0, 0)]), data(1, [reading(2.0, 0)], before=2))
        await settle(database, data(0, [reading(3.0, 0, series)], gateway=attic), gateway=attic)

    asyncio.run(fill())
    shown = run(capsys, "quarantine", "summary", "--dsn", dsn, "--json").json
    assert [(t["reason"], t["entries"], t["readings"], t["gateways"]) for t in shown] == [
        ("time_too_old", 3, 3, 2),
        ("value_not_finite", 1, 1, 1),
    ]
    assert "value_not_finite" in run(capsys, "quarantine", "summary", "--dsn", dsn).out
    (other,) = run(capsys, "quarantine", "list", "--gateway", attic, "--dsn", dsn, "--json").json
    assert (other["gateway"], other["epoch"], other["instance"]) == (attic, f"{EPOCH:016x}", f"{1:016x}")
    nothing = run(capsys, "quarantine", "discard", "--dsn", dsn)
    assert (nothing.code, "Name entries, --reason or --gateway" in nothing.err) == (2, True)
    said = run(capsys, "quarantine", "discard", "--gateway", attic, "--dsn", dsn)
    assert (said.code, said.out) == (0, "given up: 1 entry with 1 reading\n")
    given_up = run(capsys, "quarantine", "discard", "--reason", "time_too_old", "--dsn", dsn, "--json").json
    assert given_up == {"entries": 2, "readings": 2}
    # What is named and not there is no success.
    for command in ("discard", "replay"):
        gone = run(capsys, "quarantine", command, "99999", "--dsn", dsn)
        assert (gone.code, "not waiting in quarantine: 99999" in gone.err) == (1, True)
    strange = run(capsys, "quarantine", "list", "--reason", "value_not_finit", "--dsn", dsn)
    assert (strange.code, "has that reason" in strange.out) == (0, True)
    assert asyncio.run(_books(database)) == (0, 1)
    assert run(capsys, "audit", "--dsn", dsn).code == 0


def test_all_bytes_are_shown_where_they_are_asked_for(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    draw = random.Random(3)
    asyncio.run(_settle(database, data(0, [reading(draw.random(), n) for n in range(200)])))
    (entry,) = run(capsys, "quarantine", "list", "--dsn", database.dsn, "--json").json
    arguments = ("quarantine", "show", str(entry["quarantine_id"]), "--dsn", database.dsn)
    size = entry["bytes"]
    short, whole = run(capsys, *arguments).out, run(capsys, *arguments, "--all").out
    assert short.splitlines()[-2:] == ["00000400", f"… {size - 1024:,} bytes more: --all"]
    assert whole.splitlines()[-1] == f"{size:08x}"
    assert len(run(capsys, *arguments, "--all", "--json").json["content"]["hex"].split()) == size


async def test_two_replays_at_once_commit_once(database: Database) -> None:
    await settle(database, data(0, [reading(1.0), reading(2.0, 0)]))
    number = database.one("SELECT quarantine_id FROM iot_service.quarantine")
    accepted = AcceptedTime(-1, NOW_US)

    async def once() -> int:
        async with open_writer(database) as writer:
            found = await read_entry(writer.connection, number)
            assert found is not None
            await ready.wait()
            return (await replay(writer, *found, accepted=accepted, profiles=NONE_NEW, now_s=0.0)).committed

    ready = asyncio.Event()
    tasks = [asyncio.create_task(once()) for _ in range(3)]
    ready.set()
    assert sorted(await asyncio.gather(*tasks)) == [0, 0, 1]
    assert values(database) == [1.0, 2.0]
    assert await _books(database) == (2, 0)


def test_show_what_does_not_decode(capsys: pytest.CaptureFixture[str], database: Database) -> None:
    payload = independent.Plan(b"\xc1", 1, epoch=EPOCH).payload()
    asyncio.run(_settle(database, payload))
    (entry,) = run(capsys, "quarantine", "list", "--dsn", database.dsn, "--json").json
    shown = run(capsys, "quarantine", "show", str(entry["quarantine_id"]), "--dsn", database.dsn, "--json").json
    fault = shown["content"]["fault"]
    assert (fault["part"], fault["at_byte"]) == ("body", len(payload) - 1)
    assert fault["why"].startswith("msgpack")
    assert shown["content"]["hex"].startswith("48 37 49 42")
    shown_to_people = run(capsys, "quarantine", "show", str(entry["quarantine_id"]), "--dsn", database.dsn).out
    assert f"at_byte        {len(payload) - 1}\n" in shown_to_people
    assert "why            msgpack" in shown_to_people
    assert "00000000  48 37 49 42 01 00 00 00" in shown_to_people
    said = run(capsys, "quarantine", "replay", "--dsn", database.dsn, "--json").json
    assert [(r["committed"], r["left"]) for r in said] == [(0, 1)]
    assert run(capsys, "quarantine", "show", "9999", "--dsn", database.dsn).code == 1
    missing = run(capsys, "quarantine", "replay", "9999", "--dsn", database.dsn, "--json").json
    assert missing[0]["why"] == "there is no such entry"


BAD = """
[mqtt]
host = "10.0.0.7"
porrt = 1883

[database]
dsn = 7

[ingest]
receive_maximum = 0
"""


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_bad_file_is_a_line_for_each_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    file = tmp_path / "ingest.toml"
    file.write_text(BAD)
    said = run(capsys, "ingest", command, "--config", str(file))
    assert said.code == 2
    assert said.out == ""
    lines = said.err.splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    for key in ("mqtt.porrt: unknown key; did you mean port?", "database.dsn: ", "ingest.receive_maximum: 0 is wrong"):
        assert any(key in line for line in lines), key
    missing = run(capsys, "ingest", command, "--config", str(tmp_path / "none.toml"))
    assert (missing.code, len(missing.err.splitlines())) == (2, 1)


def test_check_says_what_run_would_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, database: Database, empty_database: Database
) -> None:
    file = tmp_path / "ingest.toml"
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        file.write_text(f'[mqtt]\nport = {port}\n[database]\ndsn = "{database.dsn}"\n')
        said = run(capsys, "ingest", "check", "--config", str(file), "--json")
        assert (said.code, said.json["ok"], said.json["database"]) == (0, True, "ready")
        assert said.json["broker"] == f"127.0.0.1:{port}, answers"
    said = run(capsys, "ingest", "check", "--config", str(file), "--json")
    assert (said.code, said.json["ok"], said.json["database"]) == (1, False, "ready")
    file.write_text(f'[database]\ndsn = "{empty_database.dsn}"\n')
    said = run(capsys, "ingest", "check", "--config", str(file))
    assert said.code == 1
    assert "lacks migrations" in said.out
    file.write_text('[database]\ndsn = "host=/nowhere dbname=x password=hunter2"\n')
    said = run(capsys, "ingest", "check", "--config", str(file))
    assert said.code == 1
    assert "hunter2" not in said.out + said.err


def test_run_on_a_database_that_was_never_migrated_is_one_line(tmp_path: Path, empty_database: Database) -> None:
    """Once it was a traceback of an error that nobody foresaw."""
    file = tmp_path / "ingest.toml"
    file.write_text(f'[database]\ndsn = "{empty_database.dsn}"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "heal7_iot", "ingest", "run", "--config", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == "database: the schema lacks migration 1: run `heal7-iot db migrate --dsn …`\n"


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from heal7_iot.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("psycopg", ["audit", "--dsn", "x"], "ingest"),
        ("numpy", ["quarantine", "list"], "ingest"),
        ("apscheduler", ["ingest", "run"], "ingest"),
        ("pydantic", ["gateway", "check"], "gateway"),
    ],
)
def test_a_missing_extra_is_one_line(package: str, arguments: list[str], extra: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package, arguments=arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.returncode == 3, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert package in line
    assert f"pip install 'heal7-iot[{extra}]'" in line


async def test_a_replay_of_a_batch_whose_device_is_elsewhere_stays(database: Database) -> None:
    async with running_line(database) as line:
        await line.settle(data(0))
        await line.settle(data(0, gateway="seoul-1/attic"), gateway="seoul-1/attic")
    number = database.one("SELECT quarantine_id FROM iot_service.quarantine")
    async with open_writer(database) as writer:
        found = await read_entry(writer.connection, number)
        assert found is not None
        told = await replay(writer, *found, accepted=AcceptedTime(0, NOW_US), profiles=NONE_NEW, now_s=0.0)
    assert (told.committed, told.left) == (0, 2)
    assert "device_elsewhere" in told.why


@pytest.mark.parametrize(("days", "kept", "right"), [(800, 24, "728 days at most"), (366, 12, "363 days at most")])
def test_what_is_taken_must_also_be_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, days: int, kept: int, right: str
) -> None:
    config = tmp_path / "ingest.toml"
    config.write_text(
        f'[database]\ndsn = "dbname=x"\n[books]\nraw_retention_days = {days}\n[storage]\nkeep_months = {kept}\n'
    )
    said = run(capsys, "ingest", "check", "--config", str(config))
    assert said.code == 2
    assert f"books.raw_retention_days = {days} takes readings of months" in said.err
    assert right in said.err


@pytest.mark.parametrize("dsn", ["garbage", "postgresql://[", " ", "postgresql://u:se cret@host/heal7"])
def test_a_dsn_that_names_no_database_is_a_mistake_and_no_outage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dsn: str
) -> None:
    """The server tried it again for ever."""
    said = run(capsys, "audit", "--dsn", dsn)
    assert (said.code, len(said.err.splitlines()), "dbname=heal7" in said.err) == (2, 1, True)
    file = tmp_path / "ingest.toml"
    file.write_text(f'[database]\ndsn = "{dsn}"\n')
    for command in ("run", "check"):
        said = run(capsys, "ingest", command, "--config", str(file))
        assert (said.code, "database.dsn" in said.err + said.out) == (2, True)
        assert "cret" not in said.err + said.out


def test_a_terminal_too_narrow_for_a_table_shows_entry_after_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words were folded in their middle: nothing could be read."""
    written = io.StringIO()
    monkeypatch.setattr(
        database_option, "Console", lambda: Console(file=written, width=40, force_terminal=True, no_color=True)
    )
    columns = ["gateway", "reason", "detail"]
    rows = [("seoul-1/lobby", "value_not_finite", "NaN or infinite"), ("seoul-1/attic", "time_too_old", None)]
    database_option.show_table("quarantine", columns, rows)
    lines = written.getvalue().splitlines()
    assert "gateway  seoul-1/lobby" in lines
    assert "reason   value_not_finite" in lines
    assert sum(line.startswith("detail") for line in lines) == 1
    assert "│" not in written.getvalue()


def test_an_answer_that_cannot_be_written_is_no_answer(database: Database) -> None:
    """As of cron, on a full disk. Code 1 said that the books did not balance, below fifty lines of traceback."""
    asyncio.run(_settle(database, data(0)))
    for how in ([], ["--json"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "heal7_iot", "audit", "--dsn", database.dsn, *how],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert (done.returncode, done.stderr) == (74, "standard output: No space left on device\n")
