"""The database that a verification makes, and those of verifications that were killed.

Whoever makes one keeps a session that bears its name, from before it is made until it is dropped. So a database is
nobody's any more where no session bears its name and none is in it; its name and owner say whether it is ours to drop.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import errors
from psycopg.conninfo import make_conninfo

from ingest_server.errors import StorageError, StorageUnavailable
from ingest_server.storage.backup.errors import TargetRefused
from ingest_server.storage.connection import Connection, connect, sql, translated

PREFIX = "heal7_iot_verify_"
_NAME = re.compile(PREFIX + "[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Scratch:
    """One such database. size: bytes; None: this role may not look. ours: of our making, and this role may drop it."""

    name: str
    size: int | None
    in_use: bool
    ours: bool

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name} ({self.size / 1e6:,.0f} MB)"


async def require_right(connection: Connection) -> None:
    """Raises TargetRefused where this role may make no database."""
    with translated():
        cursor = await connection.execute(sql("backup/may_make_databases"))
        row = await cursor.fetchone()
    assert row is not None
    if not row[0]:
        raise TargetRefused(
            f"verification makes a database beside {connection.info.dbname}, and the role {row[1]} lacks CREATEDB:"
            f" ALTER ROLE {row[1]} CREATEDB; or verify as another role (--dsn; the job: backups.verify_dsn)"
        )


async def found(connection: Connection) -> list[Scratch]:
    """Every database of that server that looks like one of a verification."""
    with translated():
        cursor = await connection.execute(sql("backup/scratch_databases"), {"prefix": PREFIX})
        rows = await cursor.fetchall()
    return [
        Scratch(name, size, in_use, may_drop and _NAME.fullmatch(name) is not None)
        for name, size, in_use, may_drop in rows
    ]


async def clear(connection: Connection) -> tuple[list[Scratch], list[Scratch]]:
    """Drops what killed verifications have left: (dropped, left). Left is what is perhaps not of our making."""
    dropped: list[Scratch] = []
    left: list[Scratch] = []
    for database in await found(connection):
        if database.in_use:
            continue
        (dropped if database.ours and await _dropped(connection, database.name) else left).append(database)
    return dropped, left


async def _dropped(connection: Connection, name: str) -> bool:
    try:
        with translated():
            # Not by force: who has come in meanwhile knows more than we do.
            await connection.execute(f"DROP DATABASE {name}".encode())
    except StorageUnavailable as error:
        if isinstance(error.__cause__, errors.ObjectInUse | errors.InvalidCatalogName):
            return False
        raise
    return True


@asynccontextmanager
async def made(maker: Connection, dsn: str) -> AsyncIterator[Connection]:
    """A session in a database of its own, which is dropped at the end. maker: a session on the server of the DSN."""
    name = f"{PREFIX}{secrets.token_hex(6)}"
    with translated():
        await maker.execute("SELECT set_config('application_name', %s, false)", (name,))
        try:
            # As empty as they come: what a platform puts into its template is none of a backup's business.
            await maker.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'".encode())
        except errors.DiskFull as error:
            raise TargetRefused(f"{error}".splitlines()[0] + ": the server has no room for another database") from error
    try:
        connection = await _inside(dsn, name)
        try:
            yield connection
        finally:
            await connection.close()
    except BaseException:
        # Also where we are cancelled: Ctrl-C must not leave a copy of every reading behind. Where this fails, too, the
        # first fault is the one to tell, and the next verification drops what is left.
        with contextlib.suppress(StorageError):
            await _to_its_end(_drop(maker, name))
        raise
    await _to_its_end(_drop(maker, name))


async def _inside(dsn: str, name: str) -> Connection:
    try:
        return await connect(make_conninfo(dsn, dbname=name), "verify", 0)
    except StorageUnavailable as error:
        if "pg_hba.conf" not in str(error):
            raise
        raise TargetRefused(
            f"{error}: the server lets this role make a database, and not into it: write `all` where pg_hba.conf names"
            " databases for it, or verify elsewhere (--dsn; the job: backups.verify_dsn)"
        ) from error


async def _drop(maker: Connection, name: str) -> None:
    with translated():
        await maker.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def _to_its_end(work: Any) -> None:
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
