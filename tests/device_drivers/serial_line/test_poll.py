"""Sensors that are asked, on emulated lines: what they answer, and what they do not."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import pytest

from device_drivers.driver import Driver
from device_drivers.errors import DeviceTimeout, LinkLost
from device_drivers.reading import Reading
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line import mhz19b, poll, shdlc, sps30
from device_drivers.serial_line.codec import Sample
from device_drivers.serial_line.codecs import FRAME_CODECS
from device_drivers.serial_line.exchange import Exchange
from device_drivers.serial_line.framing import FrameFinder
from device_drivers.serial_line.port import SerialPort
from device_drivers.simulator.attached import Attached, Line
from device_drivers.simulator.sensor import EmulatedSensor
from device_drivers.simulator.serial_models import MhZ19b, Sps30
from device_drivers.transport import open_line
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

MEASURED = tuple(float(n) for n in range(1, 11))


def mhz19b_sensor(ppm: float = 500) -> EmulatedSensor:
    return EmulatedSensor(MhZ19b(), lambda _: {"carbon_dioxide": ppm})


def sps30_sensor() -> EmulatedSensor:
    return EmulatedSensor(Sps30(), lambda _: dict(zip(sps30.CHANNELS, MEASURED, strict=True)))


class Seconds:
    """The sensor's own time, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def driver(kind: str, line: Line, **options: object) -> Driver:
    known = DRIVER_KINDS[kind]
    table = {"kind": kind, "device": "hall", "port": line.port, "interval_s": 0.5, "timeout_s": 5, **options}
    return known.open(known.options.model_validate(table), ProfileSet.load(), HandClock())


async def following(readings: AsyncIterator[Sequence[Reading]]) -> dict[str, Reading]:
    async with asyncio.timeout(10):
        return {reading.series.channel: reading for reading in await anext(readings)}


async def next_request(told: Attached) -> None:
    told.was_heard.clear()
    async with asyncio.timeout(10):
        await told.was_heard.wait()


# -- codecs


def test_published_frames() -> None:
    assert mhz19b.REQUEST.hex() == "ff0186000000000079"
    published = bytes.fromhex("ff8601f40000000085")
    assert mhz19b.encode(500) == published
    assert FrameFinder(mhz19b.REPLY).feed(published) == [published]
    assert shdlc.request(sps30.ADDRESS, sps30.START, b"\x01\x03").hex() == "7e0000020103f97e"
    assert shdlc.request(sps30.ADDRESS, sps30.READ).hex() == "7e000300fc7e"


@pytest.mark.parametrize("noise", [b"", b"\x7e", b"\x7e\x00", b"\x00\xff", shdlc.reply(0, sps30.START, 0)])
def test_a_reply_is_found_in_any_pieces_behind_noise(noise: bytes) -> None:
    reply = sps30.encode(*MEASURED)
    for cut in range(len(noise + reply)):
        finder, stream = shdlc.ReplyFinder(sps30.ADDRESS, sps30.READ), noise + reply
        assert finder.feed(stream[:cut]) + finder.feed(stream[cut:]) == [reply]
        assert finder.skipped_bytes == len(noise)


def test_what_shdlc_escapes_comes_out_as_it_was() -> None:
    every = bytes(range(256))[:255]
    reply = shdlc.reply(0, 3, 0, every)
    assert reply[1:-1].count(0x7E) == 0
    assert shdlc.parse(reply).data == every


def test_a_frame_that_was_kept_raw_is_read_as_it_is() -> None:
    sample = FRAME_CODECS["sps30"].read_whole(sps30.encode(*MEASURED))
    assert sample is not None
    assert tuple(sample.values.values()) == MEASURED
    assert FRAME_CODECS["mhz19b"].read_whole(mhz19b.encode(812)) == Sample({"carbon_dioxide": 812})
    for kind, frame in (("sps30", sps30.encode()), ("sps30", mhz19b.encode(1)), ("mhz19b", mhz19b.encode(1) * 2)):
        assert FRAME_CODECS[kind].read_whole(frame) is None


# -- drivers


async def test_mhz19b(line: Line) -> None:
    Attached(line, mhz19b_sensor(812))
    async with driver("mhz19b", line) as opened:
        found = await following(opened.readings())
    assert {channel: r.value for channel, r in found.items()} == {"carbon_dioxide": 812}
    assert found["carbon_dioxide"].series.quantity == "co2"


async def test_sps30_states_its_firmware_and_is_told_to_measure(line: Line) -> None:
    Attached(line, sps30_sensor())
    async with driver("sps30", line) as opened:
        found = await following(opened.readings())
    assert {c: r.value for c, r in found.items()} == {"pm1": 1, "pm2_5": 2, "pm4": 3, "pm10": 4, "typical_size": 10}
    assert found["pm1"].series.firmware == "2.2"


async def test_sps30_that_measures_already_and_has_nothing_new_is_asked_again(line: Line) -> None:
    sensor, seconds = sps30_sensor(), Seconds()
    told = Attached(line, sensor, now_s=seconds)
    async with driver("sps30", line) as opened:
        readings = opened.readings()
        await following(readings)
    async with driver("sps30", line) as opened:
        coming = asyncio.create_task(following(opened.readings()))
        for _ in range(4):  # its version, a start, and two questions
            await next_request(told)
        seconds.now_s = 1.0
        assert (await coming)["pm2_5"].value == 2
        assert opened.faults == {"unanswered": 0, "stray_bytes": 0, "bad_checksums": 0, "sensor_errors": 0}


async def test_sps30_that_lost_power_is_opened_again(line: Line) -> None:
    sensor = sps30_sensor()
    Attached(line, sensor)
    async with driver("sps30", line) as opened:
        readings = opened.readings()
        await following(readings)
        sensor.reboot(0.0)
        with pytest.raises(LinkLost, match="it does not measure: state 0x43"):
            await following(readings)
    async with driver("sps30", line) as opened:
        assert (await following(opened.readings()))["pm2_5"].value == 2


async def test_a_sensor_that_measures_nothing_is_opened_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "NOTHING_NEW", 2)
    Attached(line, sps30_sensor(), now_s=lambda: 0.0)
    async with driver("sps30", line) as opened:
        readings = opened.readings()
        await following(readings)
        with pytest.raises(LinkLost, match="has measured nothing 2 times in a row"):
            await following(readings)


async def test_an_unknown_firmware_is_kept_raw(line: Line) -> None:
    sensor = sps30_sensor()
    sensor.update("3.0", 0.0)
    Attached(line, sensor)
    async with driver("sps30", line) as opened:
        found = await following(opened.readings())
    assert found["raw"].frame == sps30.encode(*MEASURED)
    assert found["raw"].series.firmware == "3.0"


async def test_a_silent_sensor_loses_its_line_after_three_requests(line: Line) -> None:
    async with driver("mhz19b", line, timeout_s=0.1) as opened:
        with pytest.raises(LinkLost, match="3 requests in a row without a reply; is the sensor powered"):
            await following(opened.readings())
        assert opened.faults["unanswered"] == 3


async def test_a_line_that_is_gone_is_lost_whoever_notices(line: Line) -> None:
    """While it waits for an answer, and while it waits for the time of the next request."""
    told = Attached(line, mhz19b_sensor())
    async with driver("mhz19b", line) as opened:
        readings = opened.readings()
        await following(readings)
        line.hang_up()
        with pytest.raises(LinkLost):
            await following(readings)
    line.replug()
    told.sensors[0].faults.silent = True
    async with driver("mhz19b", line) as opened:
        coming = asyncio.create_task(following(opened.readings()))
        await next_request(told)
        line.hang_up()
        with pytest.raises(LinkLost):
            await coming


# -- the exchange


async def test_a_late_reply_is_not_taken_for_the_next(line: Line) -> None:
    """The first request is answered when the second is due: what comes then is the first one's."""
    answers = iter([b"", mhz19b.encode(2)])

    def answer(_heard: bytes) -> None:
        line.write(next(answers))

    line.serve(answer)
    opened = await open_line(SerialPort.parse(line.port), mhz19b.BAUDRATE, HandClock())
    try:
        exchange = Exchange(opened)
        with pytest.raises(DeviceTimeout):
            await exchange.ask(mhz19b.REQUEST, FrameFinder(mhz19b.REPLY), 0.1)
        line.write(mhz19b.encode(1))
        frame, _ = await exchange.ask(mhz19b.REQUEST, FrameFinder(mhz19b.REPLY), 5)
        assert struct.unpack_from(">H", frame, 2) == (2,)
        assert (exchange.unanswered, exchange.stray_bytes) == (1, 9)
        # Both waits and the settling between them; and nothing of what happened elsewhere.
        assert exchange.busy_s >= 0.2
        idle_s = exchange.busy_s
        await asyncio.sleep(0.05)
        assert exchange.busy_s == idle_s
    finally:
        await opened.close()
