"""Totals since the file was made: what is in it, and what `totals` says of what has left it."""

import sqlite3

from gateway.spool.state import State
from gateway.spool.values import Counters


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
