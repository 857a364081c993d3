"""What both daemons need of the operating system: signals, systemd, logging, exit codes."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Main = Callable[[asyncio.Event], Awaitable[None]]
"""The daemon's coroutine. The event is set when it should drain and return; a second signal cancels it."""


def run(main: Main, *, name: str) -> int:
    """Runs a daemon until it returns or a signal stops it; the exit code.

    A bug ends the process with its traceback and code 1, for systemd to restart: a daemon that goes on after an
    error that nobody foresaw is in a state that nobody designed.
    """
    wanted = os.environ.get("HEAL7_IOT_LOG_LEVEL", "INFO").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        level=wanted if wanted in known else "INFO",
        format="%(levelname)s %(name)s: %(message)s" if "JOURNAL_STREAM" in os.environ else _WITH_TIME,
        stream=sys.stderr,
    )
    if wanted not in known:
        log.warning("HEAL7_IOT_LOG_LEVEL=%s: there are DEBUG, INFO, WARNING, ERROR, CRITICAL; this is INFO", wanted)
    try:
        asyncio.run(_main(main), debug=False)
    except asyncio.CancelledError:
        log.warning("%s stopped at once on a second signal; nothing sealed is lost", name)
        return 130
    except Exception:
        log.exception("%s ends on an error that nobody foresaw; please report this", name)
        return 1
    return 0


_WITH_TIME = "%(asctime)s %(levelname)s %(name)s: %(message)s"


async def _main(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()
        notify("STOPPING=1")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await task


def notify(state: str) -> None:
    """Tells systemd (sd_notify(3)): `READY=1`, `WATCHDOG=1`, `STATUS=…`. Does nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # The manager may be restarting: a lost note is no reason to stop reading sensors.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.sendto(state.encode(), address)


class Watchdog:
    """Feeds systemd's watchdog by progress, not by a loop that merely turns.

    Each named source must have made progress within `patience_s`; otherwise the watchdog starves and systemd
    restarts the daemon, which loses nothing that was sealed.
    """

    def __init__(self, patience_s: dict[str, float], now_s: float) -> None:
        self._patience_s = patience_s
        self._seen_s = dict.fromkeys(patience_s, now_s)

    def progress(self, source: str, now_s: float) -> None:
        """`source` did something, at `now_s` of the monotonic clock."""
        self._seen_s[source] = now_s

    def stalled(self, now_s: float) -> list[str]:
        """The sources that have made no progress for too long."""
        return [s for s, patience in self._patience_s.items() if now_s - self._seen_s[s] > patience]

    def feed(self, now_s: float) -> list[str]:
        """Feeds systemd if all is well; returns the stalled sources otherwise."""
        stalled = self.stalled(now_s)
        if not stalled:
            notify("WATCHDOG=1")
        return stalled
