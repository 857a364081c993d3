"""The books: of each epoch, and over the life of the file with what `totals` says of what has left it."""

import sqlite3

from gateway.link.status import EpochBook
from gateway.spool.state import State
from gateway.spool.values import Books, Counters

BOOK_EPOCHS = 64
"""Epochs in the books: a status of more would outgrow its message."""
BOOK_SPANS = 200
"""Ranges of one epoch in the books (WIRE.md §5)."""
_TURNS = 8
# Places for epochs that hold nothing, however many others hold something: what a restored database has lost of them is
# found only where they are told of.


def books(state: State, current: int, turn: int) -> Books:
    """Of every epoch. Where they are too many: the current one, then the oldest that hold something; the others take
    turns, the newest in the first (turn 0, 1, …)."""
    every = state.epochs
    others = sorted(every.keys() - {current})
    holding = [number for number in others if every[number].unsettled]
    done = [number for number in reversed(others) if not every[number].unsettled]
    places = min(len(done), max(BOOK_EPOCHS - 1 - len(holding), _TURNS))
    told = [done[(turn * places + n) % len(done)] for n in range(places)]
    listed = sorted([current, *holding[: BOOK_EPOCHS - 1 - places], *told])
    return Books(
        tuple(
            EpochBook(epoch=e.epoch, next=e.next, sealed=e.sealed, held=e.unsettled.coarse(BOOK_SPANS))
            for e in (every[number] for number in listed)
        ),
        whole=len(listed) == len(every),
    )


def whole_file(connection: sqlite3.Connection, state: State) -> Counters:
    """Counters over the life of the file."""
    totals: dict[str, int] = dict(connection.execute("SELECT name, number FROM totals").fetchall())
    for source in ("SELECT sum(batches), sum(readings) FROM settlements",
                   "SELECT sum(settled_batches), sum(settled_readings) FROM epochs"):  # fmt: skip
        batches, readings = connection.execute(source).fetchone()
        totals["settled_batches"] = totals.get("settled_batches", 0) + (batches or 0)
        totals["settled_readings"] = totals.get("settled_readings", 0) + (readings or 0)
    for batch, reason, readings in connection.execute(
        "SELECT batch IS NOT NULL, reason, total(readings) FROM losses GROUP BY 1, 2"
    ):
        name = f"{'dropped' if batch else 'unsealed'}:{reason}"
        totals[name] = totals.get(name, 0) + int(readings)
    return Counters(
        totals.get("sealed_batches", 0) + sum(e.next for e in state.epochs.values()),
        totals.get("sealed_readings", 0) + sum(e.sealed for e in state.epochs.values()),
        totals["settled_batches"],
        totals["settled_readings"],
        _by_reason(totals, "dropped:"),
        _by_reason(totals, "unsealed:"),
    )


def _by_reason(totals: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(totals.items()) if n and name.startswith(prefix)}
