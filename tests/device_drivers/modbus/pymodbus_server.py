"""pymodbus's own server, which knows nothing of our codec, on a line of either kind; and what it saw and said."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pymodbus import FramerType
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import SimDevice


@dataclass
class Traffic:
    """requests: every one that a server took, in order. silent: units that hear, and say nothing.

    change: what becomes of each reply that goes out.
    """

    requests: list[ModbusPDU] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    change: Callable[[ModbusPDU], ModbusPDU] = lambda reply: reply
    _unit_said: int = 0

    def pdu(self, is_sent: bool, pdu: ModbusPDU) -> ModbusPDU:
        if is_sent:
            self._unit_said = pdu.dev_id
            return self.change(pdu)
        self.requests.append(pdu)
        return pdu

    def packet(self, is_sent: bool, packet: bytes) -> bytes:
        return b"" if is_sent and self._unit_said in self.silent else packet

    def asked(self, unit: int) -> list[tuple[int, int, int]]:
        """The function, address and number of registers of each request to a unit."""
        return [(pdu.function_code, pdu.address, pdu.count) for pdu in self.requests if pdu.dev_id == unit]


@asynccontextmanager
async def serving(kind: str, directory: Path, traffic: Traffic, units: list[SimDevice]) -> AsyncIterator[str]:
    """A server of these units; yields the port as a configuration names it. kind: `pty` or `socket`."""
    if kind == "socket":
        tcp = ModbusTcpServer(
            units,
            framer=FramerType.RTU,
            address=("127.0.0.1", 0),
            trace_pdu=traffic.pdu,
            trace_packet=traffic.packet,
        )
        await tcp.serve_forever(background=True)
        try:
            assert isinstance(tcp.transport, asyncio.Server)
            yield f"socket://127.0.0.1:{tcp.transport.sockets[0].getsockname()[1]}"
        finally:
            await tcp.shutdown()  # type: ignore[no-untyped-call]
        return
    async with _crossed(directory) as (ours, theirs):
        serial = ModbusSerialServer(
            units, port=str(theirs), baudrate=9600, trace_pdu=traffic.pdu, trace_packet=traffic.packet
        )
        await serial.serve_forever(background=True)
        try:
            yield str(ours)
        finally:
            await serial.shutdown()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _crossed(directory: Path) -> AsyncIterator[tuple[Path, Path]]:
    """Two lines with what is written to one coming out of the other, as of two adapters on one bus."""
    loop, ends, links = asyncio.get_running_loop(), [], []
    for name in ("ours", "theirs"):
        near, far = os.openpty()
        tty.setraw(far)
        os.set_blocking(near, False)
        link = directory / name
        link.symlink_to(os.ttyname(far))
        ends.append((near, far))
        links.append(link)

    def pass_on(from_: int, to: int) -> None:
        os.write(to, os.read(from_, 4096))

    for (near, _), (other, _) in (ends, ends[::-1]):
        loop.add_reader(near, pass_on, near, other)
    try:
        yield links[0], links[1]
    finally:
        for near, far in ends:
            loop.remove_reader(near)
            os.close(near)
            os.close(far)
