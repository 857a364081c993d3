"""The spool: every sealed batch, on disk, until the database has it.

Invariants:
1. An identity is never used twice: every opening begins a new random epoch, whatever became of the file since;
   epochs that it finds only drain.
2. A batch leaves only settled, or dropped with its loss in the same transaction (WAL, `synchronous = FULL`).
6. A corrupt file is set aside and salvaged, never a reason not to start (`opening`); recording a drop succeeds at
   zero free bytes (`reserve`, `transactions`).

Times of readings are µs of the boot's monotonic clock; wall time is given by the caller. For one thread: see
`gateway.spool.thread`.
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from gateway.link.anchor import Anchor
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from gateway.link.wire import ENVELOPE_ROOM, MAX_EPOCH, MAX_GAP_SEQS, Batch, Body, Envelope, Kind, encode_gaps
from gateway.spool import clock, losses, opening, removal, settlement
from gateway.spool.counting import whole_file
from gateway.spool.database import PAGE_BYTES, is_full
from gateway.spool.errors import ForeignLedger
from gateway.spool.reserve import Reserve
from gateway.spool.rows import INSERT, SELECT, Row, batch_id, read_row, split_id
from gateway.spool.state import ROW_BYTES, Held, Loss, State, tally
from gateway.spool.transactions import NoRoom, Outcome, Transactions
from gateway.spool.values import Books, Boot, Identity, SpoolOptions, Stored, Usage

log = logging.getLogger(__name__)

T = TypeVar("T")

GAP_ROOM = 196_608
"""Bytes below the bound that data may not take: a gap batch (128 KiB at most) is never dropped and must fit."""
GAP_ENTRIES = 512
"""Entries of a gap batch: each takes some 100 bytes before compression, and a batch has 128 KiB."""
BOOK_EPOCHS = 64
"""Epochs in the books: a status of more would outgrow its message."""
BOOK_SPANS = 200
"""Ranges of one epoch in the books (WIRE.md §5)."""
ROOM_AT_ONCE = 262_144
"""Bytes that are dropped when a disk is full: the batch that needs them is at most half as large."""
MAX_PAGES = 1_073_741_823
"""As many as SQLite lets a file have if nobody says else."""
DROP_PAGES = 64
"""Pages that dropping itself may take on a full disk, before it has given any back."""


def draw_epoch() -> int:
    """A random epoch, 1 … 2^63-1."""
    return secrets.randbelow(MAX_EPOCH) + 1


class Spool:
    """The batches of one gateway in one SQLite file. Made by `open`; to be closed."""

    def __init__(self, connection: sqlite3.Connection, path: Path, options: SpoolOptions, state: State) -> None:
        self._connection = connection
        self._options = options
        self._reserve = Reserve(path.with_name(path.name + ".reserve"), options.reserve_bytes)
        self._tx = Transactions(connection, path, state, self._make_room)
        self._current = 0
        self._boot = 0
        self._gap_seqs = MAX_GAP_SEQS
        self._dropping_helps = True

    @classmethod
    def open(
        cls,
        path: Path,
        options: SpoolOptions,
        boot: Boot,
        now_wall_s: float | None,
        draw_epoch: Callable[[], int] = draw_epoch,
    ) -> Self:
        """Opens the file, or makes it, and begins a new epoch.

        now_wall_s: Unix time, None while the clock is not trusted. A file that turns out damaged is set aside as
        `<name>.corrupt-<n>` and salvaged. Raises SpoolBusy, SpoolUnavailable (no such folder, disk full before
        there was a reserve), SpoolError (file of a later release).
        """
        reserve = Reserve(path.with_name(path.name + ".reserve"), options.reserve_bytes)
        connection, state, last_us = opening.open_file(path, reserve)
        spool = cls(connection, path, options, state)
        begun = False
        try:
            spool._reserve.make()
            spool._tx.run(lambda: spool._begin(boot, last_us, draw_epoch))
            if now_wall_s is not None:
                spool.free_replayed(now_wall_s)
            begun = True
        finally:
            if not begun:
                connection.close()
        return spool

    def close(self, *, clean: bool = True) -> None:
        """Records a clean stop and closes the file. The spool is not to be used again. Raises SpoolUnavailable.

        clean False: readings were lost on the way here, and the next opening is to tell of an unclean stop.
        """
        try:
            if clean and not self._tx.suspect:  # else the next opening is to look through the whole file
                self._mark_clean()
        finally:
            self._connection.close()

    def _mark_clean(self) -> None:
        try:
            self._tx.run(self._end_clean)
        except NoRoom as error:
            log.warning("the next opening will tell of an unclean stop, since there is no room to say else: %s", error)

    def _end_clean(self) -> None:
        # What was lost and found no room in the file yet is known to nobody else.
        self._flush()
        self._connection.execute("UPDATE epochs SET clean = 1 WHERE epoch_no = ?", (self._current,))

    @property
    def epoch(self) -> int:
        """The epoch of this opening."""
        return self._state.epochs[self._current].epoch

    @property
    def pinned_ledger(self) -> str | None:
        """The ledger whose receipts count; None before the first."""
        return self._state.ledger

    @property
    def _state(self) -> State:
        return self._tx.state

    @_state.setter
    def _state(self, state: State) -> None:
        self._tx.state = state

    def group(self, works: Sequence[Callable[[Self], T]]) -> list[Outcome[T]]:
        """Several works in one transaction: one that fails harms no other. Durable when this returns.

        On a full disk they are done one by one, each call on the spool by itself; a work may run twice.
        """
        return self._tx.group([partial(work, self) for work in works])

    # -- what comes in

    def append(self, body: Body, readings: int, first_us: int, last_us: int) -> Identity | None:
        """Seals a batch of data: durable when this returns (within a group: when the group does).

        At the bound, settled batches are freed and then the oldest others dropped. None where the disk has no room
        at all: then these readings are a loss (`bound`) themselves.
        """
        try:
            identity = self._tx.run(lambda: self._append(Kind.DATA, body, readings, first_us, last_us))
        except NoRoom:
            self._remember(Loss("bound", None, readings, self._boot, first_us, self._boot, last_us))
            self._dropping_helps = False
            return None
        self._dropping_helps = True
        return identity

    def record_loss(self, reason: str, readings: int | None, from_us: int, to_us: int) -> None:
        """Readings that were lost before they were sealed, between two times of this boot; None: number unknown."""
        loss = Loss(reason, None, readings, self._boot, from_us, self._boot, to_us)

        def work() -> None:
            self._flush()
            self._state = losses.record(self._connection, self._state, loss)

        try:
            self._tx.run(work)
        except NoRoom:
            self._remember(loss)

    def set_anchor(self, anchor: Anchor | None) -> None:
        """The clock is known, or (None) no longer. The first anchor of a boot stays with the boot.

        Batches that were sealed before it, and those of former boots that never had one, can be sent from now on.
        """
        self._tx.run(lambda: self._set_anchor(anchor))

    def seal_gaps(self) -> list[Identity]:
        """Seals what was lost since the last time, if this boot knows the time; the gap batches made."""
        return self._tx.run(self._seal_gaps)

    # -- what goes out

    def sendable(self, after: Identity | None, limit: int, limit_bytes: int) -> list[Stored]:
        """Unsettled batches whose clock is known, in order (oldest epoch first), after the given one.

        At most `limit`, and strictly within `limit_bytes`. An `after` whose epoch is gone begins at the start.
        """
        found: list[Stored] = []
        last = self._state.by_name().get(after.epoch) if after is not None else None
        beyond = batch_id(last.number, after.seq) if last is not None and after is not None else -1
        for _, e in sorted(self._state.epochs.items()):
            # A batch has an anchor of its own only where its boot has one, so the boot answers for all of an epoch.
            if self._anchor_of(e.boot_no) is None:
                continue
            for first, end in e.ids(e.unsent):
                for key, readings, size in self._connection.execute(
                    "SELECT id, readings, length(body) FROM batches WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                    (max(first, beyond + 1), end, limit - len(found)),
                ):
                    limit_bytes -= size + ENVELOPE_ROOM
                    if limit_bytes < 0:
                        return found
                    found.append(Stored(Identity(e.epoch, split_id(key)[1]), size + ENVELOPE_ROOM, readings))
                if len(found) >= limit:
                    return found
        return found

    def load(self, identity: Identity, gateway: str, instance: int) -> Batch | None:
        """The batch to send; None where it is settled or dropped meanwhile, or waits for its boot's anchor.

        A copy that turns out damaged is dropped as `bad_copy`, and None. `instance` is of the process that sends.
        """
        key = removal.key_of(self._state, *identity)
        if key is None:
            return None
        columns = self._connection.execute(SELECT, (key,)).fetchone()
        row = read_row(columns) if columns is not None else None
        if row is None or not row.body.intact() or row.epoch != identity.epoch:
            self._tx.run(lambda: self._drop_bad(key, row))
            return None
        anchor = row.anchor or self._anchor_of(row.boot_no)
        if anchor is None:
            return None
        return Batch(
            Envelope(row.kind, gateway, *identity, row.readings, row.before, anchor, instance),
            row.body,
        )

    def drop(self, identity: Identity, reason: str) -> None:
        """Drops an unsettled batch with its loss; nothing where it is settled or gone.

        What a gap batch names is sealed again in smaller ones.
        """
        key = removal.key_of(self._state, *identity)
        if key is not None:
            self._tx.run(lambda: self._drop([key], reason))

    # -- what comes back

    def apply_receipt(self, ledger: str, settled: Mapping[int, RangeSet], now_wall_s: float | None) -> int:
        """Marks what a database holds for good; how many batches are thereby no longer to be sent.

        It only adds. The first ledger is pinned; of another, raises ForeignLedger and changes nothing. Unknown
        epochs and seqs that are not sealed yet are ignored.
        """
        if self._state.ledger not in (None, ledger):
            raise ForeignLedger(ledger, self._state.ledger or "")
        epochs = self._state.by_name()
        if self._state.ledger == ledger and not any(
            settlement.due(epochs[name], ranges) for name, ranges in settled.items() if name in epochs
        ):
            return 0  # nothing new: nothing written

        def work() -> int:
            if self._state.ledger is None:
                self._pin(ledger)
            count = 0
            for name, ranges in settled.items():
                e = self._state.by_name().get(name)
                new = settlement.due(e, ranges) if e is not None else RangeSet()
                if e is not None and new:
                    self._state, batches = settlement.settle(
                        self._connection, self._state, e, new, settlement.hour_of(now_wall_s)
                    )
                    count += batches
            return count

        return self._tx.run(work)

    def trust(self, ledger: str) -> None:
        """Pins another ledger, by the operator's command."""
        self._tx.run(lambda: self._pin(ledger))

    def settled(self) -> dict[int, RangeSet]:
        """What is settled as of now, of every epoch in the file."""
        return {e.epoch: e.settled for _, e in sorted(self._state.epochs.items())}

    def take_back(self, epoch: int, ranges: RangeSet) -> int:
        """Unsettles what of `ranges` the file still has; how many batches will be sent again."""
        return self._tx.run(lambda: self._take_back(epoch, ranges))

    def free_replayed(self, now_wall_s: float) -> int:
        """Frees batches whose replay window has passed, some thousands at most; how many. Call it every minute.

        Also makes the reserve again where a full disk has taken it and there is room.
        """
        if self._reserve.room():
            self._limit_pages(MAX_PAGES)
            self._reserve.make()
        return self._tx.run(lambda: self._free_replayed(now_wall_s))

    # -- the books

    def books(self) -> Books:
        """The books of every epoch, as a status tells them: consistent, since one thread owns them all.

        Where they are too many: that of this opening, then the oldest that hold something, then the newest others.
        """
        every = self._state.epochs
        others = sorted(every.keys() - {self._current})
        holding = [number for number in others if every[number].unsettled]
        done = [number for number in reversed(others) if not every[number].unsettled]
        listed = sorted([self._current, *holding, *done][:BOOK_EPOCHS])
        return Books(
            tuple(
                EpochBook(epoch=e.epoch, next=e.next, sealed=e.sealed, held=e.unsettled.coarse(BOOK_SPANS))
                for e in (every[number] for number in listed)
            ),
            whole=len(listed) == len(every),
        )

    def ends(self) -> list[Identity]:
        """Where each epoch ends (the seq after its last), oldest first: the last is what is sealed next."""
        return [Identity(e.epoch, e.next) for _, e in sorted(self._state.epochs.items())]

    def usage(self) -> Usage:
        """How full the spool is."""
        held = self._state.held
        return Usage(
            held.bytes,
            self._options.bound_bytes,
            held.batches,
            held.readings,
            self._used(),
            self._reserve.held,
            whole_file(self._connection, self._state),
        )

    # -- within a transaction

    def _begin(self, boot: Boot, last_us: Mapping[int, int], draw: Callable[[], int]) -> None:
        self._state = opening.begin_boot(self._connection, self._state, boot, last_us)
        self._boot = next(b.number for b in self._state.boots.values() if b.boot_id == boot.boot_id)
        self._state, self._current = opening.begin_epoch(self._connection, self._state, self._boot, boot.now_us, draw)

    def _append(self, kind: Kind, body: Body, readings: int, first_us: int, last_us: int) -> Identity:
        self._flush()
        e = self._state.epochs[self._current]
        anchor = self._state.anchor
        key = batch_id(e.number, e.next)
        row = Row(key, e.epoch, self._boot, kind, readings, e.sealed, first_us, last_us, anchor, body)
        self._connection.execute(INSERT, row.columns())
        self._state = self._state.with_epoch(
            replace(
                e,
                next=e.next + 1,
                sealed=e.sealed + readings,
                last_us=last_us,
                present=e.present | RangeSet([(e.next, e.next + 1)]),
            )
        )
        self._state = replace(self._state, held=self._state.held + Held(1, readings, len(body.stored) + ROW_BYTES))
        self._keep_bound(self._options.bound_bytes - GAP_ROOM)
        return Identity(e.epoch, e.next)

    def _keep_bound(self, most_bytes: int) -> None:
        while self._used() > most_bytes:
            state = removal.free_oldest(self._connection, self._state)
            if state is None:
                state = removal.drop_oldest(self._connection, self._state, "bound")
            if state is None:
                return
            self._state = state

    def _used(self) -> int:
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return (self._pages() - int(free)) * PAGE_BYTES

    def _flush(self) -> None:
        for loss in self._state.pending:
            self._state = losses.record(self._connection, self._state, loss)
        self._state = replace(self._state, pending=())

    def _remember(self, loss: Loss) -> None:
        """Keeps a loss for which the disk had no byte in memory, until it has."""
        pending = self._state.pending
        merged = losses.merge(pending[-1], loss) if pending else None
        kept = (*pending[:-1], merged) if merged is not None else (*pending, loss)
        self._state = replace(self._state, pending=kept)

    def _set_anchor(self, anchor: Anchor | None) -> None:
        self._state = replace(self._state, anchor=anchor)
        boot = self._state.boots[self._boot]
        if anchor is None or boot.anchor is not None:
            return
        found = clock.estimates(list(self._state.boots.values()), boot, anchor)
        for number, known in {**found, boot.number: anchor}.items():
            self._connection.execute(
                "UPDATE boots SET offset_us = ?, uncertainty_us = ?, source = ? WHERE boot_no = ?",
                (known.offset_us, known.uncertainty_us, int(known.source), number),
            )
            self._state = self._state.with_boot(replace(self._state.boots[number], anchor=known))

    def _seal_gaps(self) -> list[Identity]:
        self._flush()
        if self._anchor_of(self._boot) is None:
            return []
        made: list[Identity] = []
        for first, end in self._state.open_losses:
            at = first
            while at < end:
                following, identity = self._seal_gap(at, end)
                at = following
                made.append(identity)
        return made

    def _seal_gap(self, first: int, end: int) -> tuple[int, Identity]:
        count = min(self._gap_seqs, end - first)
        gaps = losses.coalesce(losses.select(self._connection, first, first + count), self._state)
        while len(gaps) > GAP_ENTRIES:
            count //= 2
            gaps = losses.coalesce(losses.select(self._connection, first, first + count), self._state)
        e = self._state.epochs[self._current]
        covered = RangeSet([(first, first + count)])
        self._connection.execute(
            "INSERT INTO gaps VALUES (?, ?, ?)", (batch_id(e.number, e.next), first, first + count)
        )
        self._state = replace(self._state, open_losses=self._state.open_losses - covered)
        return first + count, self._append(Kind.GAP, encode_gaps(gaps), 0, e.last_us, e.last_us)

    def _anchor_of(self, boot_no: int) -> Anchor | None:
        boot = self._state.boots.get(boot_no)
        return boot.anchor if boot is not None else None

    def _drop(self, keys: list[int], reason: str) -> None:
        for key in keys:
            (kind,) = self._connection.execute("SELECT kind FROM batches WHERE id = ?", (key,)).fetchone()
            if kind == Kind.GAP:
                self._gap_seqs = max(GAP_ENTRIES // 8, self._gap_seqs // 2)
        self._state = removal.drop(self._connection, self._state, keys, reason)

    def _drop_bad(self, key: int, row: Row | None) -> None:
        if row is not None:
            self._state = removal.drop(self._connection, self._state, [key], "bad_copy")
            return
        # Not even its number of readings can be believed: it vanishes, and the server's audit finds it.
        number, seq = split_id(key)
        seqs = RangeSet([(seq, seq + 1)])
        self._state = losses.reopen(self._connection, self._state, key)
        self._state = removal.remove(self._connection, self._state, number, seqs)
        held = Held()
        for e in self._state.epochs.values():
            held += tally(self._connection, e, e.unsent)
        self._state = replace(self._state, held=held)

    def _take_back(self, epoch: int, ranges: RangeSet) -> int:
        e = self._state.by_name().get(epoch)
        if e is None:
            return 0
        self._state, count = settlement.take_back(self._connection, self._state, e, ranges)
        return count

    def _free_replayed(self, now_wall_s: float) -> int:
        hour = settlement.hour_of(now_wall_s)
        window_h = self._options.replay_window_s / 3600
        self._state, count = settlement.expire(self._connection, self._state, hour, window_h)
        self._state = settlement.forget_epochs(self._connection, self._state, self._current, hour, window_h)
        return count

    def _pin(self, ledger: str) -> None:
        self._connection.execute("DELETE FROM pinned")
        self._connection.execute("INSERT INTO pinned VALUES (?)", (ledger,))
        self._state = replace(self._state, ledger=ledger)

    # -- a full disk

    def _make_room(self, attempt: int) -> bool:
        """After the n-th failed attempt; False where nothing is left to try."""
        if attempt == 0:
            self._reserve.release()
            self._checkpoint()
            # From here on the file may not grow, so that what the reserve gave is left to the WAL: were it taken by
            # data, not even a drop could be recorded. New batches take the pages of those that are dropped.
            # (A file that is smaller than this has little to drop.)
            self._limit_pages(max(self._pages(), self._options.reserve_bytes // 4 // PAGE_BYTES))
        if attempt > 1 or not self._dropping_helps:
            return attempt == 0
        limit = self._limit_pages(0)
        self._limit_pages(limit + DROP_PAGES)
        try:
            dropped = self._tx.once(self._drop_for_room)
        except sqlite3.DatabaseError as error:
            if not is_full(error):
                raise
            return False
        finally:
            self._limit_pages(max(limit, self._pages()))
        self._checkpoint()
        return dropped or attempt == 0

    def _drop_for_room(self) -> bool:
        before = self._used()
        self._keep_bound(before - ROOM_AT_ONCE)
        return self._used() < before

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
