"""What is told apart by sensor of those that are asked: what to say first, and one question."""

from typing import Protocol

from device_drivers.errors import ProtocolError
from device_drivers.serial_line import mhz19b, shdlc, sps30
from device_drivers.serial_line.codec import Sample
from device_drivers.serial_line.exchange import Exchange
from device_drivers.serial_line.framing import FrameFinder


class Asked(Protocol):
    """A sensor that answers; a new object for each opening of its line."""

    async def begin(self, exchange: Exchange, timeout_s: float) -> None:
        """What must be said before the first question. Raises DeviceTimeout, ProtocolError, LinkLost."""

    async def poll(self, exchange: Exchange, timeout_s: float) -> tuple[Sample, bytes, int] | None:
        """One measurement, its frame, and when it was whole; None: there is no new one. Raises as `begin`."""


class MhZ19b:
    """It measures by itself."""

    async def begin(self, exchange: Exchange, timeout_s: float) -> None:
        """Nothing must be said."""

    async def poll(self, exchange: Exchange, timeout_s: float) -> tuple[Sample, bytes, int] | None:
        """See `Asked`."""
        frame, taken_at_us = await exchange.ask(mhz19b.REQUEST, FrameFinder(mhz19b.REPLY), timeout_s)
        return mhz19b.read(frame), frame, taken_at_us


class Sps30:
    """It measures once it was told to, until it loses power."""

    def __init__(self) -> None:
        self._firmware = ""

    async def begin(self, exchange: Exchange, timeout_s: float) -> None:
        """Learns its firmware, and has it measure."""
        version, _, _ = await self._ask(exchange, sps30.VERSION, b"", timeout_s)
        if len(version.data) >= 2:
            self._firmware = f"{version.data[0]}.{version.data[1]}"
        started, _, _ = await self._ask(exchange, sps30.START, sps30.FLOATS, timeout_s)
        if started.state & ~sps30.DEVICE_ERROR not in (0, sps30.ALREADY):
            raise ProtocolError(f"it does not begin to measure: state {started.state:#04x}")

    async def poll(self, exchange: Exchange, timeout_s: float) -> tuple[Sample, bytes, int] | None:
        """See `Asked`."""
        said, frame, taken_at_us = await self._ask(exchange, sps30.READ, b"", timeout_s)
        if said.state & ~sps30.DEVICE_ERROR:
            # It was restarted, and measures no more: begun anew, it does.
            raise ProtocolError(f"it does not measure: state {said.state:#04x}")
        sample = sps30.read(said, self._firmware)
        return None if sample is None else (sample, frame, taken_at_us)

    async def _ask(
        self, exchange: Exchange, command: int, data: bytes, timeout_s: float
    ) -> tuple[shdlc.Reply, bytes, int]:
        asked = shdlc.request(sps30.ADDRESS, command, data)
        frame, taken_at_us = await exchange.ask(asked, shdlc.ReplyFinder(sps30.ADDRESS, command), timeout_s)
        return shdlc.parse(frame), frame, taken_at_us
