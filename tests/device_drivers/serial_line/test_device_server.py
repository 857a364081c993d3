"""The transport over a device server's TCP port: what of a line holds there, and what it says when it does not open."""

import asyncio
import socket

import pytest

from device_drivers import transport
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line.port import SerialPort
from device_drivers.simulator.attached import Line
from device_drivers.simulator.device_server import EmulatedDeviceServer
from device_drivers.transport import SerialLine, open_line
from tests.device_drivers.serial_line.terminals import HandClock


async def _open(port: str, clock: HandClock | None = None) -> SerialLine:
    return await open_line(SerialPort.parse(port), 9600, clock or HandClock())


async def _read_exactly(line: SerialLine, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += (await line.read(5.0)).data
    return data


async def test_bytes_come_unchanged_both_ways(line: Line) -> None:
    heard = bytearray()
    all_heard = asyncio.Event()
    sent = bytes(range(256))

    def hear(data: bytes) -> None:
        heard.extend(data)
        if len(heard) == len(sent):
            all_heard.set()

    line.serve(hear)
    opened = await _open(line.port)
    line.write(sent)
    assert await _read_exactly(opened, len(sent)) == sent
    opened.write(sent)
    async with asyncio.timeout(5):
        await all_heard.wait()
    assert heard == sent
    await opened.close()


async def test_silence_is_a_timeout_and_no_end(line: Line) -> None:
    opened = await _open(line.port)
    with pytest.raises(DeviceTimeout, match=r"no byte for 0\.01 s"):
        await opened.read(0.01)
    line.write(b"after all")
    assert await _read_exactly(opened, 9) == b"after all"
    await opened.close()


async def test_a_line_that_is_gone_is_lost_to_reader_and_writer(line: Line) -> None:
    opened = await _open(line.port)
    line.write(b"last words")
    assert await _read_exactly(opened, 10) == b"last words"
    line.hang_up()
    with pytest.raises(LinkLost):
        await opened.read(5.0)
    with pytest.raises(LinkLost):
        opened.write(b"to nobody")
    assert opened.discard() == 0
    await opened.close()
    with pytest.raises(LinkLost):
        await _open(line.port)
    line.replug()
    again = await _open(line.port)
    line.write(b"back")
    assert await _read_exactly(again, 4) == b"back"
    await again.close()


async def test_what_came_before_a_connection_was_lost_is_still_given() -> None:
    clock = HandClock()
    with EmulatedDeviceServer() as server:
        opened = await _open(server.port, clock)
        server.write(b"last words")
        async with asyncio.timeout(5):
            await clock.asked.wait()
        server.hang_up()
        assert await _read_exactly(opened, 10) == b"last words"
        with pytest.raises(LinkLost, match="the device server closed the connection; it lost power"):
            await opened.read(5.0)
        await opened.close()


async def test_another_program_that_takes_the_line_is_told_of() -> None:
    with EmulatedDeviceServer() as server:
        server.serve(lambda _: None)
        first = await _open(server.port)
        second = await _open(server.port)
        with pytest.raises(LinkLost, match="another program took the line"):
            await first.read(5.0)
        await first.close()
        await second.close()


async def test_nobody_listens() -> None:
    with EmulatedDeviceServer() as server:
        server.hang_up()
        with pytest.raises(LinkLost, match=r"socket://127\.0\.0\.1:\d+: refused; is the device server a TCP server"):
            await _open(server.port)


async def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(LinkLost, match="nobody knows this name; write the device server's address"):
        await _open("socket://no-such-host.invalid:4001")


async def test_a_device_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does whose backlog is full: connections are neither taken nor refused."""
    monkeypatch.setattr(transport, "OPEN_TIMEOUT_S", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
                waiting.append(client)
            with pytest.raises(LinkLost, match=r"no answer within 0\.1 s; is the device server powered"):
                await _open(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            for client in waiting:
                client.close()


def test_a_look_from_outside_does_not_take_the_line() -> None:
    with EmulatedDeviceServer() as server:
        kind = DRIVER_KINDS["pms5003"]
        looked = kind.look(kind.options.model_validate({"kind": "pms5003", "device": "hall", "port": server.port}))
    assert (looked.line, looked.found, looked.faults) == (server.port, None, ())
