"""Wall time for boots, and for those that never knew it."""

import sqlite3
from dataclasses import replace

from gateway.link.anchor import Anchor, ClockSource
from gateway.spool.state import BootRow, State

_LARGEST = 2**62
"""µs: what the envelope's columns hold with room to spare."""


def set_anchor(connection: sqlite3.Connection, state: State, boot_no: int) -> State:
    """The running boot keeps its first anchor; those before it that never had one get their estimates."""
    boot = state.boots[boot_no]
    if state.anchor is None or boot.anchor is not None:
        return state
    found = estimates(list(state.boots.values()), boot, state.anchor)
    for number, known in {**found, boot_no: state.anchor}.items():
        connection.execute(
            "UPDATE boots SET offset_us = ?, uncertainty_us = ?, source = ? WHERE boot_no = ?",
            (known.offset_us, known.uncertainty_us, int(known.source), number),
        )
        state = state.with_boot(replace(state.boots[number], anchor=known))
    return state


def estimates(boots: list[BootRow], current: BootRow, anchor: Anchor) -> dict[int, Anchor]:
    """Anchors for former boots that ended unsynchronised, now that the current one has an anchor.

    Each gets its latest possible time: it ended when the next boot began. It began no earlier than the last moment
    that an older boot saw by a clock that could be believed; the doubt is the width between.
    """
    found: dict[int, Anchor] = {}
    begun_us, doubt_us = anchor.offset_us, anchor.uncertainty_us  # a boot's monotonic clock begins at 0
    for boot in sorted((b for b in boots if b.number < current.number), key=lambda b: b.number, reverse=True):
        if boot.anchor is None and boot.ended_us is not None:
            latest_us = begun_us - boot.ended_us
            earliest_us = _last_known(boots, boot.number)
            width_us = max(0, latest_us - earliest_us) + doubt_us
            found[boot.number] = Anchor(latest_us, min(width_us, _LARGEST), ClockSource.ESTIMATED)
        known = boot.anchor or found.get(boot.number)
        if known is not None:
            begun_us = known.offset_us
            doubt_us = 0 if known.source is ClockSource.ESTIMATED else known.uncertainty_us
    return found


def _last_known(boots: list[BootRow], before: int) -> int:
    """Unix µs; 0 where no older boot knew the time."""
    ends = [
        boot.anchor.offset_us + (boot.ended_us or 0)
        for boot in boots
        if boot.number < before and boot.anchor is not None and boot.anchor.source is not ClockSource.ESTIMATED
    ]
    return max([0, *ends])
