"""How a spool begins: with a sound file, a boot and a new epoch.

Invariant (6): a corrupt file is salvaged and set aside, never a reason not to start.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.link.wire import MAX_EPOCH
from gateway.spool import losses, salvage, seals
from gateway.spool.database import connect, translated
from gateway.spool.errors import SpoolCorrupt, SpoolUnavailable
from gateway.spool.reserve import Reserve
from gateway.spool.settlement import forget_epoch
from gateway.spool.state import BootRow, Epoch, Loss, State, load
from gateway.spool.values import Boot

log = logging.getLogger(__name__)

BOOTS_KEPT = 8
"""Former boots that nothing refers to: the last that knew the time bounds the estimate for those that did not."""


def open_file(path: Path, reserve: Reserve) -> tuple[sqlite3.Connection, State, dict[int, int]]:
    """The connection, the books, and the last monotonic time (µs) known of each boot.

    Raises SpoolBusy, SpoolUnavailable and SpoolError (file of a later release).
    """
    salvage.finish(path)
    try:
        return _open_sound(path)
    except SpoolUnavailable:
        # Not even the WAL of a file that is there could be made: the reserve is for that, too.
        if not reserve.release():
            raise
        return _open_sound(path)
    except SpoolCorrupt as error:
        log.error("spool is damaged and will be salvaged: %s", error)
    reserve.release()
    report = salvage.salvage(path)
    log.error("spool salvaged: %s", report)
    return _open_sound(path)


def _open_sound(path: Path) -> tuple[sqlite3.Connection, State, dict[int, int]]:
    connection = connect(path)
    sound = False
    try:
        _check(connection)
        state, last_us = load(connection)
        sound = True
        return connection, state, last_us
    except sqlite3.DatabaseError as error:
        raise translated(error, path) from error
    finally:
        if not sound:
            connection.close()


def _check(connection: sqlite3.Connection) -> None:
    seals.check(connection)
    row = connection.execute("SELECT clean FROM epochs ORDER BY epoch_no DESC LIMIT 1").fetchone()
    # It reads the whole file. After a clean stop a damage is found by whoever meets it: by a checksum, or by
    # SpoolCorrupt, after which the next opening comes here.
    if row is not None and not row[0]:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise SpoolCorrupt(found)


def begin_boot(connection: sqlite3.Connection, state: State, boot: Boot, last_us: Mapping[int, int]) -> State:
    """The running boot's row: a new one, unless the process was started again within the boot."""
    if any(known.boot_id == boot.boot_id for known in state.boots.values()):
        return state
    boots: dict[int, BootRow] = {}
    used = {e.boot_no for e in state.epochs.values()}
    used.update(n for row in connection.execute("SELECT from_boot, to_boot FROM losses") for n in row)
    newest = sorted(state.boots)[-BOOTS_KEPT:]
    for number, known in state.boots.items():
        if number not in used and number not in newest:
            connection.execute("DELETE FROM boots WHERE boot_no = ?", (number,))
            continue
        ended_us = last_us.get(number, 0) if known.ended_us is None else known.ended_us
        # Kept once and for all: as batches go, the file would otherwise forget how long the boot lasted.
        connection.execute("UPDATE boots SET ended_us = ? WHERE boot_no = ?", (ended_us, number))
        boots[number] = BootRow(number, known.boot_id, ended_us, known.anchor)
    number = max(state.boots, default=0) + 1
    connection.execute(
        "INSERT INTO boots (boot_no, boot_id, started_us) VALUES (?, ?, ?)", (number, boot.boot_id, boot.now_us)
    )
    boots[number] = BootRow(number, boot.boot_id, None, None)
    return replace(state, boots=boots)


def begin_epoch(
    connection: sqlite3.Connection, state: State, boot_no: int, now_us: int, draw: Callable[[], int]
) -> tuple[State, int]:
    """A new epoch, and what the stop before it may have lost; its epoch_no."""
    last = max(state.epochs, default=None)
    if last is not None:
        clean, held_back_us = connection.execute(
            "SELECT clean, held_back_us FROM epochs WHERE epoch_no = ?", (last,)
        ).fetchone()
        if not clean:
            e = state.epochs[last]
            # What came in and found the spool full is told already, though none of it was sealed.
            since_us = max(e.last_us, losses.refused_until_us(connection, e.boot_no)) - held_back_us
            state = losses.record(
                connection, state, Loss("unclean_stop", None, None, e.boot_no, max(0, since_us), boot_no, now_us)
            )
    for e in list(state.epochs.values()):
        if not e.next:
            state = forget_epoch(connection, state, e)
    number = (last or 0) + 1
    names = {e.epoch for e in state.epochs.values()}
    epoch = draw()
    while epoch in names or not 1 <= epoch <= MAX_EPOCH:
        epoch = draw()
    connection.execute(
        "INSERT INTO epochs (epoch_no, epoch, boot_no, opened_us) VALUES (?, ?, ?, ?)",
        (number, epoch, boot_no, now_us),
    )
    return state.with_epoch(Epoch(number, epoch, boot_no, last_us=now_us)), number
