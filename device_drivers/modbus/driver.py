"""A line that several Modbus units share, as a driver: each is read in its turn."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Self

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.interpretation import Interpreter, raw_reading, raw_series
from device_drivers.modbus.options import ModbusDeviceOptions, ModbusOptions
from device_drivers.modbus.plan import FUNCTIONS, Read, reads_of
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
from firmware_profiles.modbus import VersionRegister, Write
from firmware_profiles.selection import ProfileSet

log = logging.getLogger(__name__)

SILENT_AFTER = 3
"""Requests in a row without a reply after which a unit is asked less and less often."""
_LONGEST_S = 60.0


def open_modbus(options: ModbusOptions, profiles: ProfileSet, clock: Clock) -> "ModbusDriver":
    """A driver that is entered to open its line.

    Raises ProfileError for a unit that no profile with registers knows: nobody could say what to read.
    """
    return ModbusDriver(options, [_Unit(device, profiles) for device in options.device], clock)


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

    @property
    def line_busy_s(self) -> float:
        """See `AsksOnLine`."""
        return self._exchange.busy_s if self._exchange else 0.0

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
                if not unit.is_begun and (unknown := await self._begin(unit)):
                    yield [unknown]
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

    async def _begin(self, unit: "_Unit") -> Reading | None:
        """Learns its firmware and tells it what its profile says; the stated version as it came where there is none."""
        if unit.version is not None:
            version = unit.version
            request = read_request(unit.options.unit, FUNCTIONS[version.table], version.address, 1)
            answer = await self._ask(unit, request)
            firmware = "" if answer is None else _firmware(version, answer[0][3:-2])
            if not unit.takes(firmware):
                unit.unanswered = 0
                if firmware not in unit.told:
                    unit.told.add(firmware)
                    what = f"firmware {firmware}" if firmware else "a firmware that it does not state"
                    log.warning("%s: no profile for %s: %s is not read", self.name, what, unit.options.device)
                series = raw_series(unit.options.device, firmware)
                return None if answer is None else raw_reading(series, *answer)
        for write in unit.begin:
            await self._ask(unit, write_request(unit.options.unit, write.address, write.value))
        unit.is_begun = True
        return None

    async def _read(self, unit: "_Unit", read: Read) -> Sequence[Reading]:
        answer = await self._ask(unit, read_request(unit.options.unit, read.function, read.address, read.count))
        if answer is None:
            return []
        reply, taken_at_us = answer
        assert unit.interpreter is not None
        values = read.values(reply[3:-2])
        warming = taken_at_us - self._opened_at_us < unit.warm_up_s * 1_000_000
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
        if code not in unit.refused:
            # Once each: it will say so every time.
            unit.refused.add(code)
            log.warning("%s: %s: %s", self.name, unit.options.device, EXCEPTIONS.get(code, f"exception {code}"))
        return None


class _Unit:
    """due_s: when it is asked next. unanswered: requests in a row. version: where it states its firmware, None where it
    does not or the configuration does; until it has, nobody knows what to read. refused, told: exceptions and firmwares
    that were logged."""

    def __init__(self, options: ModbusDeviceOptions, profiles: ProfileSet) -> None:
        """Raises ProfileError, see `open_modbus`."""
        self.options = options
        self._profiles = profiles
        self.version: VersionRegister | None = None
        self._known: tuple[str, str] | None = None
        self.interpreter: Interpreter | None = None
        self.reads: list[Read] = []
        self.begin: tuple[Write, ...] = ()
        self.warm_up_s = 0.0
        self.is_begun = False
        self.due_s = 0.0
        self.unanswered = 0
        self.refused: set[int] = set()
        self.told: set[str] = set()
        if not options.firmware:
            self.version = _version_of(options.model, profiles)
        if self.version is None and not self.takes(options.firmware):
            known = sorted(model for p in profiles if p.modbus is not None for model in p.models)
            raise ProfileError(
                options.model, "", f"no profile with registers knows it; there are those of {', '.join(known)}"
            )

    def takes(self, firmware: str) -> bool:
        """From now on it is read as the profile for this firmware says; not at all where there is none."""
        profile = self._profiles.select(self.options.model, firmware)
        if profile is None or profile.modbus is None:
            self._known, self.interpreter, self.reads, self.begin = None, None, [], ()
            return False
        if self._known != (profile.name, firmware):
            # A new one would have forgotten the values before, by which the next are judged.
            self._known = profile.name, firmware
            self.interpreter = Interpreter(self.options.device, firmware, profile)
        self.reads, self.begin, self.warm_up_s = reads_of(profile), profile.modbus.begin, profile.warm_up_s
        return True

    def next_s(self, now_s: float) -> float:
        """From turn to turn; what took longer than an interval is not caught up with."""
        beyond = self.unanswered - SILENT_AFTER
        wait_s = self.options.interval_s
        if beyond >= 0:
            wait_s = max(wait_s, min(_LONGEST_S, wait_s * 2.0 ** min(beyond + 1, 16)))
        return max(self.due_s + wait_s, now_s)


def _version_of(model: str, profiles: ProfileSet) -> VersionRegister | None:
    """Where devices of this model state their firmware; None where they do not.

    Raises ProfileError where its profiles name several registers: which to ask would depend on what it answers.
    """
    stated = {p.modbus.version for p in profiles if model in p.models and p.modbus is not None and p.modbus.version}
    if len(stated) > 1:
        raise ProfileError(model, "modbus.version", "its profiles name different registers; name one for all of them")
    return next(iter(stated), None)


def _firmware(version: VersionRegister, register: bytes) -> str:
    return f"{register[0]}.{register[1]}" if version.reads_as == "major_minor" else str(int.from_bytes(register, "big"))
