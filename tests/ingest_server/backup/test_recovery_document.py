"""The drill of docs/recovery.md, its commands as they stand there, in its order."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from tests.contracts.sources import ROOT
from tests.ingest_server.backup.conftest import content
from tests.ingest_server.line import DAY, NOW_US, data, open_writer, reading, settle
from tests.peers.postgres import Database, run

DOCUMENT = (ROOT / "docs/recovery.md").read_text()
_BACKUPS, _JOURNAL = "/var/backups/heal7-iot", "/var/lib/heal7-iot/erasures.jsonl"
HEAL7, RESCUE, STAGING = "heal7", "heal7_rescue", "staging"


def commands(heading: str) -> list[str]:
    """What a section says to type."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        line.strip()
        for line in section.splitlines()
        if re.match(r" {4,}(heal7-iot|psql|createdb|dropdb|find|rm) ", line)
    ]


class Operator:
    """Types what the document says, at a machine that has its folders elsewhere."""

    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "erasures.jsonl"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "heal7-iot").write_text(f'#!/bin/sh\nexec {sys.executable} -m heal7_iot "$@"\n')
        (programs / "heal7-iot").chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{server._bin}:{os.environ['PATH']}",
            "PGHOST": str(server.directory),
            "PGUSER": "postgres",
        }

    def types(self, command: str) -> str:
        there = command.replace(_BACKUPS, str(self.folder / "backups")).replace(_JOURNAL, str(self.journal))
        done = subprocess.run(
            ["bash", "-c", there], env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{there}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def operator(postgres: EmbeddedPostgres, tmp_path: Path) -> Operator:
    return Operator(postgres, tmp_path)


async def _history(database: Database) -> None:
    for seq in range(6):
        at_us = NOW_US - (seq + 1) * DAY
        await settle(database, data(seq, [reading(seq + n, at_us + n) for n in range(10)], before=10 * seq))


async def _erase(database: Database, journal: Path, days: int) -> None:
    until = datetime.fromtimestamp(NOW_US // 1_000_000, UTC) - timedelta(days=days)
    scope = erasing.Scope("seoul-1", None, "hall-1", None, until)
    async with open_writer(database) as writer:
        erasure_id, _ = await erasing.request(writer.connection, scope, reason="r", by="b")
        assert await erasing.carry_out(writer.connection, erasure_id) > 0
        (entry,) = [e for e in await erasing.listed(writer.connection) if e.erasure_id == erasure_id]
        erasure_journal.append(journal, entry, await erasing.intervals(writer.connection, erasure_id))


@pytest.mark.slow
def test_the_drill(postgres: EmbeddedPostgres, operator: Operator) -> None:
    database = Database(postgres, HEAL7)
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        try:
            operator.types(commands("The database is gone")[0])
            operator.types(f"heal7-iot db migrate --dsn 'dbname={HEAL7}'")
            run(_history(database))
            for command in commands("Before it happens"):
                operator.types(command)
            (made,) = (operator.folder / "backups").iterdir()
            run(_erase(database, operator.journal, 5))
            before = content(database)
            admin.execute(f"DROP DATABASE {HEAL7} WITH (FORCE)".encode())

            create, restore, *look = commands("The database is gone")
            operator.types(create)
            operator.types(restore)
            after = content(database)
            assert after["sensor_readings"] == before["sensor_readings"]
            assert after["ledger"] == before["ledger"]
            assert len(look) == 4
            for command in look:
                operator.types(command)
            assert len(list(made.parent.iterdir())) == 2

            lost = "series_id = 1 AND recorded_at >= '2026-11-20T00:00Z' AND recorded_at < '2026-11-21T00:00Z'"
            assert lost in DOCUMENT
            database.query("DELETE FROM iot_service.rollup_log")
            database.query(f"DELETE FROM iot_service.sensor_readings WHERE {lost}")
            assert content(database)["sensor_readings"] != before["sensor_readings"]
            for command in commands("Somebody deleted readings"):
                operator.types(command)
            assert content(database)["sensor_readings"] == before["sensor_readings"]
            assert database.one("SELECT series_ids FROM iot_service.rollup_log") == [1]

            admin.execute(f"CREATE DATABASE {STAGING}".encode())
            (as_copy,) = commands("A copy for staging")
            operator.types(as_copy)
            ledger = "SELECT ledger_id FROM iot_service.ledger_identity"
            assert Database(postgres, STAGING).one(ledger) != database.one(ledger)
        finally:
            for name in (HEAL7, RESCUE, STAGING):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def test_every_command_of_ours_is_in_the_drill() -> None:
    drilled = {
        command
        for heading in ("Before it happens", "The database is gone", "Somebody deleted readings", "A copy for staging")
        for command in commands(heading)
    }
    written = {
        line.strip()
        for line in DOCUMENT.split("\n## Continuous WAL archiving\n")[0].splitlines()
        if re.match(r" {4,}heal7-iot ", line)
    }
    assert written <= drilled
