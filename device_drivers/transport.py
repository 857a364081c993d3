"""Serial lines: found by stable identity, opened exclusively, read with the time at which bytes came.

The only home of serialx and pyserial; what they raise becomes `LinkLost` here and nowhere else.
"""

import asyncio
import errno
import socket
from collections import deque
from typing import Literal, NamedTuple

from serial.tools.list_ports import comports
from serialx import BaseSerialTransport, Parity, SerialException, StopBits, create_serial_connection

from device_drivers.driver import Clock
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.serial_line.port import Adapter, DeviceServer, SerialPort, UsbIdentity, adapter, describe_links

# Opening waits for the kernel, or for a device server on the local network; a USB adapter whose driver hangs must not
# hang its supervisor, too.
OPEN_TIMEOUT_S = 5.0

# What a line may hold for a reader that is late: a minute at 9600 baud. Beyond it the kernel's buffer fills and then
# overflows, which shows as damaged frames, instead of memory that grows.
HELD_BYTES = 64 * 1024


_PARITIES = {"none": Parity.NONE, "even": Parity.EVEN, "odd": Parity.ODD}
_STOP_BITS = {1: StopBits.ONE, 2: StopBits.TWO}


class Chunk(NamedTuple):
    """Bytes as they came, and when: microseconds of this boot's monotonic clock."""

    data: bytes
    taken_at_us: int


async def open_line(
    port: SerialPort,
    baudrate: int,
    clock: Clock,
    *,
    parity: Literal["none", "even", "odd"] = "none",
    stop_bits: Literal[1, 2] = 1,
) -> "SerialLine":
    """Opens the port with 8 data bits and locks it.

    Raises LinkLost, with what to do about it, if that cannot be done now.
    """
    url = await _url(port)
    line = _Receiver(clock)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            transport, _ = await create_serial_connection(
                asyncio.get_running_loop(),
                lambda: line,
                url,
                baudrate,
                exclusive=True,
                parity=_PARITIES[parity],
                stopbits=_STOP_BITS[stop_bits],
            )
    except (OSError, SerialException) as error:
        raise LinkLost(_explain(error, port)) from error
    return SerialLine(port, line, transport)


class SerialLine:
    """An open serial line. `close` it always, also after it was lost."""

    def __init__(self, port: SerialPort, receiver: "_Receiver", transport: BaseSerialTransport) -> None:
        self._port = port
        self._receiver = receiver
        self._transport = transport

    async def read(self, timeout_s: float) -> Chunk:
        """The next bytes in the order in which they came; what came before a hang-up is still given.

        Raises DeviceTimeout if nothing comes for `timeout_s` seconds, LinkLost when the line is gone.
        """
        receiver = self._receiver
        while not receiver.chunks:
            if receiver.ended:
                raise LinkLost(_explain(receiver.error, self._port)) from receiver.error
            receiver.changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await receiver.changed.wait()
            except TimeoutError:
                raise DeviceTimeout(f"{self._port}: no byte for {timeout_s:g} s") from None
        chunk = receiver.chunks.popleft()
        receiver.held_bytes -= len(chunk.data)
        self._resume()
        return chunk

    def write(self, data: bytes) -> None:
        """Sends bytes, after those that were given before. Waits for nobody: requests are short.

        Raises LinkLost when the line is gone.
        """
        receiver = self._receiver
        if receiver.ended:
            raise LinkLost(_explain(receiver.error, self._port)) from receiver.error
        try:
            self._transport.write(data)
        except (OSError, SerialException) as error:
            raise LinkLost(_explain(error, self._port)) from error

    def discard(self) -> int:
        """Forgets what came and nobody read; how many bytes."""
        receiver = self._receiver
        count = receiver.held_bytes
        receiver.chunks.clear()
        receiver.held_bytes = 0
        self._resume()
        return count

    def _resume(self) -> None:
        # A connection that has ended has nothing to resume, and says so with an assertion.
        if not self._receiver.ended and self._receiver.held_bytes <= HELD_BYTES // 2:
            self._transport.resume_reading()

    async def close(self) -> None:
        """Gives the port back; when this returns it can be opened again."""
        # The transport closes by itself once told: a cancellation here leaves nothing open.
        self._transport.close()
        await self._transport.wait_closed()


class _Receiver(asyncio.Protocol):
    """Takes bytes from the event loop and dates them at once, however late they are asked for."""

    def __init__(self, clock: Clock) -> None:
        self.chunks: deque[Chunk] = deque()
        self.held_bytes = 0
        self.changed = asyncio.Event()
        self.ended = False
        self.error: Exception | None = None
        self._clock = clock
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(Chunk(data, self._clock()))
        self.held_bytes += len(data)
        if self.held_bytes >= HELD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        self.changed.set()


def adapters() -> list[Adapter]:
    """All serial lines of this machine, in order of their names. Blocks for some milliseconds; opens nothing."""
    return sorted((adapter(listed) for listed in comports()), key=lambda found: found.device)


def paths_of(usb: UsbIdentity) -> list[str]:
    """The device paths of all adapters with this identity that are plugged in now. Blocks for some milliseconds."""
    return usb.matches(comports())


async def _url(port: SerialPort) -> str:
    """For serialx."""
    if isinstance(port.address, DeviceServer):
        return str(port.address)
    return f"device://{port.address if isinstance(port.address, str) else await _find(port.address)}"


async def _find(usb: UsbIdentity) -> str:
    # Listing reads hundreds of small files of sysfs, and a failing hub can make each of them slow.
    paths = await asyncio.to_thread(paths_of, usb)
    wanted = f"USB {usb.vid:04x}:{usb.pid:04x} with serial number {usb.serial!r}"
    if not paths:
        raise LinkLost(f"no adapter {wanted} is plugged in; {describe_links()}")
    if len(paths) > 1:
        raise LinkLost(
            f"{wanted} is not unique, {' and '.join(paths)} have it; name the port by a link from /dev/serial/by-path"
        )
    return paths[0]


def _explain(error: Exception | None, port: SerialPort) -> str:
    if isinstance(port.address, DeviceServer):
        return f"{port}: {_explain_server(error)}"
    if isinstance(error, FileNotFoundError):
        return f"{port}: not there, is it plugged in? {describe_links()}"
    if isinstance(error, PermissionError):
        return f"{port}: this user may not open it; add it to the group that owns the port, usually dialout"
    if isinstance(error, TimeoutError):
        return f"{port}: did not open within {OPEN_TIMEOUT_S:g} s; plug the adapter in again"
    match getattr(error, "errno", None):
        case errno.EBUSY:
            return f"{port}: another program holds it; stop that program or configure the port once"
        case errno.ENOTTY | errno.EINVAL:
            return f"{port}: is not a serial line; {describe_links()}"
        case errno.EIO | errno.ENXIO | errno.ENODEV:
            return f"{port}: hung up, the adapter was unplugged or lost power"
        case _:
            return f"{port}: {error or 'closed'}"


def _explain_server(error: Exception | None) -> str:
    if isinstance(error, socket.gaierror):
        return "nobody knows this name; write the device server's address"
    if isinstance(error, ConnectionRefusedError):
        return "refused; is the device server a TCP server on this port, and is nobody else connected?"
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_TIMEOUT_S:g} s; is the device server powered, and on this network?"
    if error is None or getattr(error, "errno", None) == errno.EIO:
        return "the device server closed the connection; it lost power, or another program took the line"
    return f"{error}"
