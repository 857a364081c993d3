"""Readings from sensors that are read over Bluetooth GATT, through BlueZ and bleak."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from random import random
from typing import Self

from device_drivers.ble.gatt.adapter import Adapter
from device_drivers.ble.gatt.connection import Connection
from device_drivers.ble.gatt.meaning import KnownFirmware, UnknownFirmware, meaning_of, notifies, profiles_of
from device_drivers.ble.gatt.options import GattDeviceOptions, GattOptions
from device_drivers.driver import OVERFLOWS, Clock
from device_drivers.errors import DeviceTimeout, DriverError, LinkLost, ProtocolError
from device_drivers.reading import Reading
from firmware_profiles.errors import ProfileError
from firmware_profiles.gatt import full_uuid
from firmware_profiles.selection import ProfileSet

log = logging.getLogger(__name__)

FIRMWARE_REVISION = full_uuid("2a26")
"""Of the service Device Information (0x180A): a text."""

# Groups of readings that wait while the gateway is busy: as many as the advertisement driver keeps.
MAX_WAITING = 2048

# What a device says of itself travels with every series, which the wire format bounds.
MAX_FIRMWARE_BYTES = 128

# A device that went out of range comes back within seconds; one that was taken away is looked for every few minutes.
BACKOFF_FIRST_S = 2.0
BACKOFF_LONGEST_S = 300.0


def open_gatt(
    options: GattOptions, profiles: ProfileSet, clock: Clock, draw: Callable[[], float] = random
) -> "GattDriver":
    """A driver for the sensors of one adapter; nothing is opened before it is entered.

    draw: 0 to 1, for the jitter of waiting times. Raises ProfileError for a model that no profile with characteristics
    knows, as nobody could say what to read; DriverError where connections that are held would leave none for the rest.
    """
    for device in options.device:
        if not profiles_of(profiles, device.model):
            known = sorted(model for p in profiles if p.gatt is not None for model in p.models)
            raise ProfileError(
                device.model, "", f"no profile with characteristics knows it; there are those of {', '.join(known)}"
            )
    notifying = [d for d in options.device if any(notifies(profile) for profile in profiles_of(profiles, d.model))]
    needed = len(notifying) + (len(notifying) < len(options.device))
    if needed > options.max_connections:
        raise DriverError(
            f"Bluetooth GATT on {options.adapter}: {len(notifying)} of its devices notify and hold their connection: "
            f"set max_connections to at least {needed}, or spread them over adapters"
        )
    return GattDriver(options, profiles, clock, draw)


class GattDriver:
    """Each device has a task that waits until it is on the air, takes a turn to connect, and reads it.

    One that is away costs the others nothing: it takes no turn before it is heard. `readings` raises LinkLost when the
    adapter, BlueZ or the bus is gone; a device that is gone is tried again with backoff, and counted.
    """

    def __init__(self, options: GattOptions, profiles: ProfileSet, clock: Clock, draw: Callable[[], float]) -> None:
        self._options = options
        self._profiles = profiles
        self._clock = clock
        self._draw = draw
        self._faults: Counter[str] = Counter()
        self._waiting: deque[Sequence[Reading]] = deque()
        self._arrived = asyncio.Event()
        self._adapter = Adapter(options.adapter, self._arrived.set)
        self._turns = asyncio.Semaphore(options.max_connections)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """`Bluetooth GATT on hci0`."""
        return f"Bluetooth GATT on {self._options.adapter}"

    @property
    def faults(self) -> dict[str, int]:
        """What gave no reading since this driver was made, by kind.

        unanswered: devices not heard, not connected to, or silent, each time. links_lost: connections that broke or
        were refused. refused: characteristics that a device does not let us read. short_values: that end before the
        profile's number. not_known: by the device's own word. queue_overflows: readings dropped, oldest first, while
        the gateway was busy.
        """
        return dict(self._faults)

    async def __aenter__(self) -> Self:
        """Raises LinkLost where there is no bus, BlueZ or powered adapter."""
        await self._adapter.__aenter__()
        for device in self._options.device:
            task = asyncio.create_task(self._attend(device), name=f"gatt {device.device}")
            task.add_done_callback(lambda _: self._arrived.set())
            self._tasks.append(task)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._adapter.__aexit__(*exc)

    async def readings(self) -> AsyncIterator[Sequence[Reading]]:
        """What one characteristic said at a time. Raises LinkLost when the adapter is gone."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                if self._adapter.lost:
                    raise LinkLost(self._adapter.lost)
                for task in self._tasks:
                    if task.done():
                        # They end only by a bug, which is told where it is known what to do with it.
                        task.result()
                await self._arrived.wait()
            yield self._waiting.popleft()

    async def _attend(self, options: GattDeviceOptions) -> None:
        loop = asyncio.get_running_loop()
        device = _Device(options)
        due_s, failures = loop.time(), 0
        while True:
            before = device.values
            try:
                await self._adapter.heard(options.address)
                async with self._turns:
                    await self._visit(device)
            except DriverError as error:
                self._faults["unanswered" if isinstance(error, DeviceTimeout) else "links_lost"] += 1
                failures = 0 if device.values > before else failures + 1
                device.tell(log, self.name, error)
                await asyncio.sleep(backoff_s(failures, self._draw))
                continue
            failures = 0
            # From visit to visit; what took longer than an interval is not caught up with.
            due_s = max(due_s + options.interval_s, loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def _visit(self, device: "_Device") -> None:
        """Once through all that is asked; as long as the connection holds where something notifies."""
        options = device.options
        path = self._adapter.device_path(options.address)
        async with Connection(self._options.adapter, path, options.address) as connection:
            if device.since_us is None:
                device.since_us = self._clock()
            meaning = self._meaning(device, options.firmware or await self._firmware(connection))
            await self._begin(connection, meaning)
            for uuid in meaning.notified:
                if connection.has(uuid, "notify", "indicate"):
                    await connection.notify(uuid, self._teller(device, meaning, uuid))
            # What should notify and cannot is asked.
            polled = [u for u in meaning.polled if connection.has(u, "read")]
            polled += [
                u for u in meaning.notified if connection.has(u, "read") and not connection.has(u, "notify", "indicate")
            ]
            holds = any(connection.has(uuid, "notify", "indicate") for uuid in meaning.notified)
            if not polled and not holds:
                raise LinkLost(f"it has no characteristic of {options.model}; is that its model?")
            await self._read(connection, device, meaning, polled)
            while holds:
                try:
                    async with asyncio.timeout(options.interval_s):
                        await connection.closed.wait()
                except TimeoutError:
                    await self._read(connection, device, meaning, polled)
                else:
                    raise LinkLost("connection lost")

    async def _firmware(self, connection: Connection) -> str:
        """As the device states it; empty where it does not."""
        if not connection.has(FIRMWARE_REVISION, "read"):
            return ""
        try:
            stated = await connection.read(FIRMWARE_REVISION)
        except ProtocolError:
            return ""
        text = stated[:MAX_FIRMWARE_BYTES].split(b"\0")[0].decode(errors="ignore")
        return "".join(letter for letter in text if letter.isprintable()).strip()

    def _meaning(self, device: "_Device", firmware: str) -> KnownFirmware | UnknownFirmware:
        """Kept from visit to visit; a new firmware has a new one."""
        if device.meaning is None or device.firmware != firmware:
            options = device.options
            device.firmware = firmware
            device.meaning = meaning_of(options.device, options.model, firmware, self._profiles, self._faults)
            if isinstance(device.meaning, UnknownFirmware):
                log.warning(
                    "%s: %s: no profile knows firmware %r of %s; its bytes are kept",
                    self.name, options.device, firmware, options.model,
                )  # fmt: skip
        return device.meaning

    async def _begin(self, connection: Connection, meaning: KnownFirmware | UnknownFirmware) -> None:
        for write in meaning.begin:
            try:
                await connection.write(write.uuid, bytes.fromhex(write.value))
            except ProtocolError as error:
                # Without it the device would give what was measured under other settings, or nothing.
                raise LinkLost(f"it refuses what it must be told first: {error}") from error

    async def _read(
        self, connection: Connection, device: "_Device", meaning: KnownFirmware | UnknownFirmware, polled: Sequence[str]
    ) -> None:
        for uuid in polled:
            try:
                value = await connection.read(uuid)
            except ProtocolError as error:
                self._faults["refused"] += 1
                device.tell(log, self.name, error)
                continue
            now_us = self._clock()
            self._give(device, meaning.readings(uuid, value, now_us, now_us - (device.since_us or 0)))

    def _teller(
        self, device: "_Device", meaning: KnownFirmware | UnknownFirmware, uuid: str
    ) -> Callable[[bytes], None]:
        """Called by bleak for each notification: does no more than decode it."""

        def told(value: bytes) -> None:
            now_us = self._clock()
            self._give(device, meaning.notified_readings(uuid, value, now_us, now_us - (device.since_us or 0)))

        return told

    def _give(self, device: "_Device", readings: Sequence[Reading]) -> None:
        if not readings:
            return
        device.recovered(log, self.name)
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._faults[OVERFLOWS] += 1
        self._waiting.append(readings)
        self._arrived.set()


class _Device:
    """values: how often it gave something. since_us: of its first connection, for the warm-up."""

    def __init__(self, options: GattDeviceOptions) -> None:
        self.options = options
        self.firmware = ""
        self.meaning: KnownFirmware | UnknownFirmware | None = None
        self.values = 0
        self.since_us: int | None = None
        self._told = ""

    def tell(self, log: logging.Logger, line: str, error: DriverError) -> None:
        """Once for each fault, until it works again: a sensor that was taken away is no news every few minutes."""
        if str(error) != self._told:
            self._told = str(error)
            log.warning("%s: %s: %s", line, self.options.device, error)

    def recovered(self, log: logging.Logger, line: str) -> None:
        self.values += 1
        if self._told:
            self._told = ""
            log.info("%s: %s: read again", line, self.options.device)


def backoff_s(failures: int, draw: Callable[[], float]) -> float:
    """Full jitter: devices that one outage put in step do not come back in step."""
    return draw() * min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 32))
