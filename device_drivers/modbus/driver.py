"""A line that several Modbus units share, as a driver: each is read in its turn."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Self

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.interpretation import Interpreter
from device_drivers.modbus.options import ModbusDeviceOptions, ModbusOptions
from device_drivers.modbus.plan import Read, reads_of
from device_drivers.modbus.rtu import (
    EXCEPTIONS,
    ReplyFinder,
    exception_code,
    read_request,
    write_request,
)
from device_drivers.reading import Causes, Reading
from device_drivers.serial_line.exchange import Exchange
from device_drivers.transport import SerialLine, open_line
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet

log = logging.getLogger(__name__)

SILENT_AFTER = 3
"""Requests in a row without a reply after which a unit is asked less and less often."""
_LONGEST_S = 60.0


def open_modbus(options: ModbusOptions, profiles: ProfileSet, clock: Clock) -> "ModbusDriver":
    """A driver that is entered to open its line.

    Raises ProfileError for a unit that no profile with registers knows: nobody could say what to read.
    """
    units = []
    for device in options.device:
        profile = profiles.select(device.model, device.firmware)
        if profile is None or profile.modbus is None:
            known = sorted(model for p in profiles if p.modbus is not None for model in p.models)
            raise ProfileError(
                device.model, "", f"no profile with registers knows it; there are those of {', '.join(known)}"
            )
        units.append(_Unit(device, profile))
    return ModbusDriver(options, units, clock)


class ModbusDriver:
    """Reads the units of one line; a new object for each opening.

    One request is in flight. A unit that is silent costs the others one request's patience, less and less often.
    `readings` raises LinkLost when the line is gone, and when every unit has been silent three times in a row.
    """

    def __init__(self, options: ModbusOptions, units: "list[_Unit]", clock: Clock) -> None:
        self._options = options
        self._units = units
        self._clock = clock
        # Between frames, 3.5 characters of 11 bits (Modbus over Serial Line, 2.5.1.1: 1.75 ms at the least).
        self._silence_s = max(0.00175, 3.5 * 11 / options.baudrate)
        self._exceptions = 0
        self._line: SerialLine | None = None
        self._exchange: Exchange | None = None
        self._opened_at_us = 0

    @property
    def name(self) -> str:
        return f"modbus on {self._options.port}"

    @property
    def faults(self) -> dict[str, int]:
        """unanswered: requests without a reply in time. exceptions: replies that refuse. stray_bytes: that nobody asked
        for, another unit's replies and late ones among them. bad_checksums: damaged replies."""
        exchange = self._exchange
        return {
            "unanswered": exchange.unanswered if exchange else 0,
            "exceptions": self._exceptions,
            "stray_bytes": exchange.stray_bytes if exchange else 0,
            "bad_checksums": exchange.damaged if exchange else 0,
        }

    async def __aenter__(self) -> Self:
        o = self._options
        self._line = await open_line(o.port, o.baudrate, self._clock, parity=o.parity, stop_bits=o.stop_bits)
        self._exchange = Exchange(self._line)
        self._opened_at_us = self._clock()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._line is not None:
            await self._line.close()

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """One sequence for each request's reply, its readings all taken when the reply was whole."""
        assert self._exchange is not None, "enter the driver before reading"
        loop = asyncio.get_running_loop()
        for unit in self._units:
            unit.due_s = loop.time()
        while True:
            unit = min(self._units, key=lambda u: u.due_s)
            await asyncio.sleep(unit.due_s - loop.time())
            try:
                if not unit.is_begun:
                    await self._begin(unit)
                for read in unit.reads:
                    readings = await self._read(unit, read)
                    unit.unanswered = 0
                    if readings:
                        yield readings
            except DeviceTimeout as error:
                unit.unanswered += 1
                # Whoever was without power forgot what it was told.
                unit.is_begun = False
                if all(u.unanswered >= SILENT_AFTER for u in self._units):
                    raise LinkLost(
                        f"{self.name}: no unit answers; are A and B swapped, and are speed and parity right?"
                    ) from error
            unit.due_s = unit.next_s(loop.time())

    async def _begin(self, unit: "_Unit") -> None:
        assert unit.profile.modbus is not None
        for write in unit.profile.modbus.begin:
            await self._ask(unit, write_request(unit.options.unit, write.address, write.value))
        unit.is_begun = True

    async def _read(self, unit: "_Unit", read: Read) -> Sequence[Reading]:
        answer = await self._ask(unit, read_request(unit.options.unit, read.function, read.address, read.count))
        if answer is None:
            return []
        reply, taken_at_us = answer
        values = read.values(reply[3:-2])
        warming = taken_at_us - self._opened_at_us < unit.profile.warm_up_s * 1_000_000
        causes = Causes.WARMING_UP.value if warming else 0
        return [unit.interpreter.reading(name, raw, taken_at_us, causes) for name, raw in values.items()]

    async def _ask(self, unit: "_Unit", request: bytes) -> tuple[bytes, int] | None:
        """The reply; None where the unit refuses."""
        assert self._exchange is not None
        # Without it some units take the request for the rest of what was said before.
        await asyncio.sleep(self._silence_s)
        reply, taken_at_us = await self._exchange.ask(request, ReplyFinder(request), self._options.timeout_s)
        code = exception_code(reply)
        if code is None:
            return reply, taken_at_us
        self._exceptions += 1
        if code not in unit.told:
            # Once each: it will say so every time.
            unit.told.add(code)
            log.warning("%s: %s: %s", self.name, unit.options.device, EXCEPTIONS.get(code, f"exception {code}"))
        return None


class _Unit:
    """due_s: when it is asked next. unanswered: requests in a row. told: exceptions that were logged."""

    def __init__(self, options: ModbusDeviceOptions, profile: FirmwareProfile) -> None:
        self.options = options
        self.profile = profile
        self.interpreter = Interpreter(options.device, options.firmware, profile)
        self.reads = reads_of(profile)
        self.is_begun = False
        self.due_s = 0.0
        self.unanswered = 0
        self.told: set[int] = set()

    def next_s(self, now_s: float) -> float:
        """From turn to turn; what took longer than an interval is not caught up with."""
        beyond = self.unanswered - SILENT_AFTER
        wait_s = self.options.interval_s
        if beyond >= 0:
            wait_s = max(wait_s, min(_LONGEST_S, wait_s * 2.0 ** min(beyond + 1, 16)))
        return max(self.due_s + wait_s, now_s)
