"""One demonstration: a temporary directory, the line in it, the table, the books."""

import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from heal7_iot.demo.errors import DemoError, Interrupted
from heal7_iot.demo.interruption import Interruption, in_thread
from heal7_iot.demo.line import Line, Setup
from heal7_iot.demo.observation import View
from heal7_iot.demo.outcome import Result, balanced, summary, verdict
from heal7_iot.demo.screen import Screen, screen_for
from heal7_iot.embedded.errors import EmbeddedServerError
from ingest_server.errors import StorageError

_SHOW_EVERY_S = 0.5
_EXIT_FAILED = 1
_EXIT_SIGNALLED = 128  # plus the signal's number, as a shell says it

_PREFIX = "h7-demo-"

# A unix socket's path holds 107 bytes on Linux and 103 elsewhere; ours add less than thirty.
_LONGEST_BASE = 70


@dataclass(frozen=True, slots=True)
class Options:
    """duration_s: of measuring; None until a signal. keep: where the state goes afterwards; None removes it."""

    setup: Setup
    duration_s: float | None
    keep: Path | None


def run(options: Options) -> int:
    """The exit code: 0 only where the books balance, 1 where they don't or a part failed, else the signal's."""
    return asyncio.run(_demonstrate(options))


async def _demonstrate(options: Options) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another encoding shows question marks for Korean, and no traceback.
        sys.stdout.reconfigure(errors="replace")
    console = _Terminal()
    interruption = Interruption()
    with interruption.listening():
        try:
            result = await _measure(options, interruption, console)
        except (Interrupted, asyncio.CancelledError):
            return _EXIT_FAILED if interruption.signal is None else _EXIT_SIGNALLED + interruption.signal
        except (DemoError, EmbeddedServerError, StorageError) as error:
            with contextlib.suppress(OSError):
                print(f"heal7-iot demo: {error}", file=sys.stderr)
            return _EXIT_FAILED
    # All is stopped: a terminal that is gone has nothing more to spoil.
    with contextlib.suppress(OSError):
        console.print(verdict(result), markup=False, highlight=False, soft_wrap=True)
        if options.keep is not None:
            print(f"kept in {options.keep}: configuration, logs, spool and database")
        print(json.dumps(summary(result)), flush=True)
    return 0 if balanced(result.spool, result.database) else _EXIT_FAILED


async def _measure(options: Options, interruption: Interruption, console: Console) -> Result:
    screen = _Guarded(screen_for(console), interruption)
    base = _make_base()
    try:
        async with Line(base, options.setup, interruption, screen.step) as line:
            await _watch(line, options.duration_s, interruption, screen)
            screen.close()
            return await line.finish()
    finally:
        screen.close()
        await in_thread(lambda: _put_away(base, options.keep))


async def _watch(line: Line, duration_s: float | None, interruption: Interruption, screen: "_Guarded") -> None:
    while not interruption.came:
        line.check()
        try:
            screen.show(await line.observer.look(line.elapsed_s))
        except StorageError:
            # Where the database has died, that is the reason, not what its clients say of it.
            await interruption.within(_SHOW_EVERY_S)
            line.check()
            raise
        left_s = _SHOW_EVERY_S if duration_s is None else duration_s - line.elapsed_s
        if left_s <= 0:
            return
        await interruption.within(min(left_s, _SHOW_EVERY_S))


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process here, in the middle of the line.
        raise BrokenPipeError


class _Guarded:
    """A screen whose terminal may go away (a closed window, `| head`): then the demonstration ends in order."""

    def __init__(self, screen: Screen, interruption: Interruption) -> None:
        self._screen = screen
        self._interruption = interruption

    def step(self, text: str) -> None:
        with self._ending():
            self._screen.step(text)

    def show(self, view: View) -> None:
        with self._ending():
            self._screen.show(view)

    def close(self) -> None:
        with self._ending():
            self._screen.close()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._interruption.end()
            # What is still in the buffer, and what comes, would fail again, at last when Python ends.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _make_base() -> Path:
    base = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if not _suits(base):
        base.rmdir()
        base = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    if os.geteuid() == 0:
        base.chmod(0o711)
    return base


def _suits(base: Path) -> bool:
    # As root, PostgreSQL has to run as `nobody`, who must get through to its own directory.
    reachable = os.geteuid() != 0 or all(path.stat().st_mode & 0o001 for path in base.parents)
    # A connection string and a bus address would need other characters escaped, each in its way.
    return reachable and len(str(base)) <= _LONGEST_BASE and re.fullmatch(r"[\w./-]+", str(base), re.ASCII) is not None


def _put_away(base: Path, keep: Path | None) -> None:
    if keep is None:
        shutil.rmtree(base)
        return
    for path in base.rglob("*"):
        if path.is_socket():
            path.unlink()  # a copy to another file system would fail on it
    shutil.move(base, keep)
    # Unlike the temporary directory it is for its owner alone.
    keep.chmod(0o700)
