"""How batches leave the file.

Invariant (2): a batch leaves only settled, or dropped with its loss in the same transaction.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from gateway.link.ranges import RangeSet
from gateway.link.wire import Kind
from gateway.spool import losses
from gateway.spool.database import pack_ranges
from gateway.spool.rows import batch_id, split_id
from gateway.spool.state import ROW_BYTES, Epoch, Held, Loss, State, tally

FREED_AT_ONCE = 64
"""Settled batches that make room together: neighbours share pages, so one removal costs little more than none."""


def drop(connection: sqlite3.Connection, state: State, keys: Iterable[int], reason: str) -> State:
    """Drops unsettled batches, each with its loss."""
    for key in keys:
        number, seq = split_id(key)
        kind, readings, boot_no, first_us, last_us, size = connection.execute(
            "SELECT kind, readings, boot_no, first_us, last_us, length(body) FROM batches WHERE id = ?", (key,)
        ).fetchone()
        if kind == Kind.GAP:
            state = losses.reopen(connection, state, key)
        # Removed first: on a full disk the loss is written to the pages that this gives back.
        state = remove(connection, state, number, RangeSet([(seq, seq + 1)]))
        state = losses.record(connection, state, Loss(reason, key, readings, boot_no, first_us, boot_no, last_us))
        e = state.epochs[number]
        state = state.with_epoch(replace(e, dropped=e.dropped | RangeSet([(seq, seq + 1)])))
        state = replace(state, held=state.held - Held(1, readings, size + ROW_BYTES))
    return state


def vanish(connection: sqlite3.Connection, state: State, key: int) -> State:
    """Takes out a row of which nothing can be believed. Its seq is then missing, which the server's audit finds."""
    number, seq = split_id(key)
    state = losses.reopen(connection, state, key)
    state = remove(connection, state, number, RangeSet([(seq, seq + 1)]))
    held = Held()
    for e in state.epochs.values():
        held += tally(connection, e, e.unsent)
    return replace(state, held=held)


def drop_one(connection: sqlite3.Connection, state: State, reason: str, *, newest: bool) -> State | None:
    """Drops the oldest or newest unsettled batch of data; None where there is none. Gap batches are never dropped."""
    order = "DESC" if newest else "ASC"
    for _, e in sorted(state.epochs.items(), reverse=newest):
        for ids in sorted(e.ids(e.unsent), reverse=newest):
            row = connection.execute(
                f"SELECT id FROM batches WHERE id >= ? AND id < ? AND kind = ? ORDER BY id {order} LIMIT 1",  # noqa: S608  # one of two words
                (*ids, Kind.DATA),
            ).fetchone()
            if row is not None:
                return drop(connection, state, row, reason)
    return None


def free_oldest(connection: sqlite3.Connection, state: State) -> State | None:
    """Frees some of the oldest settled batches, which is no drop; None where there are none."""
    for number, e in sorted(state.epochs.items()):
        for first, end in e.present & e.settled:
            return remove(connection, state, number, RangeSet([(first, min(end, first + FREED_AT_ONCE))]))
    return None


def remove(connection: sqlite3.Connection, state: State, number: int, seqs: RangeSet) -> State:
    """Takes rows out of the file: who calls has settled them, or recorded their loss."""
    e = state.epochs[number]
    if e.next - 1 in seqs:
        # Until now the newest batch itself said where the epoch ends.
        connection.execute(
            "UPDATE epochs SET next_seq = ?, sealed = ?, last_us = ? WHERE epoch_no = ?",
            (e.next, e.sealed, e.last_us, number),
        )
    state = replace(state, stored_bytes=state.stored_bytes - tally(connection, e, seqs).bytes)
    for ids in e.ids(seqs):
        gaps = connection.execute("SELECT id, first_loss, end_loss FROM gaps WHERE id >= ? AND id < ?", ids).fetchall()
        for gap in gaps:
            state = _forget(connection, state, *gap)
        connection.execute("DELETE FROM batches WHERE id >= ? AND id < ?", ids)
    e = state.epochs[number]
    return state.with_epoch(replace(e, present=e.present - seqs))


def _forget(connection: sqlite3.Connection, state: State, key: int, first: int, end: int) -> State:
    """A settled gap batch goes, and with it the losses that it names: their seqs are settled for good."""
    for loss in losses.select(connection, first, end):
        add_total(
            connection, f"{'dropped' if loss.batch is not None else 'unsealed'}:{loss.reason}", loss.readings or 0
        )
    for number, seqs in losses.names(connection, first, end).items():
        e = state.epochs[number]
        state = free_for_good(connection, state, replace(e, dropped=e.dropped - seqs, excused=e.excused - seqs), seqs)
    connection.execute("DELETE FROM losses WHERE loss_no >= ? AND loss_no < ?", (first, end))
    connection.execute("DELETE FROM gaps WHERE id = ?", (key,))
    return state


def free_for_good(connection: sqlite3.Connection, state: State, epoch: Epoch, seqs: RangeSet) -> State:
    """Seqs of `epoch` that are settled and no longer in the file."""
    epoch = replace(epoch, freed=epoch.freed | seqs, received=epoch.received - seqs)
    connection.execute(
        "UPDATE epochs SET freed = ? WHERE epoch_no = ?", (pack_ranges(epoch.freed, epoch.number), epoch.number)
    )
    return state.with_epoch(epoch)


def add_total(connection: sqlite3.Connection, name: str, number: int) -> None:
    """Counts what leaves the file."""
    if number:
        connection.execute(
            "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number",
            (name, number),
        )


def key_of(state: State, epoch: int, seq: int) -> int | None:
    """The key of a batch that is here and not settled."""
    e = state.by_name().get(epoch)
    return batch_id(e.number, seq) if e is not None and seq in e.unsent else None
