"""Which batches can be sent, and in what order."""

import sqlite3

from gateway.link.wire import ENVELOPE_ROOM
from gateway.spool.rows import batch_id, split_id
from gateway.spool.state import State
from gateway.spool.values import Identity, Stored


def sendable(
    connection: sqlite3.Connection, state: State, after: Identity | None, limit: int, limit_bytes: int
) -> list[Stored]:
    """Unsettled batches whose clock is known, oldest epoch first, as `Spool.sendable` says."""
    found: list[Stored] = []
    last = state.by_name().get(after.epoch) if after is not None else None
    beyond = batch_id(last.number, after.seq) if last is not None and after is not None else -1
    for _, e in sorted(state.epochs.items()):
        boot = state.boots.get(e.boot_no)
        # A batch has an anchor of its own only where its boot has one, so the boot answers for all of an epoch.
        if boot is None or boot.anchor is None:
            continue
        for first, end in e.ids(e.unsent):
            for key, readings, size in connection.execute(
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
