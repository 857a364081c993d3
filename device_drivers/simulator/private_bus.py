"""A message bus of our own that stands for the system bus, so that no emulated radio meets the machine's BlueZ."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from device_drivers.simulator.message_bus import MessageBus

BusKind = Literal["auto", "dbus-daemon", "python"]

# dbus-daemon starts within 10 ms; a loaded machine gets a thousand times that.
_START_TIMEOUT_S = 10.0

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


@asynccontextmanager
async def private_bus(directory: Path, kind: BusKind = "auto") -> AsyncIterator[str]:
    """Yields the address of a running bus, for DBUS_SYSTEM_BUS_ADDRESS; the same for the same directory.

    directory: existing, private to the user, with a path of at most about 90 bytes (a socket's limit).
    kind: `auto` takes dbus-daemon where it is installed. Raises OSError or TimeoutError where the bus does not start.
    """
    socket = directory / "bus.sock"
    if kind == "dbus-daemon" or (kind == "auto" and shutil.which("dbus-daemon")):
        async with _dbus_daemon(directory, socket):
            yield f"unix:path={socket}"
    else:
        async with MessageBus(socket) as bus:
            yield bus.address


def _configure(directory: Path, socket: Path) -> Path:
    socket.unlink(missing_ok=True)
    configuration = directory / "bus.conf"
    configuration.write_text(_CONFIGURATION.format(socket=socket))
    return configuration


@asynccontextmanager
async def _dbus_daemon(directory: Path, socket: Path) -> AsyncIterator[None]:
    configuration = await asyncio.to_thread(_configure, directory, socket)
    process = await asyncio.create_subprocess_exec(
        "dbus-daemon",
        f"--config-file={configuration}",
        "--nofork",
        "--nosyslog",
        "--print-address",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it says at each start that it may not raise its limit of open files
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            if not await process.stdout.readline():
                raise OSError(f"dbus-daemon did not start; see dbus-daemon --config-file={configuration}")
        yield
    finally:
        if process.returncode is None:
            # Not `terminate`: where it has just ended, that takes its exit code away from asyncio, which then warns.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        await process.wait()
