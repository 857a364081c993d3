"""A sensor on a serial line without the sensor: a pseudo-terminal behind a link that stays the same.

A pseudo-terminal enforces no baud rate; apart from that a program cannot tell it from an adapter.
"""

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Self


class EmulatedLine:
    """Plugged in from the start. Nothing here waits, so it may be driven from an event loop.

    directory: where the link is made, as udev makes it in /dev/serial/by-id; it must exist.
    """

    def __init__(self, directory: Path, product: str, serial: str) -> None:
        self.link = directory / f"usb-Emulated_{product}_{serial}-if00-port0"
        self._terminal: tuple[int, int] | None = None
        self._serving: tuple[asyncio.AbstractEventLoop, Callable[[bytes], None]] | None = None
        self.replug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def port(self) -> str:
        """As a configuration names it."""
        return str(self.link)

    def serve(self, heard: Callable[[bytes], None]) -> None:
        """From now on `heard` is told what comes, also after it was plugged in again. Within an event loop."""
        self._serving = asyncio.get_running_loop(), heard
        self._watch()

    def write(self, data: bytes) -> int:
        """Sends any bytes and returns how many the line took.

        Like a sensor it waits for nobody: what doesn't fit the kernel's buffer (4 KiB without a reader) is lost, and
        so is everything while it is hung up.
        """
        if self._terminal is None:
            return 0
        try:
            return os.write(self._terminal[0], data)
        except BlockingIOError:
            return 0

    def hang_up(self) -> None:
        """Unplugs it: readers get an error and the link is gone."""
        self.link.unlink(missing_ok=True)
        if self._terminal is not None:
            if self._serving is not None:
                self._serving[0].remove_reader(self._terminal[0])
            for descriptor in self._terminal:
                os.close(descriptor)
            self._terminal = None

    def replug(self) -> None:
        """Plugs it in as another device behind the same link, as a kernel does that numbers them anew."""
        self.hang_up()
        # The sensor's own handle on the far end keeps the line up while no program has it open.
        near, far = os.openpty()
        self._terminal = near, far
        # Until a program opens the line, a fresh terminal would echo the frames back to the sensor.
        tty.setraw(far)
        os.set_blocking(near, False)
        self.link.symlink_to(os.ttyname(far))
        self._watch()

    def close(self) -> None:
        """Gives everything back; may be called again."""
        self.hang_up()

    def _watch(self) -> None:
        if self._serving is not None and self._terminal is not None:
            self._serving[0].add_reader(self._terminal[0], self._hear, self._terminal[0])

    def _hear(self, near: int) -> None:
        assert self._serving is not None
        self._serving[1](os.read(near, 4096))
