"""Asking on a serial line: one request in flight, and a reply that comes late is not taken for the next one.

Neither Modbus RTU nor what small sensors speak numbers its requests: a late reply looks like the one that is awaited.
So the line must be silent for a while after a request without a reply, before anybody asks again: for as long again as
the reply was waited for. A reply that is later still would be taken for the next one of its shape.
"""

import asyncio

from device_drivers.errors import DeviceTimeout
from device_drivers.serial_line.framing import Finder
from device_drivers.transport import SerialLine

QUIET_S = 0.1
"""Silence for so long ends whatever was being said: at 9600 baud a byte takes one millisecond."""
_MOST_QUIET = 20
"""Times that silence is waited for: a unit that never stops is no reason to wait for ever."""


class Exchange:
    """Of one line, which it does not own. For one task: who asks waits for the answer."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line
        self._is_unsettled = False
        self._settled_at_s = 0.0
        self.busy_s = 0.0
        """In which the line was asked and waited for, settling among it: nobody else could have asked."""
        self.unanswered = 0
        """Requests without a sound reply in time."""
        self.stray_bytes = 0
        """That nobody had asked for, late replies among them."""
        self.damaged = 0
        """Places in replies that looked like one and were none."""

    async def ask(self, request: bytes, finder: Finder, timeout_s: float) -> tuple[bytes, int]:
        """The first frame that `finder`, a new one, finds after the request; when it was whole (µs of this boot).

        Raises DeviceTimeout where none came in time, LinkLost when the line is gone.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await self._ask(request, finder, timeout_s)
        finally:
            self.busy_s += loop.time() - began_s

    async def _ask(self, request: bytes, finder: Finder, timeout_s: float) -> tuple[bytes, int]:
        if self._is_unsettled:
            await self._settle()
        self.stray_bytes += self._line.discard()
        self._line.write(request)
        self._is_unsettled = True
        self._settled_at_s = asyncio.get_running_loop().time() + timeout_s + max(timeout_s, QUIET_S)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    data, taken_at_us = await self._line.read(timeout_s)
                    frames = finder.feed(data)
                    if frames:
                        self._is_unsettled = False
                        return frames[0], taken_at_us
        except (TimeoutError, DeviceTimeout) as error:
            self.unanswered += 1
            raise DeviceTimeout(f"no reply within {timeout_s:g} s") from error
        finally:
            self.stray_bytes += finder.skipped_bytes
            self.damaged += finder.bad_checksums

    async def _settle(self) -> None:
        wait_s = max(0.0, self._settled_at_s - asyncio.get_running_loop().time())
        for _ in range(_MOST_QUIET):
            try:
                data, _ = await self._line.read(wait_s)
            except DeviceTimeout:
                return
            self.stray_bytes += len(data)
            wait_s = QUIET_S
