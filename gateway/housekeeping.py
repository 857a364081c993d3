"""What the spool needs from time to time: the clock, freed space, gaps told, and a ledger that the operator trusts.

`heal7-iot gateway trust` leaves a file beside the spool, since the daemon alone has the spool open; the daemon takes
it up within seconds, or when it starts.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from gateway.clock import Clock
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.thread import SpoolThread

log = logging.getLogger(__name__)

PERIOD_S = 5.0
_FREE_PERIOD_S = 60.0

MAX_LEDGER = 64
"""Characters of a ledger id (WIRE.md §6)."""


def trust_file(state_dir: Path) -> Path:
    """Where the operator's command leaves the ledger id."""
    return state_dir / "trust-ledger"


def request_trust(state_dir: Path, ledger: str) -> None:
    """Leaves the ledger id for the daemon, whole or not at all. Raises OSError."""
    path = trust_file(state_dir)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            # Of root under umask 077 the daemon, which is another user, could not read it.
            os.fchmod(file.fileno(), 0o644)
            file.write(ledger)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


async def keep_house(
    spool: SpoolThread,
    clock: Clock,
    state_dir: Path,
    *,
    changed: Callable[[], None],
    trusted: Callable[[], None],
    progress: Callable[[], None] = lambda: None,
    period_s: float = PERIOD_S,
) -> None:
    """For ever. changed: something may have become sendable. trusted: another ledger counts from now on."""
    freed_s: float | None = None
    while True:
        now_s, wall_s, anchor = clock.now_s(), clock.wall_s(), clock.read_anchor()
        free = freed_s is None or now_s - freed_s >= _FREE_PERIOD_S

        def work(spool: Spool, free: bool = free, wall_s: float | None = wall_s) -> None:
            spool.set_anchor(anchor)  # noqa: B023 - awaited within this turn of the loop
            spool.seal_gaps()
            if free:
                spool.free_replayed(wall_s)

        try:
            await spool.run(work)
            progress()
            if free:
                freed_s = now_s
            if await _take_trust(spool, state_dir):
                trusted()
        except SpoolUnavailable as error:
            log.warning("%s: trying again in %g s", error, period_s)
        changed()
        await asyncio.sleep(period_s)


async def _take_trust(spool: SpoolThread, state_dir: Path) -> bool:
    path = trust_file(state_dir)
    try:
        # At most a few hundred bytes, read some ten times a minute.
        ledger = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        log.error("%s cannot be read: %s", path, error)
        return False
    if 0 < len(ledger) <= MAX_LEDGER and ledger.isprintable():
        await spool.run(lambda s: s.trust(ledger))
        log.warning("ledger %s is trusted from now on, by the operator's command", ledger)
    else:
        log.error("%s does not hold a ledger id; removed", path)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return True
