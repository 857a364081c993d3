"""A sensor that is asked, as a driver: each reply becomes readings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout, LinkLost, ProtocolError
from device_drivers.reading import Reading
from device_drivers.serial_line import mhz19b, sps30
from device_drivers.serial_line.asked import Asked, MhZ19b, Sps30
from device_drivers.serial_line.exchange import Exchange
from device_drivers.serial_line.meaning import Meanings, require_channels
from device_drivers.serial_line.options import PollOptions
from device_drivers.transport import SerialLine, open_line
from firmware_profiles.selection import ProfileSet

UNANSWERED = 3
"""Requests in a row without a reply after which the line is opened anew."""


NOTHING_NEW = 10
"""Replies in a row without a measurement after which the sensor is taken for stuck."""


@dataclass(frozen=True, slots=True)
class PollProtocol:
    """baudrate: 8N1. channels: all that a reply may say."""

    baudrate: int
    channels: tuple[str, ...]
    begun: Callable[[], Asked]


POLL_PROTOCOLS: Mapping[str, PollProtocol] = MappingProxyType(
    {
        "mhz19b": PollProtocol(mhz19b.BAUDRATE, mhz19b.CHANNELS, MhZ19b),
        "sps30": PollProtocol(sps30.BAUDRATE, sps30.CHANNELS, Sps30),
    }
)
"""By the kind that a configuration names. A new one is an entry here."""


def open_poll(options: PollOptions, profiles: ProfileSet, clock: Clock) -> "PollDriver":
    """A driver that is entered to open its line.

    Raises ProfileError for a profile that wants a channel which the replies do not have.
    """
    protocol = POLL_PROTOCOLS[options.kind]
    require_channels(profiles, options.kind, protocol.channels)
    return PollDriver(options, protocol, profiles, clock)


class PollDriver:
    """Asks one sensor every `interval_s`; a new object for each opening.

    `readings` raises LinkLost when the line is gone, when three requests in a row stay unanswered, when the sensor
    refuses what it is asked, and when it answers again and again that it has measured nothing: opened again, it is told
    again to measure.
    """

    def __init__(self, options: PollOptions, protocol: PollProtocol, profiles: ProfileSet, clock: Clock) -> None:
        self._options = options
        self._protocol = protocol
        self._meanings = Meanings(options, profiles)
        self._clock = clock
        self._sensor_errors = 0
        self._line: SerialLine | None = None
        self._exchange: Exchange | None = None
        self._opened_at_us = 0

    @property
    def name(self) -> str:
        return f"{self._options.model.lower()} on {self._options.port}"

    @property
    def faults(self) -> dict[str, int]:
        """unanswered: requests without a reply in time. stray_bytes: that nobody asked for. bad_checksums: damaged
        replies. sensor_errors: replies in which the sensor itself states an error."""
        exchange = self._exchange
        return {
            "unanswered": exchange.unanswered if exchange else 0,
            "stray_bytes": exchange.stray_bytes if exchange else 0,
            "bad_checksums": exchange.damaged if exchange else 0,
            "sensor_errors": self._sensor_errors,
        }

    @property
    def line_busy_s(self) -> float:
        """See `AsksOnLine`."""
        return self._exchange.busy_s if self._exchange else 0.0

    async def __aenter__(self) -> Self:
        self._line = await open_line(self._options.port, self._protocol.baudrate, self._clock)
        self._exchange = Exchange(self._line)
        self._opened_at_us = self._clock()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._line is not None:
            await self._line.close()

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """One sequence per reply, its readings all taken when the reply was whole."""
        assert self._exchange is not None, "enter the driver before reading"
        asked, loop = self._protocol.begun(), asyncio.get_running_loop()
        unanswered, nothing_new, begun, due_s = 0, 0, False, loop.time()
        while True:
            try:
                if not begun:
                    await asked.begin(self._exchange, self._options.timeout_s)
                    begun = True
                said = await asked.poll(self._exchange, self._options.timeout_s)
            except DeviceTimeout as error:
                unanswered += 1
                if unanswered == UNANSWERED:
                    raise LinkLost(
                        f"{self.name}: {unanswered} requests in a row without a reply; is the sensor powered, and are"
                        " its lines crossed (TX to RX)?"
                    ) from error
                said = None
            except ProtocolError as error:
                raise LinkLost(f"{self.name}: {error}") from error
            else:
                unanswered = 0
                nothing_new = 0 if said is not None else nothing_new + 1
                if nothing_new == NOTHING_NEW:
                    raise LinkLost(f"{self.name}: it answers, and has measured nothing {nothing_new} times in a row")
            if said is not None:
                sample, frame, taken_at_us = said
                self._sensor_errors += sample.error
                readings = self._meanings.readings(sample, frame, taken_at_us, taken_at_us - self._opened_at_us)
                if readings:
                    yield readings
            # From request to request; what took longer than an interval is not caught up with.
            due_s = max(due_s + self._options.interval_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
