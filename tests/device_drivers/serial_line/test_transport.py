"""The transport on real pseudo-terminals: order, dating, hang-up, locks, and what it says when it cannot open."""

import asyncio
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.serial_line.port import SerialPort
from device_drivers.simulator.plantower import EmulatedPms5003
from device_drivers.transport import HELD_BYTES, SerialLine, open_line
from tests.device_drivers.serial_line.terminals import HandClock, open_terminals


async def _open(path: Path, clock: HandClock | None = None) -> SerialLine:
    return await open_line(SerialPort.parse(str(path)), 9600, clock or HandClock())


async def _read_exactly(line: SerialLine, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += (await line.read(5.0)).data
    return data


async def test_bytes_come_unchanged(sensor: EmulatedPms5003) -> None:
    line = await _open(sensor.link)
    sent = bytes(range(256))  # among them all that a terminal in its usual mode would eat or change
    sensor.send(sent)
    assert await _read_exactly(line, len(sent)) == sent
    await line.close()


async def test_bytes_are_dated_when_they_come_and_not_when_they_are_asked_for(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    line = await _open(sensor.link, clock)
    clock.now_us = 1_000
    sensor.send(b"a")
    async with asyncio.timeout(5):
        await clock.asked.wait()
    clock.now_us = 9_000_000
    assert await line.read(5.0) == (b"a", 1_000)
    await line.close()


async def test_silence_is_a_timeout(sensor: EmulatedPms5003) -> None:
    line = await _open(sensor.link)
    with pytest.raises(DeviceTimeout, match=r"no byte for 0\.01 s"):
        await line.read(0.01)
    sensor.send(b"after all")
    assert await _read_exactly(line, 9) == b"after all"
    await line.close()


async def test_hang_up_is_link_lost_within_a_second(sensor: EmulatedPms5003) -> None:
    line = await _open(sensor.link)
    reading = asyncio.create_task(line.read(30.0))
    await asyncio.sleep(0)
    sensor.hang_up()
    with pytest.raises(LinkLost, match="unplugged"):
        await asyncio.wait_for(reading, 1.0)
    with pytest.raises(LinkLost):
        await line.read(30.0)
    await line.close()


async def test_what_came_before_the_hang_up_is_still_given(sensor: EmulatedPms5003) -> None:
    clock = HandClock()
    line = await _open(sensor.link, clock)
    sensor.send(b"last words")
    async with asyncio.timeout(5):
        await clock.asked.wait()
    sensor.hang_up()
    assert await _read_exactly(line, 10) == b"last words"
    with pytest.raises(LinkLost):
        await line.read(1.0)
    await line.close()


async def test_reopens_through_the_link_to_a_new_terminal(sensor: EmulatedPms5003) -> None:
    for turn in range(3):
        line = await _open(sensor.link)
        sensor.send(b"turn %d" % turn)
        assert await _read_exactly(line, 6) == b"turn %d" % turn
        sensor.replug()
        with pytest.raises(LinkLost):
            await line.read(1.0)
        await line.close()


async def test_a_missing_port(tmp_path: Path) -> None:
    with pytest.raises(LinkLost, match=r"absent: not there, is it plugged in\?"):
        await _open(tmp_path / "absent")


async def test_a_usb_identity_that_is_not_plugged_in() -> None:
    with pytest.raises(LinkLost, match="no adapter USB fffe:fffe with serial number 'NONE' is plugged in"):
        await open_line(SerialPort.parse("fffe:fffe:NONE"), 9600, HandClock())


async def test_a_file_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "not-a-line"
    path.touch()
    with pytest.raises(LinkLost, match="is not a serial line"):
        await _open(path)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may open everything: as root, this process is `nobody` for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(before)


async def test_a_port_of_others(nobody: None) -> None:
    # Not pytest's folder, which `nobody` may not enter; made by whoever this process is now.
    folder = Path(tempfile.mkdtemp())
    path = folder / "not-a-line"
    path.touch(mode=0o000)
    try:
        with pytest.raises(LinkLost, match="dialout"):
            await _open(path)
    finally:
        path.unlink()
        folder.rmdir()


async def test_a_line_is_opened_once_at_a_time(sensor: EmulatedPms5003) -> None:
    first = await _open(sensor.link)
    with pytest.raises(LinkLost, match="another program holds it"):
        await _open(sensor.link)
    await first.close()
    second = await _open(sensor.link)
    await second.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_open_leaves_nothing_open(sensor: EmulatedPms5003, turns: int) -> None:
    before = open_terminals()
    opening = asyncio.create_task(_open(sensor.link))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert open_terminals() == before


async def test_a_reader_that_is_late_costs_bounded_memory_and_no_bytes(sensor: EmulatedPms5003) -> None:
    line = await _open(sensor.link)
    taken, refusals = 0, 0
    async with asyncio.timeout(30):
        while refusals < 1000:
            count = sensor.send(bytes([taken % 251]) * 64)
            taken += count
            refusals = 0 if count else refusals + 1
            await asyncio.sleep(0)
    # The kernel holds some, too: 4 KiB for the line and about as much on the way to it.
    assert taken < HELD_BYTES + 64 * 1024
    assert len(await _read_exactly(line, taken)) == taken
    sensor.send(b"on it goes")
    assert await _read_exactly(line, 10) == b"on it goes"
    await line.close()
