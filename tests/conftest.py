"""Peers that several packages' tests share, and the count of the tests that did not run."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from heal7_iot.embedded.postgres import EmbeddedPostgres
from tests.peers.mosquitto import mosquitto
from tests.peers.needs import wanted
from tests.peers.postgres import (
    FAST,
    Database,
    debian_binaries,
    make_template,
    migrated_here,
    new_database,
    running_postgres,
)
from tests.peers.timescaledb.server import TimescaleDB, emptied, running_timescaledb

__all__ = ["mosquitto"]

NO_SKIPS = "HEAL7_NO_SKIPS"
"""Environment variable: with `1`, a test that does not run fails the session."""

_TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The session's server. It does not survive a power cut: tests of durability start one of their own."""
    with running_postgres(FAST) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody connects to: it is copied."""
    make_template(postgres, _TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def database(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Database]:
    """A migrated database of this test's own."""
    with new_database(postgres, migrated) as made:
        yield made


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database of this test's own without anything in it."""
    with new_database(postgres, "template1") as made:
        yield made


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[EmbeddedPostgres]:
    """The session's server of the oldest version that Debian has here, 15 or newer."""
    with running_postgres(FAST, debian_binaries()) as server:
        yield server


@pytest.fixture(scope="session")
def debian_migrated(debian_postgres: EmbeddedPostgres) -> str:
    """What `migrated` is, on Debian's server."""
    make_template(debian_postgres, _TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def debian_database(debian_postgres: EmbeddedPostgres, debian_migrated: str) -> Iterator[Database]:
    """What `database` is, on Debian's server."""
    with new_database(debian_postgres, debian_migrated) as made:
        yield made


@pytest.fixture
def debian_empty_database(debian_postgres: EmbeddedPostgres) -> Iterator[Database]:
    """What `empty_database` is, on Debian's server."""
    with new_database(debian_postgres, "template1") as made:
        yield made


_PG15, _TIMESCALEDB = (pytest.param(name, marks=pytest.mark.slow) for name in ("pg15", "timescaledb"))
# Whoever works on this sees the newest server in five minutes, and what TimescaleDB's flavour does by itself; that all
# of them behave alike, with the slow tests.


@pytest.fixture(params=["pg18", _PG15])
def any_database(request: pytest.FixtureRequest) -> Database:
    """`database` and then `debian_database`: the test runs on both."""
    return _asked_for(request, {"pg18": "database", "pg15": "debian_database"})


@pytest.fixture(params=["pg18", _PG15])
def any_empty_database(request: pytest.FixtureRequest) -> Database:
    """`empty_database` and then `debian_empty_database`: the test runs on both."""
    return _asked_for(request, {"pg18": "empty_database", "pg15": "debian_empty_database"})


@pytest.fixture(params=["pg18", _PG15, _TIMESCALEDB])
def every_database(request: pytest.FixtureRequest) -> Database:
    """Both versions of PostgreSQL, and TimescaleDB: what behaves alike on all of them."""
    return _asked_for(request, {"pg18": "database", "pg15": "debian_database", "timescaledb": "migrated_timescale"})


def _asked_for(request: pytest.FixtureRequest, fixtures: dict[str, str]) -> Database:
    # By name: as arguments both would be made, and a machine that has one of the servers could not run its half.
    made = request.getfixturevalue(fixtures[request.param])
    assert isinstance(made, Database)
    return made


@pytest.fixture(scope="session")
def timescaledb() -> Iterator[TimescaleDB]:
    """The session's TimescaleDB: one backend, which connections use in turns (`tests/peers/timescaledb/server.py`)."""
    with running_timescaledb() as server:
        yield server


@pytest.fixture
def timescale_database(timescaledb: TimescaleDB) -> Iterator[Database]:
    """The one database of TimescaleDB, without the schemas that our code makes; they are dropped afterwards."""
    with emptied(Database(timescaledb, timescaledb.database)) as database:
        yield database


@pytest.fixture
def migrated_timescale(timescale_database: Database) -> Database:
    """The same with our schema, of TimescaleDB's flavour."""
    migrated_here(timescale_database)
    return timescale_database


@pytest.fixture(params=["native", "timescaledb"])
def flavoured(request: pytest.FixtureRequest) -> Database:
    """A migrated database of each flavour."""
    return _asked_for(request, {"native": "database", "timescaledb": "migrated_timescale"})


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    missing = Counter(wanted(reason) or f"another situation ({reason})" for reason in _skips(terminalreporter))
    for tool, tests in sorted(missing.items()):
        terminalreporter.write_line(f"SKIPPED LOUDLY: {tests} tests want {tool}", yellow=True, bold=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(NO_SKIPS) == "1" and reporter is not None and _skips(reporter) and session.exitstatus == 0:
        reporter.write_line(f"\n{NO_SKIPS}=1: tests were skipped, which fails this session", red=True, bold=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skips(reporter: TerminalReporter) -> list[str]:
    reasons = []
    for report in reporter.stats.get("skipped", []):
        place = report.longrepr
        reasons.append(place[2].removeprefix("Skipped: ") if isinstance(place, tuple) else str(place))
    return reasons
