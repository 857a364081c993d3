"""Continuous WAL archiving as docs/recovery.md has it: its settings and its commands, on a server that is lost."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from tests.ingest_server.backup.conftest import NOW, content
from tests.ingest_server.backup.test_recovery_document import DOCUMENT
from tests.ingest_server.line import DAY, NOW_US, PATIENCE_S, books_of, data, open_writer, reading, settle
from tests.peers.postgres import FAST, Database, debian_binaries, migrated_here, running_postgres

pytestmark = pytest.mark.slow

SECTION = DOCUMENT.split("\n## Continuous WAL archiving\n")[1]
TYPED = [line.strip() for line in SECTION.splitlines() if line.startswith("    ")]
SETTINGS = [line for line in TYPED if re.match(r"\w+ = ", line)]
COMMANDS = [line for line in TYPED if line not in SETTINGS]
TARGET = "2026-11-21 02:59:00+00"


def starting_with(*words: str) -> list[str]:
    found = [line for line in TYPED if line.split()[0] in words]
    assert len(found) >= len(words)
    return found


class Site:
    """A server, its archive, and whoever types what the document says."""

    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        self.server = server
        self.database = Database(server, "heal7")
        self.wal, self.base = server.directory / "wal", server.directory / "base"
        self.journal = folder / "erasures.jsonl"
        programs = server.directory / "bin"
        programs.mkdir()
        (programs / "heal7-iot").write_text(f'#!/bin/sh\nexec {sys.executable} -m heal7_iot "$@"\n')
        (programs / "heal7-iot").chmod(0o755)
        for place in (self.wal, self.base):
            self.types(f"mkdir {place}")

    def here(self, line: str) -> str:
        for there, place in (
            ("/mnt/wal", self.wal),
            ("/mnt/base/2026-11-16", f"{self.base}/$(ls {self.base} | tail -n 1)"),
            ("/mnt/base", self.base),
            ("/var/lib/postgresql/15/main", self.server.data),
            ("/var/lib/heal7-iot/erasures.jsonl", self.journal),
        ):
            line = line.replace(there, str(place))
        return line

    def types(self, command: str) -> str:
        environment = os.environ | {
            "PATH": f"{self.server.directory}/bin:{self.server._bin}:{os.environ['PATH']}",
            "PGHOST": str(self.server.directory),
            "PGUSER": "postgres",
        }
        # Ours is installed where the server's account may not look.
        account: dict[str, Any] = {} if command.startswith("heal7-iot") else self.server._as_account()
        done: subprocess.CompletedProcess[str] = subprocess.run(
            ["bash", "-c", self.here(command)],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **account,
        )
        assert done.returncode == 0, f"{self.here(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def configure(self, lines: list[str]) -> None:
        with (self.server.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(["", *map(self.here, lines), ""]))

    def archived(self) -> None:
        """What `archive_timeout` does in its time."""
        last = str(self.database.one("SELECT pg_walfile_name(pg_switch_wal())"))
        self.wait(f"{last} is archived", lambda: (self.wal / last).exists())

    def take_base(self) -> None:
        for command in starting_with("pg_basebackup", "pg_verifybackup", "find", "pg_archivecleanup"):
            self.types(command)

    def recovered(self) -> None:
        self.server.start()
        (ask,) = [line for line in TYPED if "pg_is_in_recovery" in line]
        self.wait("it was promoted", lambda: self.types(ask.replace("-c", "-Atc")).strip() == "f")

    @staticmethod
    def wait(what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)


@pytest.fixture(params=["pg18", "pg15"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    # What is committed must be in the WAL when the server is killed.
    settings = FAST | {"synchronous_commit": "on"}
    with running_postgres(settings, None if request.param == "pg18" else debian_binaries()) as server:
        made = Site(server, tmp_path)
        made.configure([line for line in SETTINGS if re.match(r"wal_level|archive_", line)])
        server.stop()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE heal7")
        migrated_here(made.database)
        yield made


def send(database: Database, *seqs: int) -> None:
    """As a gateway does, also again."""
    for seq in seqs:
        at_us = NOW_US - (seq + 1) * DAY
        asyncio.run(settle(database, data(seq, [reading(seq + n / 8, at_us + n) for n in range(5)], before=5 * seq)))


def rows(database: Database) -> list[tuple[Any, ...]]:
    """But for when they were written."""
    return database.query(
        "SELECT series_id, recorded_at, value, reliability, causes FROM iot_service.sensor_readings ORDER BY 1, 2, 3"
    )


def test_a_wrong_deletion_is_undone_to_the_moment(site: Site) -> None:
    send(site.database, 0, 1)
    site.take_base()
    send(site.database, 2, 3)
    before = content(site.database)
    moment = str(site.database.one("SELECT clock_timestamp()"))
    site.database.query("DELETE FROM iot_service.sensor_readings")
    send(site.database, 4)
    asyncio.run(erase(site))
    site.server.stop()
    for command in starting_with("mv", "cp", "touch"):
        site.types(command)
    site.configure([line.replace(TARGET, moment) for line in SETTINGS if re.match(r"restore_|recovery_", line)])
    site.recovered()
    assert content(site.database) == before
    (enforce,) = starting_with("heal7-iot")
    assert "1 erasures brought into force, 10 readings removed" in site.types(enforce)
    assert "0 erasures brought into force, 0 readings removed" in site.types(enforce)
    assert len(rows(site.database)) == 10, "two of four days were erased"
    # The gateway hears that the database lacks the fifth, and sends it again; the others are duplicates.
    send(site.database, 3, 4)
    books = asyncio.run(books_of(site.database))
    assert (len(rows(site.database)), books.sealed, books.in_flight) == (15, 25, 0)


async def erase(site: Site) -> None:
    async with open_writer(site.database) as writer:
        scope = erasing.Scope("seoul-1", None, "hall-1", NOW - timedelta(days=4.5), NOW - timedelta(days=2.5))
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="r", by="b")
        (entry,) = await erasing.listed(writer.connection)
        erasure_journal.append(site.journal, entry, await erasing.intervals(writer.connection, erasure_id))


def test_a_server_whose_disk_is_gone_comes_back_up_to_what_was_archived(site: Site) -> None:
    send(site.database, 0, 1)
    site.take_base()
    send(site.database, 2, 3)
    site.archived()
    before = content(site.database)
    send(site.database, 4)
    everything = rows(site.database)
    site.server.kill()
    shutil.rmtree(site.server.data)
    # No folder is left that could be put aside, nor WAL of it.
    for command in starting_with("cp", "touch"):
        if "main.before" not in command:
            site.types(command)
    site.configure([line for line in SETTINGS if line.startswith("restore_")])
    site.recovered()
    assert content(site.database) == before
    send(site.database, 3, 4)
    assert rows(site.database) == everything
    books = asyncio.run(books_of(site.database))
    assert (books.committed, books.in_flight) == (25, 0)
    # It is archived on, and the next base backup holds.
    site.archived()


def test_a_server_that_does_not_start_any_more_loses_nothing_while_its_wal_can_be_read(site: Site) -> None:
    send(site.database, 0, 1)
    site.take_base()
    send(site.database, 2)
    site.archived()
    send(site.database, 3)
    before = content(site.database)
    site.server.kill()
    assert site.server.data.joinpath("global/pg_control").write_bytes(b"") == 0
    for command in starting_with("mv", "cp", "touch"):
        site.types(command)
    site.configure([line for line in SETTINGS if line.startswith("restore_")])
    site.recovered()
    assert content(site.database) == before


def test_every_line_of_the_recipe_is_tried() -> None:
    known = ("wal_level", "archive_", "restore_", "recovery_")
    assert all(line.startswith(known) for line in SETTINGS)
    words = {"psql", "pg_basebackup", "pg_verifybackup", "find", "pg_archivecleanup", "mv", "cp", "touch", "heal7-iot"}
    assert {line.split()[0] for line in COMMANDS} == words
