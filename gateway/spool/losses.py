"""What is missing gathers as losses, and is sealed as gaps.

Invariant (2, half of it): a batch that is dropped leaves its loss in the same transaction; a gap batch is itself
never dropped: where it must go (bad copy, refused for its size), its losses open again.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, replace

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.link.wire import Body, Gap, encode_gaps
from gateway.spool.rows import split_id
from gateway.spool.state import ROW_BYTES, Loss, State, by_epoch

MERGE_US = 60_000_000
"""Losses of unsealed readings that follow each other so closely are one: a storm must not fill the disk."""
MANY = 256
"""Losses of unsealed readings that wait to be told: beyond, one of a kind that is there is made longer instead."""
MANY_PENDING = 64
"""The same in memory, while the disk has no byte for any of them."""
GAPS_WAITING = 32_768
"""Bytes of gap batches that are not settled: beyond, what is lost is told once some of them are."""
GAP_ENTRIES = 512
"""Entries of a gap batch: each takes some 100 bytes before compression, and a batch has 128 KiB."""

_INSERT = (
    "INSERT INTO losses (loss_no, reason, batch, readings, from_boot, from_us, to_boot, to_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LENGTHEN = "UPDATE losses SET readings = ?, from_boot = ?, from_us = ?, to_boot = ?, to_us = ? WHERE loss_no = ?"
_SELECT = (
    "SELECT reason, batch, readings, from_boot, from_us, to_boot, to_us FROM losses"
    " WHERE loss_no >= ? AND loss_no < ? ORDER BY loss_no"
)


def record(connection: sqlite3.Connection, state: State, loss: Loss) -> State:
    """Writes a loss, or adds it to the latest of its kind."""
    before = state.tails.get(_kind(loss)) if loss.batch is None else None
    if before is not None and before in state.open_losses:
        known = select(connection, before, before + 1)
        merged = merge(known[0], loss, anyway=state.loose >= MANY) if known else None
        if merged is not None:
            connection.execute(_LENGTHEN, (*astuple(merged)[2:], before))
            return state
    return _insert(connection, state, loss)


def remember(pending: tuple[Loss, ...], loss: Loss) -> tuple[Loss, ...]:
    """Losses of unsealed readings in memory and one more: as many as there are kinds, or MANY_PENDING."""
    for n in reversed(range(len(pending))):
        merged = merge(pending[n], loss, anyway=len(pending) >= MANY_PENDING)
        if merged is not None:
            return (*pending[:n], merged, *pending[n + 1 :])
    return (*pending, loss)


def merge(earlier: Loss, later: Loss, *, anyway: bool) -> Loss | None:
    """Both losses as one, where they are of one kind and follow each other, or (anyway) lie far apart."""
    if earlier.batch is not None or later.batch is not None or _kind(earlier) != _kind(later):
        return None
    one_boot = earlier.from_boot == earlier.to_boot == later.from_boot == later.to_boot
    near = later.from_us <= earlier.to_us + MERGE_US and earlier.from_us <= later.to_us + MERGE_US
    if not (one_boot and near) and not anyway:
        return None
    both = None if earlier.readings is None or later.readings is None else earlier.readings + later.readings
    # Boots are numbered in their order.
    begin = min((earlier.from_boot, earlier.from_us), (later.from_boot, later.from_us))
    end = max((earlier.to_boot, earlier.to_us), (later.to_boot, later.to_us))
    return Loss(earlier.reason, None, both, *begin, *end)


def _kind(loss: Loss) -> tuple[str, bool]:
    # A number that is known would be lost in a sum with one that is not.
    return loss.reason, loss.readings is None


def _insert(connection: sqlite3.Connection, state: State, loss: Loss) -> State:
    number = state.next_loss
    connection.execute(_INSERT, (number, *astuple(loss)))
    state = replace(state, open_losses=state.open_losses | RangeSet([(number, number + 1)]), next_loss=number + 1)
    if loss.batch is not None:
        return state
    return replace(state, loose=state.loose + 1, tails={**state.tails, _kind(loss): number})


def refused_until_us(connection: sqlite3.Connection, boot_no: int) -> int:
    """When, of this boot's monotonic clock, readings last found the spool full; 0 where none did."""
    (last_us,) = connection.execute(
        "SELECT max(to_us) FROM losses WHERE batch IS NULL AND reason = 'bound' AND to_boot = ?", (boot_no,)
    ).fetchone()
    return last_us or 0


def select(connection: sqlite3.Connection, first: int, end: int) -> list[Loss]:
    """The losses [first, end)."""
    return [Loss(*row) for row in connection.execute(_SELECT, (first, end))]


def names(connection: sqlite3.Connection, first: int, end: int) -> dict[int, RangeSet]:
    """The seqs by epoch_no that the losses [first, end) name."""
    return by_epoch(loss.batch for loss in select(connection, first, end) if loss.batch is not None)


def told_enough(connection: sqlite3.Connection, state: State) -> bool:
    """Whether so many gap batches wait to be settled that losses had better gather."""
    waiting = sum(
        connection.execute(
            "SELECT total(length(body) + ?) FROM gaps JOIN batches USING (id) WHERE gaps.id >= ? AND gaps.id < ?",
            (ROW_BYTES, *ids),
        ).fetchone()[0]
        for e in state.epochs.values()
        for ids in e.ids(e.unsent)
    )
    return bool(waiting >= GAPS_WAITING)


def next_gaps(connection: sqlite3.Connection, state: State, first: int, end: int) -> tuple[int, Body]:
    """The losses [first, …) as a gap batch says them: as many as it takes of those before `end`, and where they end."""
    gaps = coalesce(select(connection, first, end), state)
    while len(gaps) > GAP_ENTRIES:
        end = first + (end - first) // 2
        gaps = coalesce(select(connection, first, end), state)
    return end, encode_gaps(gaps)


def coalesce(losses: Iterable[Loss], state: State) -> list[Gap]:
    """Losses as a gap batch says them: consecutive seqs of one epoch and reason in one entry."""
    gaps: list[Gap] = []
    unsealed = []
    dropped = []
    for loss in losses:
        if loss.batch is None:
            unsealed.append(loss)
        else:
            dropped.append((loss.reason, *split_id(loss.batch), loss))
    for reason, number, seq, loss in sorted(dropped, key=lambda d: d[:3]):
        epoch = state.epochs[number].epoch
        from_us, to_us = _interval(loss, state)
        count = loss.readings or 0
        last = gaps[-1] if gaps else None
        if last and (last.reason, last.epoch, last.first + len(last.counts)) == (reason, epoch, seq):
            gaps[-1] = replace(
                last,
                counts=(*last.counts, count),
                from_us=_least(last.from_us, from_us),
                to_us=_greatest(last.to_us, to_us),
            )
        else:
            gaps.append(Gap(reason, epoch, seq, (count,), 0, from_us, to_us))
    return gaps + [Gap(loss.reason, 0, 0, (), loss.readings, *_interval(loss, state)) for loss in unsealed]


def _interval(loss: Loss, state: State) -> tuple[int | None, int | None]:
    """Wall time (Unix µs); None where the boot's clock was never known."""
    begin, end = _anchor(state, loss.from_boot), _anchor(state, loss.to_boot)
    from_us = None if begin is None else loss.from_us + begin.offset_us
    # An estimate is the latest possible time: it may have begun as much earlier as the doubt is wide.
    if begin is not None and from_us is not None and begin.source is ClockSource.ESTIMATED:
        from_us -= begin.uncertainty_us
    return from_us, None if end is None else loss.to_us + end.offset_us


def _anchor(state: State, boot_no: int) -> Anchor | None:
    boot = state.boots.get(boot_no)
    return boot.anchor if boot else None


def _least(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a, b)


def _greatest(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


def reopen(connection: sqlite3.Connection, state: State, gap_key: int) -> State:
    """The losses that a gap batch names wait for another one."""
    row = connection.execute("SELECT first_loss, end_loss FROM gaps WHERE id = ?", (gap_key,)).fetchone()
    if row is None:
        return state
    again = select(connection, *row)
    connection.execute("DELETE FROM gaps WHERE id = ?", (gap_key,))
    connection.execute("DELETE FROM losses WHERE loss_no >= ? AND loss_no < ?", row)
    for loss in again:
        state = _insert(connection, state, loss)
    return state


def excuse(connection: sqlite3.Connection, state: State, gap_key: int, *, settled: bool) -> State:
    """The seqs that a gap batch names are settled with it, or no longer."""
    row = connection.execute("SELECT first_loss, end_loss FROM gaps WHERE id = ?", (gap_key,)).fetchone()
    if row is None:
        return state
    for number, seqs in names(connection, *row).items():
        e = state.epochs[number]
        state = state.with_epoch(replace(e, excused=e.excused | (seqs & e.dropped) if settled else e.excused - seqs))
    return state
