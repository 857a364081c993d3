"""A daemon of ours as the process that it is in the field, in a session of its own."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from heal7_iot.demo.errors import PartDied

_LAST_LINES = 15


class Part:
    """`heal7-iot ARGUMENTS…` from entering to leaving; leaving kills it where it still runs. log: what it says."""

    def __init__(
        self, name: str, arguments: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "heal7_iot",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C is for the demonstration alone, which stops its parts in order.
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # Not `Process.send_signal`: it looks whether the child has ended and takes its exit code away from asyncio,
        # which then warns of an unknown child and makes up a code of its own.
        assert self._process is not None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def check(self) -> None:
        """Raises PartDied."""
        assert self._process is not None
        if self._process.returncode is not None:
            raise PartDied(self.name, self._process.returncode, last_lines(self._log))

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, as systemd does. Raises PartDied where it does not end well, TimeoutError where it does not end."""
        assert self._process is not None
        self.check()
        self._signal(signal.SIGTERM)
        async with asyncio.timeout(timeout_s):
            code = await self._process.wait()
        if code != 0:
            raise PartDied(self.name, code, last_lines(self._log))


def last_lines(log: Path) -> str:
    """The end of a log, for a person."""
    if not log.exists():
        return ""
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
