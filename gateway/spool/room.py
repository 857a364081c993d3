"""Where bytes come from when there are none left: at the spool's bound, and on a disk that is full.

First settled batches go, oldest first, which is no drop. Then, as `when_full` says, batches that were sealed long ago
(each with its loss, in the transaction that needs their room), or what comes in. A batch of gaps always fits: some
room below the bound is closed to data.

Invariant (6, second half): recording a drop succeeds at zero free bytes. On a full disk the reserve is given up, and
from then on the file does not grow: what the reserve gave is left to the WAL.
"""

import sqlite3

from gateway.link.wire import Body
from gateway.spool import removal
from gateway.spool.database import PAGE_BYTES, is_full
from gateway.spool.reserve import Reserve
from gateway.spool.state import ROW_BYTES
from gateway.spool.transactions import Transactions
from gateway.spool.values import SpoolOptions

GAP_ROOM = 196_608
"""Bytes below the bound that data may not take: a gap batch (128 KiB at most) is never dropped and must fit."""
DATA_AT_ONCE = 262_144
"""Bytes that are freed when a disk is full: the batch that needs them is at most half as large."""
BOOKS_AT_ONCE = 16_384
"""The same for a loss, a receipt or an anchor: a few rows."""
DROP_PAGES = 64
"""Pages that dropping itself may take on a full disk, before it has given any back."""
MAX_PAGES = 1_073_741_823
"""As many as SQLite lets a file have if nobody says else."""


class Room:
    """Of one open file."""

    def __init__(self, tx: Transactions, options: SpoolOptions, reserve: Reserve) -> None:
        self._tx = tx
        self._connection = tx.connection
        self._options = options
        self._reserve = reserve
        self._drops_oldest = options.when_full == "drop_oldest"
        self._dropping_helps = True

    def used(self) -> int:
        """Bytes that the file uses; pages that wait to be used again are not in it."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return (self._pages() - int(free)) * PAGE_BYTES

    def fill(self) -> float:
        """The share of the room for data that unsettled batches take: settled ones make room by themselves.

        The room is the bound's; on a full disk that of the file, which does not grow there.
        """
        state = self._tx.state
        unsettled = state.held.bytes / state.stored_bytes if state.stored_bytes else 0.0
        most = min(self._options.bound_bytes - GAP_ROOM, self._limit_pages(0) * PAGE_BYTES)
        return self.used() * unsettled / most

    # -- at the bound: within a transaction

    def for_data(self, body: Body) -> bool:
        """Makes room for a batch of data; False where what comes in is to be the loss."""
        most = self._options.bound_bytes - GAP_ROOM - _footprint(body)
        return self._reduce(most, drop=self._drops_oldest)

    def for_gaps(self, body: Body) -> None:
        """Makes room for a batch of gaps, which goes in whatever that costs."""
        # What the room is kept for; the next batch of data makes it anew. And a file that was filled under a higher
        # bound is not to be emptied for the sake of one gap.
        most = max(self._options.bound_bytes, self.used())
        self._reduce(most - _footprint(body), drop=True)

    def _reduce(self, most: int, *, drop: bool) -> bool:
        while self.used() > most:
            state = removal.free_oldest(self._connection, self._tx.state)
            if state is None and drop:
                state = removal.drop_one(self._connection, self._tx.state, "bound", newest=not self._drops_oldest)
            if state is None:
                return False
            self._tx.state = state
        return True

    # -- on a full disk: between the attempts of a transaction

    def make(self, attempt: int) -> bool:
        """After the n-th attempt at a work found the disk full; False where nothing is left to try."""
        return self._make(attempt, DATA_AT_ONCE if attempt else BOOKS_AT_ONCE, drop=True)

    def make_for_data(self, attempt: int) -> bool:
        """As `make`, for a batch of data: where what comes in is to go, nothing is dropped for its sake."""
        return self._make(attempt, DATA_AT_ONCE, drop=self._drops_oldest)

    def regain(self) -> None:
        """Makes the reserve again where a full disk has taken it and there is room; to be called now and then."""
        self._dropping_helps = True
        if self._reserve.room():
            self._limit_pages(MAX_PAGES)
            self._reserve.make()

    def _make(self, attempt: int, at_once: int, *, drop: bool) -> bool:
        if attempt == 0:
            self._reserve.release()
            self._checkpoint()
            # Were what the reserve gave taken by data, not even a drop could be recorded. New batches take the pages
            # of those that are dropped. (A file that is smaller than this has little to drop.)
            self._limit_pages(max(self._pages(), self._options.reserve_bytes // 4 // PAGE_BYTES))
        if attempt > 1:
            # Somebody else takes every byte: to drop still more, again and again, would only lose what is there.
            self._dropping_helps = self._dropping_helps and not drop
        if attempt > 1 or (drop and not self._dropping_helps):
            return attempt == 0
        limit = self._limit_pages(0)
        self._limit_pages(limit + DROP_PAGES)
        try:
            found = self._tx.once(lambda: self._reduce_by(at_once, drop=drop))
        except sqlite3.DatabaseError as error:
            if not is_full(error):
                raise
            return False
        finally:
            self._limit_pages(max(limit, self._pages()))
        self._checkpoint()
        return found or attempt == 0

    def _reduce_by(self, size: int, *, drop: bool) -> bool:
        before = self.used()
        self._reduce(before - size, drop=drop)
        return self.used() < before

    def _pages(self) -> int:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(pages)

    def _limit_pages(self, pages: int) -> int:
        """How large the file may grow; 0 only asks."""
        (limit,) = self._connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        return int(limit)

    def _checkpoint(self) -> None:
        # What is in the WAL goes into the file, and the WAL's own bytes can be used again.
        try:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except sqlite3.DatabaseError as error:
            if not is_full(error):
                raise


def _footprint(body: Body) -> int:
    """Bytes that a batch takes of the file at most: its pages, and those of the tree that may have to be split."""
    return ((len(body.stored) + ROW_BYTES) // (PAGE_BYTES - 4) + 4) * PAGE_BYTES
