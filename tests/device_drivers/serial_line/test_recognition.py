"""What speaks on an unknown line: heard whole, torn, in noise, at the wrong speed; and asked."""

import asyncio
import random
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from device_drivers import transport
from device_drivers.errors import LinkLost
from device_drivers.serial_line.port import SerialPort, UsbIdentity, adapter
from device_drivers.serial_line.recognition import LISTEN_RATES, MODBUS_RATES, PROBES, recognise, unit_probe
from device_drivers.serial_line.scan import ask, listen
from device_drivers.simulator.attached import Attached, Line
from device_drivers.simulator.serial_sensors import EMULATED, emulated
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

PROFILES = ProfileSet.load()
STREAMS = ["pms5003", "sds011", "ld2410", "ld2450", "climate-node"]


def heard(name: str, frames: int = 4, seed: int = 0) -> bytes:
    sensor = emulated(name, PROFILES, seed)
    return b"".join(sensor.sent(float(second)) for second in range(10, 10 + 2 * frames, 2))


@pytest.mark.parametrize("name", STREAMS)
def test_what_sends_by_itself_is_recognised(name: str) -> None:
    best, *_ = recognise(heard(name))
    assert best.kind == EMULATED[name].kind
    assert best.frames >= 3
    assert best.is_sure


@pytest.mark.parametrize("name", STREAMS)
def test_also_where_listening_began_and_ended_within_a_frame_and_in_noise(name: str) -> None:
    rng = random.Random(3)
    for _ in range(20):
        stream = rng.randbytes(7) + heard(name, 8)[rng.randrange(1, 9) : -rng.randrange(1, 9)]
        best, *_ = recognise(stream)
        assert (best.kind, best.is_sure) == (EMULATED[name].kind, True)


def test_a_few_frames_in_much_else_are_not_sure() -> None:
    """As where two programs share a line, or a wrong speed makes sense now and then."""
    best, *_ = recognise(bytes(200) + heard("sds011") + bytes(200))
    assert (best.kind, best.frames, best.is_sure) == ("sds011", 4, False)


def test_noise_is_nothing_for_sure() -> None:
    rng = random.Random(4)
    for _ in range(200):
        assert not [one for one in recognise(rng.randbytes(2000)) if one.is_sure]
    assert recognise(b"") == []
    # What a wrong speed makes of a line that is idle or breaks.
    assert not [one for one in recognise(bytes(500)) + recognise(b"\xff\x00\xfe" * 200) if one.is_sure]


@pytest.mark.parametrize(
    ("text", "layout", "fields"),
    [
        (b'{"temp":21.5,"air":{"hum":45},"ok":true,"note":"x"}', {"format": "json"}, ("temp", "air.hum", "ok")),
        # What no terminal and no file takes: an escape, and half of a surrogate pair.
        (rb'{"temp":21.5,"\u001b[2J":1,"\ud800":2}', {"format": "json"}, ("temp",)),
        (b"temp=21.5,hum=45", {"format": "key_value"}, ("temp", "hum")),
        (b"temp:21.5 hum:45", {"format": "key_value", "delimiter": " ", "assign": ":"}, ("temp", "hum")),
        (b"21.5;45;hall", {"format": "csv", "delimiter": ";"}, ("column1", "column2")),
    ],
)
def test_lines_are_recognised_with_what_is_in_them(
    text: bytes, layout: dict[str, str], fields: tuple[str, ...]
) -> None:
    best, *_ = recognise(b"the rest\r\n" + (text + b"\r\n") * 3)
    assert best.layout is not None
    assert {"format": best.layout.format} | {key: getattr(best.layout, key) for key in layout} == layout
    assert (best.kind, best.frames, best.fields, best.is_sure) == ("line", 3, fields, True)


def test_columns_have_the_names_that_were_heard() -> None:
    best, *_ = recognise(b"\nt_ms,temp,place\n1,21.5,hall\n2,21.6,hall\n")
    assert best.layout is not None
    assert best.layout.columns == ("t_ms", "temp", "place")
    assert best.fields == ("t_ms", "temp")


def test_what_no_profile_could_name_names_no_columns() -> None:
    best, *_ = recognise(b"\n" + b"x" * 129 + b",temp\n1,21.5\n2,21.6\n")
    assert best.fields == ("column1", "column2")


def test_messages_of_a_program_are_no_readings() -> None:
    assert recognise(b"\r\n" + b"ets Jul 29 2019 12:21:46\r\nrst:0x1 (POWERON_RESET)\r\nWiFi connected\r\n" * 3) == []


async def test_listening_says_nothing_and_ends_when_it_is_sure(line: Line) -> None:
    attached = Attached(line, emulated("sds011", PROFILES), now_s=iter(range(10_000)).__next__)
    listening = asyncio.create_task(listen(SerialPort.parse(line.port), 9600, 600.0, HandClock()))
    async with asyncio.timeout(20):
        while not listening.done():
            attached.send_due()
            await asyncio.sleep(0.01)
    assert (listening.result()[0].kind, listening.result()[0].is_sure) == ("sds011", True)
    assert attached.heard == []


async def test_a_silent_line_gives_nothing_in_time(line: Line) -> None:
    assert await listen(SerialPort.parse(line.port), 9600, 0.05, HandClock()) == []
    line.hang_up()
    with pytest.raises(LinkLost):
        await listen(SerialPort.parse(line.port), 9600, 0.05, HandClock())


@pytest.mark.parametrize("name", ["mhz19b", "sps30"])
async def test_a_sensor_that_is_asked_is_known_by_its_answer(line: Line, name: str) -> None:
    Attached(line, emulated(name, PROFILES), now_s=lambda: 0.0)
    port = SerialPort.parse(line.port)
    found = [
        probe.kind
        for baudrate in {probe.baudrate for probe in PROBES}
        for probe in await ask(port, baudrate, PROBES, 1.0, HandClock())
    ]
    assert found == [name]


async def test_units_of_a_modbus_line_are_known_by_any_answer(line: Line) -> None:
    """Neither has a holding register 0: both say so, and that they are there."""
    attached = Attached(line, emulated("xy-md02", PROFILES), emulated("scd30", PROFILES), now_s=lambda: 0.0)
    for sensor in attached.sensors:
        sensor.due_s(-60.0)
    probes = [unit_probe(unit, 9600) for unit in (1, 2, 3, 0x61)]
    found = await ask(SerialPort.parse(line.port), 9600, probes, 0.5, HandClock())
    assert [probe.unit for probe in found] == [1, 0x61]


def test_probes_change_nothing() -> None:
    """A reading, a version and a read of a register: none of these is a command or a write."""
    assert [probe.request.hex() for probe in PROBES] == ["ff0186000000000079", "7e00d1002e7e"]
    assert unit_probe(1, 9600).request.hex().startswith("010300000001")


def test_every_speed_at_which_something_is_known_to_speak_is_tried() -> None:
    assert {9600, 115_200, 256_000} <= set(LISTEN_RATES)
    assert {9600, 19_200} <= set(MODBUS_RATES)


def listed(device: Path, serial_number: str | None) -> ListPortInfo:
    info = ListPortInfo(str(device))
    info.vid, info.pid, info.serial_number, info.product = 0x0403, 0x6001, serial_number, "FT232R"
    return info


def test_an_adapter_is_named_by_what_stays_the_same(tmp_path: Path) -> None:
    by_id, by_path, device = tmp_path / "by-id", tmp_path / "by-path", tmp_path / "ttyUSB0"
    device.touch()
    for folder in (by_id, by_path):
        folder.mkdir()
    (by_path / "pci-1").symlink_to(device)
    assert adapter(listed(device, "A1"), by_id, by_path).port == str(by_path / "pci-1")
    (by_id / "usb-FTDI").symlink_to(device)
    (by_id / "usb-other").symlink_to(tmp_path / "ttyUSB1")
    found = adapter(listed(device, "A1"), by_id, by_path)
    assert (found.port, found.product, found.usb) == (
        str(by_id / "usb-FTDI"),
        "FT232R",
        UsbIdentity(0x0403, 0x6001, "A1"),
    )
    usb_only = adapter(listed(Path("/dev/ttyUSB7"), "A1"), tmp_path / "none", tmp_path / "none")
    assert usb_only.port == "0403:6001:A1"
    assert SerialPort.parse(str(usb_only.port)).address == usb_only.usb
    assert adapter(listed(Path("/dev/ttyUSB7"), None), tmp_path / "none", tmp_path / "none").port is None
    assert adapter(listed(Path("/dev/ttyAMA0"), None), tmp_path / "none", tmp_path / "none").port == "/dev/ttyAMA0"


def test_all_adapters_are_listed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [listed(Path(f"/dev/ttyUSB{n}"), f"S{n}") for n in (2, 0, 1)]
    monkeypatch.setattr(transport, "comports", lambda: devices)
    assert [found.device for found in transport.adapters()] == ["/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyUSB2"]
