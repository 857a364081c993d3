"""The tests' second PostgreSQL is another one than the first, and each test gets the one that it asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_server.storage.connection import connect
from ingest_server.storage.schema.migrations import migrate
from tests.contracts.sources import ROOT
from tests.peers.needs import WITHOUT_PEERS, needs
from tests.peers.postgres import Database


def test_it_is_older_than_the_wheels_and_one_that_we_support(database: Database, debian_database: Database) -> None:
    version, wheels = (int(db.one("SHOW server_version_num")) for db in (debian_database, database))
    assert 150_000 <= version < wheels


async def test_any_database_is_a_migrated_one_on_either(any_database: Database, request: pytest.FixtureRequest) -> None:
    version = int(any_database.one("SHOW server_version_num")) // 10_000
    assert (version >= 18) == ("pg18" in request.node.name)
    connection = await connect(any_database.dsn, "test", 30)
    try:
        assert await migrate(connection) == []
    finally:
        await connection.close()


def test_any_empty_database_holds_nothing(any_empty_database: Database, request: pytest.FixtureRequest) -> None:
    assert any_empty_database.one("SELECT to_regnamespace('iot_service')") is None
    version = int(any_empty_database.one("SHOW server_version_num")) // 10_000
    assert (version >= 18) == ("pg18" in request.node.name)


@pytest.mark.parametrize("peer", ["postgresql", "timescaledb"])
def test_a_bare_machine_skips_and_says_what_it_wants(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHOUT_PEERS, "1")
    with pytest.raises(pytest.skip.Exception, match=f"wants {peer}: "):
        needs(peer)


def test_only_the_server_that_is_asked_for_is_started(tmp_path: Path) -> None:
    """A machine that has one of them runs its half: the other's fixtures must not be touched."""
    (tmp_path / "test_some.py").write_text("def test_that_runs(any_database): any_database.one('SELECT 1')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *["-p", "no:cacheprovider", "-p", "tests.conftest", "--setup-show", "-k", "pg18"],
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "1 passed" in ended.stdout
    assert "SETUP    S postgres" in ended.stdout
    assert "debian" not in ended.stdout
