"""A sensor on a serial line without the sensor: a pseudo-terminal behind a link that stays the same.

A pseudo-terminal enforces no baud rate; apart from that a program cannot tell it from an adapter.
"""

import os
import tty
from pathlib import Path
from typing import Self


class EmulatedLine:
    """Plugged in from the start. Nothing here waits, so it may be driven from an event loop.

    directory: where the link is made, as udev makes it in /dev/serial/by-id; it must exist.
    """

    def __init__(self, directory: Path, product: str, serial: str) -> None:
        self.link = directory / f"usb-Emulated_{product}_{serial}-if00-port0"
        self._terminal: tuple[int, int] | None = None
        self.replug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def near(self) -> int | None:
        """The sensor's end, as a file descriptor; None while it is hung up."""
        return self._terminal[0] if self._terminal else None

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

    def close(self) -> None:
        """Gives everything back; may be called again."""
        self.hang_up()
