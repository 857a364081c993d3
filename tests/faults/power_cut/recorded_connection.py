"""SQLite by apsw in the shape of the standard library's module, as far as the spool uses it.

The standard library takes no VFS of Python's; the spool's own code runs over this as it is.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import apsw

Row = tuple[Any, ...]
_CHECKPOINT_AFTER = "PRAGMA wal_autocheckpoint = "


@contextmanager
def _as_the_standard_library() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        told = sqlite3.OperationalError(str(error))
        told.sqlite_errorcode = getattr(error, "extendedresult", 0)
        raise told from error


class RecordedConnection:
    """In autocommit mode, as the spool has it.

    instead: statements by what is to be said in their place (to break the code on purpose).
    """

    def __init__(self, path: str, vfs: str, instead: Mapping[str, str]) -> None:
        self._instead = instead
        with _as_the_standard_library():
            self._connection = apsw.Connection(path, vfs=vfs)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Rows":
        if sql.startswith(_CHECKPOINT_AFTER):
            self._checkpoint_after(int(sql.removeprefix(_CHECKPOINT_AFTER)))
            sql = "SELECT 1"
        with _as_the_standard_library():
            return Rows(self._connection.execute(self._instead.get(sql, sql), tuple(parameters)))

    def _checkpoint_after(self, most: int) -> None:
        # SQLite's own hook ignores a checkpoint that fails, as this does; but apsw would then say of the commit
        # before it that it has failed.
        def checkpoint(connection: apsw.Connection, name: str, pages: int) -> int:
            with suppress(apsw.Error):
                if pages >= most:
                    connection.wal_checkpoint(name)
            return apsw.SQLITE_OK

        self._connection.set_wal_hook(checkpoint)

    def executescript(self, sql: str) -> "Rows":
        return self.execute(sql)

    def create_function(self, name: str, arguments: int, function: Callable[..., Any], *, deterministic: bool) -> None:
        self._connection.create_scalar_function(name, function, arguments, deterministic=deterministic)

    def close(self) -> None:
        with _as_the_standard_library():
            self._connection.close()


class Rows:
    """What a statement found."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor

    def fetchone(self) -> Row | None:
        with _as_the_standard_library():
            return self._cursor.fetchone()

    def fetchall(self) -> list[Row]:
        with _as_the_standard_library():
            return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Row]:
        while (row := self.fetchone()) is not None:
            yield row
