"""Transactions in which the file and the books in memory move together, and which find room on a full disk.

Invariant: after any failure the books in memory are those of the file. They are immutable values, so that undoing
is an assignment.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gateway.spool.database import is_full, translated
from gateway.spool.errors import SpoolCorrupt, SpoolError, SpoolUnavailable
from gateway.spool.state import State

T = TypeVar("T")


class NoRoom(SpoolUnavailable):
    """Not even by giving up the reserve and dropping what may be dropped."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What one of several works came to: its value, or the error that it raised."""

    value: T | None
    error: Exception | None


class Transactions:
    """One connection and the books that belong to it.

    make_room: called after the n-th (0 …) attempt found the disk full; False ends the attempts.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, state: State, make_room: Callable[[int], bool]
    ) -> None:
        self.connection = connection
        self.state = state
        self.suspect = False  # SQLite has met a page that is not what it wrote
        self._path = path
        self._make_room = make_room

    def run(self, work: Callable[[], T], make_room: Callable[[int], bool] | None = None) -> T:
        """Does `work` whole or not at all, and durably unless within `group`. May do it more than once.

        make_room: in place of that of all works. Raises what `work` raises, SpoolCorrupt, SpoolUnavailable and NoRoom.
        """
        if self.connection.in_transaction:
            return self._nested(work)
        attempt = 0
        while True:
            try:
                return self._commit(work)
            except sqlite3.DatabaseError as error:
                if not is_full(error):
                    raise self._translated(error) from error
                if not (make_room or self._make_room)(attempt):
                    raise NoRoom(f"{self._path}: {error}") from error
                attempt += 1

    def once(self, work: Callable[[], T]) -> T:
        """As `run`, but a full disk is the caller's: raises sqlite3.DatabaseError."""
        return self._commit(work)

    def group(self, works: Sequence[Callable[[], T]]) -> list[Outcome[T]]:
        """Several works in one transaction: one that fails harms no other. Durable when this returns.

        Raises SpoolCorrupt and SpoolUnavailable where the transaction as a whole failed: then none was done.
        """
        try:
            return self._commit(lambda: [self._outcome(work) for work in works])
        except sqlite3.DatabaseError as error:
            if not is_full(error):
                raise self._translated(error) from error
        # SQLite undid them all. One by one, each finds the room that it needs by itself.
        return [self._outcome(work) for work in works]

    def _outcome(self, work: Callable[[], T]) -> Outcome[T]:
        nested = self.connection.in_transaction
        try:
            return Outcome(self._nested(work) if nested else work(), None)
        except sqlite3.DatabaseError as error:
            # A full disk undoes the transaction around this work, and so all that was done before it.
            if nested and (is_full(error) or not self.connection.in_transaction):
                raise
            return Outcome(None, self._translated(error))
        except Exception as error:  # noqa: BLE001  # the caller of the work gets it: see SpoolThread
            return Outcome(None, error)

    def _translated(self, error: sqlite3.Error) -> SpoolError:
        found = translated(error, self._path)
        self.suspect = self.suspect or isinstance(found, SpoolCorrupt)
        return found

    def _commit(self, work: Callable[[], T]) -> T:
        before = self.state
        done = False
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = work()
            self.connection.execute("COMMIT")
            done = True
            return result
        finally:
            if not done:
                self.state = before
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def _nested(self, work: Callable[[], T]) -> T:
        before = self.state
        done = False
        self.connection.execute("SAVEPOINT work")
        try:
            result = work()
            self.connection.execute("RELEASE work")
            done = True
            return result
        finally:
            if not done:
                self.state = before
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK TO work")
                    self.connection.execute("RELEASE work")
