"""What receipts say, kept as ranges by the hour.

The replay window counts from settlement, never from sealing: a batch that waited a week for its receipt is still
there for the database that is restored the day after.
"""

import sqlite3
from dataclasses import replace

from gateway.link.ranges import RangeSet
from gateway.spool import losses
from gateway.spool.database import pack_ranges, unpack_ranges
from gateway.spool.removal import add_total, free_for_good, remove
from gateway.spool.state import HOUR_BITS, Epoch, State, tally

UNKNOWN_HOUR = 0
REMOVED_AT_ONCE = 2_048
"""Batches that pass their window in one transaction: appends wait for no more than this."""


def hour_of(wall_s: float | None) -> int:
    """Hours since 1970."""
    return UNKNOWN_HOUR if wall_s is None else max(1, int(wall_s // 3600))


def settle(
    connection: sqlite3.Connection, state: State, epoch: Epoch, ranges: RangeSet, hour: int
) -> tuple[State, int]:
    """Marks `ranges`, which are not settled by a receipt yet; how many batches are no longer to be sent."""
    leaving = ranges & epoch.unsent
    amount = tally(connection, epoch, leaving)
    state = replace(state, held=state.held - amount)
    state = state.with_epoch(replace(epoch, received=epoch.received | ranges))
    state = _excuse(connection, state, epoch, leaving, settled=True)
    key = epoch.number << HOUR_BITS | hour
    _write(connection, key, amount.batches, amount.readings, ranges)
    return state, amount.batches


def _write(connection: sqlite3.Connection, key: int, batches: int, readings: int, ranges: RangeSet) -> None:
    row = connection.execute("SELECT batches, readings, ranges FROM settlements WHERE id = ?", (key,)).fetchone()
    if row is not None:
        batches, readings, ranges = batches + row[0], readings + row[1], ranges | unpack_ranges(row[2], key)
    connection.execute(
        "INSERT OR REPLACE INTO settlements VALUES (?, ?, ?, ?)", (key, batches, readings, pack_ranges(ranges, key))
    )


def _excuse(connection: sqlite3.Connection, state: State, epoch: Epoch, seqs: RangeSet, *, settled: bool) -> State:
    for ids in epoch.ids(seqs):
        for (gap,) in connection.execute("SELECT id FROM gaps WHERE id >= ? AND id < ?", ids).fetchall():
            state = losses.excuse(connection, state, gap, settled=settled)
    return state


def take_back(connection: sqlite3.Connection, state: State, epoch: Epoch, ranges: RangeSet) -> tuple[State, int]:
    """Unsettles what of `ranges` the file still has; how many batches are to be sent again."""
    back = ranges & epoch.received & (epoch.present | epoch.dropped)
    if not back:
        return state, 0
    for key, batches, readings, packed in _hours(connection, epoch.number):
        known = unpack_ranges(packed, key)
        lost = known & back
        if lost:
            amount = tally(connection, epoch, lost & epoch.present)
            connection.execute(
                "UPDATE settlements SET batches = ?, readings = ?, ranges = ? WHERE id = ?",
                (batches - amount.batches, readings - amount.readings, pack_ranges(known - lost, key), key),
            )
    again = tally(connection, epoch, back & epoch.present)
    state = replace(state, held=state.held + again)
    state = state.with_epoch(replace(epoch, received=epoch.received - back))
    state = _excuse(connection, state, epoch, back & epoch.present, settled=False)
    return state, again.batches


def _hours(connection: sqlite3.Connection, number: int) -> list[tuple[int, int, int, bytes]]:
    return connection.execute(
        "SELECT id, batches, readings, ranges FROM settlements WHERE id >= ? AND id < ? ORDER BY id",
        (number << HOUR_BITS, (number + 1) << HOUR_BITS),
    ).fetchall()


def expire(connection: sqlite3.Connection, state: State, now_hour: int, window_h: float) -> tuple[State, int]:
    """Removes batches that were settled longer ago than the window; how many."""
    removed = 0
    rows = connection.execute("SELECT id, batches, readings, ranges FROM settlements ORDER BY id").fetchall()
    for key, batches, readings, packed in rows:
        number, hour = key >> HOUR_BITS, key & ((1 << HOUR_BITS) - 1)
        known = unpack_ranges(packed, key)
        # Settled before the clock was known, or while it ran ahead: the window begins now.
        if hour == UNKNOWN_HOUR or hour > now_hour + 1:
            connection.execute("DELETE FROM settlements WHERE id = ?", (key,))
            _write(connection, number << HOUR_BITS | now_hour, batches, readings, known)
            continue
        if hour + 1 + window_h > now_hour:
            continue
        e = state.epochs[number]
        going = known & e.present
        part = RangeSet(_first(going, REMOVED_AT_ONCE - removed))
        state = remove(connection, state, number, part)
        removed += part.count()
        if part != going:
            break  # the rest with the next call
        state = free_for_good(connection, state, state.epochs[number], known)
        connection.execute(
            "UPDATE epochs SET settled_batches = settled_batches + ?, settled_readings = settled_readings + ?"
            " WHERE epoch_no = ?",
            (batches, readings, number),
        )
        connection.execute("DELETE FROM settlements WHERE id = ?", (key,))
    return state, removed


def _first(seqs: RangeSet, count: int) -> list[tuple[int, int]]:
    taken = []
    for first, end in seqs:
        if count <= 0:
            break
        taken.append((first, min(end, first + count)))
        count -= end - first
    return taken


def forget_epochs(connection: sqlite3.Connection, state: State, current: int, now_hour: int, window_h: float) -> State:
    """Removes former epochs of which nothing is left, one window after that: until then the server may ask."""
    quiet = dict(connection.execute("SELECT epoch_no, quiet_hour FROM epochs").fetchall())
    listed = {key >> HOUR_BITS for (key,) in connection.execute("SELECT id FROM settlements")}
    for number, e in sorted(state.epochs.items()):
        if number == current or e.present or e.dropped or number in listed:
            continue
        since = quiet[number]
        if e.next and (since is None or since > now_hour + 1):
            connection.execute("UPDATE epochs SET quiet_hour = ? WHERE epoch_no = ?", (now_hour, number))
        elif not e.next or since + window_h < now_hour:
            state = forget_epoch(connection, state, e)
    return state


def forget_epoch(connection: sqlite3.Connection, state: State, epoch: Epoch) -> State:
    """Takes an epoch out of the books."""
    batches, readings = connection.execute(
        "SELECT settled_batches, settled_readings FROM epochs WHERE epoch_no = ?", (epoch.number,)
    ).fetchone()
    add_total(connection, "settled_batches", batches)
    add_total(connection, "settled_readings", readings)
    add_total(connection, "sealed_batches", epoch.next)
    add_total(connection, "sealed_readings", epoch.sealed)
    connection.execute("DELETE FROM epochs WHERE epoch_no = ?", (epoch.number,))
    return replace(state, epochs={n: e for n, e in state.epochs.items() if n != epoch.number})


def due(epoch: Epoch, settled: RangeSet) -> RangeSet:
    """What a receipt newly says of an epoch: seqs that are not sealed yet are not ours to believe."""
    return (settled & RangeSet.below(epoch.next)) - epoch.received - epoch.freed
