"""Connections to the database, and the one place where psycopg's errors become ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ingest_server.errors import BatchRejected, StorageUnavailable

Connection = AsyncConnection[TupleRow]
BlockingConnection = psycopg.Connection[TupleRow]

CONNECT_TIMEOUT_S = 10
_ASK_EVERY_S = 0.2


@cache
def sql(name: str) -> bytes:
    """The statement of a package of storage: `line/settle` is in `line/sql/settle.sql`."""
    folder, _, file = name.rpartition("/")
    return files("ingest_server.storage").joinpath(folder, "sql", f"{file}.sql").read_bytes()


@contextmanager
def translated() -> Iterator[None]:
    """Turns psycopg's errors into StorageError: what the caller should do is the class."""
    try:
        yield
    # A trigger of the platform's that raises, a limit that a row exceeds: these, too, the same content meets again.
    except (errors.DataError, errors.IntegrityError, errors.RaiseException, errors.ProgramLimitExceeded) as error:
        raise BatchRejected(_first_line(error)) from error
    except UnicodeEncodeError as error:
        raise BatchRejected(f"{error.object!r} is not UTF-8: a name is") from error
    except psycopg.Error as error:
        # Everything else is worth another try: the server went away, a lock or statement timed out, the disk is
        # full, a permission is missing until an operator grants it. Nothing is acknowledged meanwhile.
        raise StorageUnavailable(_first_line(error)) from error
    except OSError as error:
        raise StorageUnavailable(str(error)) from error


def _first_line(error: psycopg.Error) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def dsn_fault(dsn: str) -> str | None:
    """Why this names no database, and what would; None where it can be tried."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        # libpq quotes what it was given, and this goes to logs.
        secret = "password" in dsn or "@" in dsn
        why = (
            "this is no connection string (it may hold a password, and is not shown)" if secret else str(error).strip()
        )
    else:
        if dsn.strip():
            return None
        why = "nothing is named"
    return f"{why}: write e.g. 'host=/run/postgresql dbname=heal7' or postgresql://user@host/heal7"


async def connect(
    dsn: str, purpose: str, statement_timeout_s: float, lock_timeout_s: float | None = None
) -> Connection:
    """A connection for one purpose (`write`, `read`, …), with timeouts of its own. Raises StorageUnavailable.

    lock_timeout_s: None: as long as a statement may take.
    """
    lock_s = statement_timeout_s if lock_timeout_s is None else lock_timeout_s
    with translated():
        return await AsyncConnection.connect(dsn, autocommit=True, **_parameters(purpose, statement_timeout_s, lock_s))


def connect_blocking(dsn: str, purpose: str, statement_timeout_s: float) -> BlockingConnection:
    """As `connect`, outside an event loop: it hands over the rows of a COPY in less than half the time."""
    with translated():
        return psycopg.Connection.connect(
            dsn, autocommit=True, **_parameters(purpose, statement_timeout_s, statement_timeout_s)
        )


def _parameters(purpose: str, statement_timeout_s: float, lock_timeout_s: float) -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        # Not PGCLIENTENCODING's or a role's: names are written in every alphabet.
        "client_encoding": "utf8",
        "application_name": f"heal7-iot {purpose}",
        "options": f"-c statement_timeout={int(statement_timeout_s * 1000)} -c timezone=UTC"
        f" -c lock_timeout={int(lock_timeout_s * 1000)} -c idle_in_transaction_session_timeout=60000"
        # Statements of ours take milliseconds, and their costs are overestimated: to compile them takes longer.
        " -c jit=off"
        # Nor may the locks of a server whose machine vanished stay for as long: leader, migration, refresh.
        " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000",
        # A database that vanished without a word must not hold the line for the kernel's two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


@asynccontextmanager
async def session_lock(connection: Connection, key: int) -> AsyncIterator[None]:
    """Holds an advisory lock over several transactions. Asks again and again: a wait would meet a timeout."""
    with translated():
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (key,))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                break
            await asyncio.sleep(_ASK_EVERY_S)
    try:
        yield
    finally:
        # Else it would take the place of what went wrong: whoever meets an error gives the connection up, and the lock.
        with suppress(psycopg.Error):
            await connection.execute("SELECT pg_advisory_unlock(%s)", (key,))


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A READ COMMITTED transaction. Raises StorageError; after StorageUnavailable its outcome may be unknown."""
    with translated():
        async with connection.transaction():
            yield
