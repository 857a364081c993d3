"""What speaks on a line that nobody reads: told by listening, and by questions where the operator wants them asked."""

import asyncio
from collections.abc import Iterable

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout
from device_drivers.serial_line.exchange import Exchange
from device_drivers.serial_line.port import SerialPort
from device_drivers.serial_line.recognition import Probe, Recognised, recognise
from device_drivers.transport import HELD_BYTES, open_line


async def listen(port: SerialPort, baudrate: int, for_s: float, clock: Clock) -> list[Recognised]:
    """What was recognised of all that came at this speed within `for_s` seconds; ends at once when it is sure.

    Says nothing on the line. Raises LinkLost where it cannot be opened or is gone.
    """
    line = await open_line(port, baudrate, clock)
    try:
        heard, looked_at = b"", 0
        ends_s = asyncio.get_running_loop().time() + for_s
        while (left_s := ends_s - asyncio.get_running_loop().time()) > 0 and len(heard) < HELD_BYTES:
            try:
                heard += (await line.read(left_s)).data
            except DeviceTimeout:
                break
            # Not at each byte that comes: noise at a high speed would be looked through thousands of times.
            if len(heard) >= looked_at + max(16, looked_at // 8):
                looked_at = len(heard)
                found = recognise(heard)
                if found and found[0].is_sure:
                    return found
        return recognise(heard)
    finally:
        await line.close()


async def ask(port: SerialPort, baudrate: int, probes: Iterable[Probe], timeout_s: float, clock: Clock) -> list[Probe]:
    """Those of the probes of this speed that were answered, each asked once and alone. Raises LinkLost as `listen`."""
    line = await open_line(port, baudrate, clock)
    try:
        exchange, answered = Exchange(line), []
        for probe in probes:
            if probe.baudrate == baudrate:
                try:
                    await exchange.ask(probe.request, probe.finder(), timeout_s)
                except DeviceTimeout:
                    continue
                answered.append(probe)
        return answered
    finally:
        await line.close()
