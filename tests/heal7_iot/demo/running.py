"""The demonstration as a process of its own, watched for what it leaves behind."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

import psutil

_LONGEST_S = 60.0


class Running:
    """`process` with its output as text; `directory` is all that it may write to."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.seen: dict[int, psutil.Process] = {}

    def until(self, text: str) -> None:
        """Reads its output up to a line that holds the text, and notes which processes there are then."""
        assert self.process.stdout is not None
        read = []
        for line in self.process.stdout:
            read.append(line)
            if text in line:
                self.seen |= {p.pid: p for p in psutil.Process(self.process.pid).children(recursive=True)}
                return
        raise AssertionError(f"it never said {text!r}:\n{''.join(read)}\n{self.process.communicate()[1]}")

    def part(self, *words: str) -> psutil.Process:
        """The child whose command line holds the words."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if set(words) <= set(child.cmdline())]
        return found

    def signal(self, number: Signals) -> None:
        """As a terminal sends it: to every process of the foreground group."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, the rest of the output, and what it said of errors."""
        out, err = self.process.communicate(timeout=_LONGEST_S)
        return self.process.returncode, out, err

    def left_behind(self) -> list[str]:
        """Processes and files; none is what it should be."""
        _, alive = psutil.wait_procs([*self.seen.values()], timeout=5)
        return [repr(process) for process in alive] + [str(path) for path in self.directory.iterdir()]


@contextmanager
def demonstration(*arguments: str) -> Iterator[Running]:
    """Runs `heal7-iot demo ARGUMENTS`."""
    # Not pytest's: its path is too long for sockets, and closed to the account that PostgreSQL runs as.
    directory = Path(tempfile.mkdtemp(prefix="h7t-", dir="/tmp"))
    directory.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "heal7_iot", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(directory), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    running = Running(process, directory)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=_LONGEST_S)
        shutil.rmtree(directory, ignore_errors=True)
