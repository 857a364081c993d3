"""The spool: every sealed batch, on disk, until the database has it.

Invariants:
1. An identity is never used twice: every opening begins a new random epoch, whatever became of the file since;
   epochs that it finds only drain.
2. A batch leaves only settled, or dropped with its loss in the same transaction (WAL, `synchronous = FULL`).
6. A corrupt file is set aside and salvaged, never a reason not to start (`opening`); recording a drop succeeds at
   zero free bytes (`room`).

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
from gateway.link.wire import MAX_EPOCH, MAX_GAP_SEQS, Batch, Body, Envelope, Kind
from gateway.spool import clock, counting, losses, opening, outgoing, removal, settlement
from gateway.spool.errors import ForeignLedger
from gateway.spool.reserve import Reserve
from gateway.spool.room import Room
from gateway.spool.rows import INSERT, SELECT, Row, batch_id, read_row
from gateway.spool.state import ROW_BYTES, Held, Loss, State
from gateway.spool.transactions import NoRoom, Outcome, Transactions
from gateway.spool.values import Books, Boot, Identity, SpoolOptions, Stored, Usage

log = logging.getLogger(__name__)

T = TypeVar("T")


def draw_epoch() -> int:
    """A random epoch, 1 … 2^63-1."""
    return secrets.randbelow(MAX_EPOCH) + 1


class Spool:
    """The batches of one gateway in one SQLite file. Made by `open`; to be closed."""

    def __init__(self, connection: sqlite3.Connection, path: Path, options: SpoolOptions, state: State) -> None:
        self._connection = connection
        self._options = options
        self._reserve = _reserve(path, options)
        self._tx = Transactions(connection, path, state, lambda attempt: self._room.make(attempt))
        self._room = Room(self._tx, options, self._reserve)
        self._current = 0
        self._boot = 0
        self._gap_seqs = MAX_GAP_SEQS
        self._book_turn = 0

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
        connection, state, last_us = opening.open_file(path, _reserve(path, options))
        spool = cls(connection, path, options, state)
        begun = False
        try:
            spool._reserve.make()
            spool._tx.run(lambda: spool._begin(boot, last_us, draw_epoch))
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
    def held(self) -> Held:
        """What is not settled, as in `usage`, without a look into the file."""
        return self._state.held

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

    @property
    def in_group(self) -> bool:
        """Whether what is done now becomes durable only with the group around it."""
        return self._connection.in_transaction

    # -- what comes in

    def append(self, body: Body, readings: int, first_us: int, last_us: int) -> Identity | None:
        """Seals a batch of data: durable when this returns (within a group: when the group does).

        At the bound, settled batches are freed and then (`drop_oldest`) the oldest others dropped. None where that
        gives no room (`drop_newest`), or the disk has none: then these readings are a loss (`bound`) themselves.
        """

        def work() -> Identity | None:
            self._flush()
            if self._room.for_data(body):
                return self._append(Kind.DATA, body, readings, first_us, last_us)
            self._record("bound", readings, first_us, last_us)
            return None

        try:
            return self._tx.run(work, self._room.make_for_data)
        except NoRoom:
            self.record_loss("bound", readings, first_us, last_us)
            return None

    def record_loss(self, reason: str, readings: int | None, from_us: int, to_us: int) -> None:
        """Readings that were lost before they were sealed, between two times of this boot; None: number unknown."""

        def work() -> None:
            self._flush()
            self._record(reason, readings, from_us, to_us)

        try:
            self._tx.run(work)
        except NoRoom:
            # Kept in memory until the disk has a byte for it.
            loss = Loss(reason, None, readings, self._boot, from_us, self._boot, to_us)
            self._state = replace(self._state, pending=losses.remember(self._state.pending, loss))

    def hold_back(self, us: int) -> None:
        """From now on a reading may wait unsealed for so long (µs) besides the linger, as while readings are thinned.

        Should this process end uncleanly, the gap that tells of it begins so much before the last sealed reading.
        """

        def work() -> None:
            self._connection.execute("UPDATE epochs SET held_back_us = ? WHERE epoch_no = ?", (us, self._current))
            self._state = replace(self._state, held_back_us=us)

        if us != self._state.held_back_us:
            self._tx.run(work)

    def set_anchor(self, anchor: Anchor | None) -> None:
        """The clock is known, or (None) no longer. The first anchor of a boot stays with the boot.

        Batches that were sealed before it, and those of former boots that never had one, can be sent from now on.
        """
        self._tx.run(lambda: self._set_anchor(anchor))

    def seal_gaps(self) -> list[Identity]:
        """Seals what was lost since the last time, if this boot knows the time; the gap batches made.

        None while many wait to be settled: in a long outage losses gather as rows, which are made longer, and not as
        batches, which would fill the room that is kept for them.
        """
        return self._tx.run(self._seal_gaps)

    # -- what goes out

    def sendable(self, after: Identity | None, limit: int, limit_bytes: int) -> list[Stored]:
        """Unsettled batches whose clock is known, in order (oldest epoch first), after the given one.

        At most `limit`, and strictly within `limit_bytes`. An `after` whose epoch is gone begins at the start.
        """
        return outgoing.sendable(self._connection, self._state, after, limit, limit_bytes)

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

    def free_replayed(self, now_wall_s: float | None) -> int:
        """Frees batches whose replay window has passed, some thousands at most; how many. Call it every minute.

        Also makes the reserve again where a full disk has taken it and there is room: where the time is not known,
        only this.
        """
        self._room.regain()
        return 0 if now_wall_s is None else self._tx.run(lambda: self._free_replayed(now_wall_s))

    # -- the books

    def books(self) -> Books:
        """The books of every epoch, as a status tells them: consistent, since one thread owns them all.

        Where they are too many for one status, the next call tells of others.
        """
        told = counting.books(self._state, self._current, self._book_turn)
        self._book_turn += 1
        return told

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
            self._room.used(),
            self._room.fill(),
            self._reserve.held,
            counting.whole_file(self._connection, self._state),
        )

    def fill(self) -> float:
        """The share of the room for data that is taken and not settled: 1 where what comes next makes something go."""
        return self._room.fill()

    # -- within a transaction

    def _begin(self, boot: Boot, last_us: Mapping[int, int], draw: Callable[[], int]) -> None:
        self._state = opening.begin_boot(self._connection, self._state, boot, last_us)
        self._boot = next(b.number for b in self._state.boots.values() if b.boot_id == boot.boot_id)
        self._state, self._current = opening.begin_epoch(self._connection, self._state, self._boot, boot.now_us, draw)

    def _append(self, kind: Kind, body: Body, readings: int, first_us: int, last_us: int) -> Identity:
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
        amount = Held(1, readings, len(body.stored) + ROW_BYTES)
        self._state = replace(
            self._state, held=self._state.held + amount, stored_bytes=self._state.stored_bytes + amount.bytes
        )
        return Identity(e.epoch, e.next)

    def _record(self, reason: str, readings: int | None, from_us: int, to_us: int) -> None:
        loss = Loss(reason, None, readings, self._boot, from_us, self._boot, to_us)
        self._state = losses.record(self._connection, self._state, loss)

    def _flush(self) -> None:
        for loss in self._state.pending:
            self._state = losses.record(self._connection, self._state, loss)
        self._state = replace(self._state, pending=())

    def _set_anchor(self, anchor: Anchor | None) -> None:
        self._state = clock.set_anchor(self._connection, replace(self._state, anchor=anchor), self._boot)

    def _seal_gaps(self) -> list[Identity]:
        self._flush()
        state = self._state
        if not state.open_losses or self._anchor_of(self._boot) is None or losses.told_enough(self._connection, state):
            return []
        made: list[Identity] = []
        for first, end in state.open_losses:
            at = first
            while at < end:
                at, identity = self._seal_gap(at, end)
                made.append(identity)
        self._state = replace(self._state, loose=0, tails={})
        return made

    def _seal_gap(self, first: int, end: int) -> tuple[int, Identity]:
        named, body = losses.next_gaps(self._connection, self._state, first, min(end, first + self._gap_seqs))
        # It may drop data, whose losses are for the next gap batch to name.
        self._room.for_gaps(body)
        self._state = replace(self._state, open_losses=self._state.open_losses - RangeSet([(first, named)]))
        e = self._state.epochs[self._current]
        self._connection.execute(
            "INSERT INTO gaps (id, first_loss, end_loss) VALUES (?, ?, ?)", (batch_id(e.number, e.next), first, named)
        )
        return named, self._append(Kind.GAP, body, 0, e.last_us, e.last_us)

    def _anchor_of(self, boot_no: int) -> Anchor | None:
        boot = self._state.boots.get(boot_no)
        return boot.anchor if boot is not None else None

    def _drop(self, keys: list[int], reason: str) -> None:
        for key in keys:
            (kind,) = self._connection.execute("SELECT kind FROM batches WHERE id = ?", (key,)).fetchone()
            if kind == Kind.GAP:
                self._gap_seqs = max(losses.GAP_ENTRIES // 8, self._gap_seqs // 2)
        self._state = removal.drop(self._connection, self._state, keys, reason)

    def _drop_bad(self, key: int, row: Row | None) -> None:
        if row is not None:
            self._state = removal.drop(self._connection, self._state, [key], "bad_copy")
            return
        # Not even its number of readings can be believed: it vanishes, and the server's audit finds it.
        self._state = removal.vanish(self._connection, self._state, key)

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


def _reserve(path: Path, options: SpoolOptions) -> Reserve:
    return Reserve(path.with_name(path.name + ".reserve"), options.reserve_bytes)
