"""`heal7-iot gateway scan` as a technician runs it: real bleak, real lines, nothing known beforehand."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device_drivers.simulator import bthome
from device_drivers.simulator.attached import Attached
from device_drivers.simulator.bluez import EmulatedBlueZ
from device_drivers.simulator.private_bus import private_bus
from device_drivers.simulator.serial_sensors import emulated
from device_drivers.simulator.terminal import EmulatedLine
from firmware_profiles.selection import ProfileSet
from gateway.config import load_config

PATIENCE_S = 60.0
PROFILES = ProfileSet.load()
CLIMATE, SEALED, NEIGHBOUR, PHONE = "A4:C1:38:00:00:01", "A4:C1:38:00:00:02", "C4:00:00:00:00:03", "4A:00:00:00:00:04"
KEY, OTHER_KEY = bytes(range(16)), bytes(16)


@dataclass(frozen=True, slots=True)
class Said:
    code: int | None
    out: str
    err: str

    @property
    def found(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def bus_directory() -> Iterator[Path]:
    """Short, since a socket's path is bounded."""
    with tempfile.TemporaryDirectory(prefix="bus-") as name:
        yield Path(name)


@asynccontextmanager
async def room(bus_directory: Path) -> AsyncIterator[None]:
    """Somebody's sensors and phones, heard by hci0."""
    async with private_bus(bus_directory) as address, EmulatedBlueZ(address) as bluez:
        sending = asyncio.create_task(_advertise(bluez))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.wait({sending})


async def _advertise(bluez: EmulatedBlueZ) -> None:
    climate = bluez.device(CLIMATE, "SBHT-003C")
    sealed, neighbour = bluez.device(SEALED), bluez.device(NEIGHBOUR)
    phone = bluez.device(PHONE, address_type="random")
    for n in range(1, 1_000_000):
        await climate.advertise({bthome.SERVICE: bthome.encode({"temperature": 21.5}, n % 256)}, rssi=-61)
        secret = bthome.encode_encrypted({"temperature": 20.0}, bindkey=KEY, address=SEALED, counter=n)
        await sealed.advertise({bthome.SERVICE: secret}, rssi=-70)
        await neighbour.advertise({0xFEAA: b"\x10\x00"}, rssi=-80)
        await phone.advertise({bthome.SERVICE: bthome.encode({"temperature": 36.6}, n % 256)}, rssi=-50)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def sensor(directory: Path, name: str) -> AsyncIterator[Path]:
    """The link of a line on which it speaks."""
    with EmulatedLine(directory, name, "0001") as line:
        speaking = asyncio.create_task(Attached(line, emulated(name, PROFILES)).run())
        try:
            yield line.link
        finally:
            speaking.cancel()
            await asyncio.wait({speaking})


async def scan(bus_directory: Path, *arguments: str, interrupt_after_s: float | None = None) -> Said:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "heal7_iot", "gateway", "scan", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus_directory / 'bus.sock'}", "COLUMNS": "200"},
    )
    async with asyncio.timeout(PATIENCE_S):
        if interrupt_after_s is not None:
            await asyncio.sleep(interrupt_after_s)
            process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    return Said(process.returncode, out.decode(), err.decode())


async def test_what_is_here_is_found_and_its_lines_make_a_configuration(bus_directory: Path, tmp_path: Path) -> None:
    async with room(bus_directory), sensor(tmp_path, "sds011") as link:
        said = await scan(bus_directory, "--adapter", "hci0", "--port", str(link), "--seconds", "2", "--json")
        shown = await scan(bus_directory, "--adapter", "hci0", "--port", str(link), "--seconds", "2")
    assert (said.code, said.err) == (0, "")
    (line,) = said.found["serial"]
    assert (line["kind"], line["baudrate"], line["port"]) == ("sds011", 9600, str(link))
    devices = {device["address"]: device for device in said.found["bluetooth"]}
    assert devices.keys() == {CLIMATE, SEALED, NEIGHBOUR, PHONE}
    climate = devices[CLIMATE]
    assert (climate["name"], climate["rssi"], climate["adapters"]) == ("SBHT-003C", -61, ["hci0"])
    assert (climate["decodable"], climate["values"]["temperature"]) == (True, 21.5)
    assert climate["profile"] == PROFILES.select("BTHome", "2").name  # type: ignore[union-attr]
    assert [devices[a]["decodable"] for a in (SEALED, NEIGHBOUR, PHONE)] == [False, False, False]
    assert "bindkey" in devices[SEALED]["says"]
    assert "address changes" in devices[PHONE]["says"]
    assert devices[PHONE]["config"] == devices[NEIGHBOUR]["config"] == ""

    # For a person: what nobody reads is counted only, and the lines can be pasted as they are but for the key.
    assert shown.code == 0
    assert "1 more devices are heard" in shown.out
    assert NEIGHBOUR not in shown.out
    pasted = shown.out[shown.out.index("[[driver]]") :].replace('bindkey = "…"', f'bindkey = "{KEY.hex()}"')
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nsite = "s"\nname = "g"\nstate_dir = "{tmp_path}"\n{pasted}')
    kinds = [options.kind for options in load_config(file).driver]  # type: ignore[attr-defined]
    assert kinds == ["sds011", "ble"]


async def test_what_is_configured_is_left_alone_and_its_key_tried(bus_directory: Path, tmp_path: Path) -> None:
    async with room(bus_directory), sensor(tmp_path, "sds011") as link:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'[gateway]\nsite = "s"\nname = "g"\nstate_dir = "{tmp_path}"\n'
            f'[[driver]]\nkind = "sds011"\ndevice = "dust"\nport = "{link}"\n'
            f'[[driver]]\nkind = "ble"\n[[driver.device]]\naddress = "{CLIMATE}"\ndevice = "hall"\n'
            f'[[driver.device]]\naddress = "{SEALED}"\ndevice = "safe"\nbindkey = "{OTHER_KEY.hex()}"\n'
        )
        wanted = ("--adapter", "hci0", "--port", str(link), "--seconds", "2", "--config", str(file))
        said = await scan(bus_directory, *wanted, "--json")
        shown = await scan(bus_directory, *wanted)
    assert (said.code, said.err) == (0, "")
    assert said.found["serial"] == [{"device": str(link), "configured": "sds011"}]
    devices = {device["address"]: device for device in said.found["bluetooth"]}
    assert (devices[CLIMATE]["configured"], devices[CLIMATE]["config"]) == ("hall", "")
    assert "bindkey of the configuration is wrong" in devices[SEALED]["says"]
    assert "configured as hall" in shown.out
    assert "[[driver]]" not in shown.out


async def test_what_only_answers_is_asked_where_wanted(bus_directory: Path, tmp_path: Path) -> None:
    async with sensor(tmp_path, "xy-md02") as link:
        wanted = ("--no-bluetooth", "--port", str(link), "--listen", "0.2", "--probe", "--units", "1-2")
        said = await scan(bus_directory, *wanted, "--json")
    assert (said.code, said.err) == (0, "")
    (line,) = said.found["serial"]
    assert (line["kind"], line["baudrate"], line["units"]) == ("modbus", 9600, [1])
    assert "unit = 1" in line["config"]


async def test_names_are_shown_as_they_are_whatever_they_are(bus_directory: Path) -> None:
    """Whoever walks by names a device: neither markup of ours nor an order to the terminal."""
    names = ["[/b]", "[bold]x", "\x1b[2Jx", "a\nb", "\u202egnp"]
    async with private_bus(bus_directory) as address, EmulatedBlueZ(address) as bluez:

        async def advertise() -> None:
            devices = [bluez.device(f"A4:C1:38:00:01:{n:02X}", name) for n, name in enumerate(names)]
            for n in range(1_000_000):
                for device in devices:
                    await device.advertise({bthome.SERVICE: bthome.encode({"temperature": 21.5}, n % 256)}, rssi=-61)
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(advertise())
        said = await scan(bus_directory, "--adapter", "hci0", "--watch", interrupt_after_s=4.0)
        sending.cancel()
        await asyncio.wait({sending})
    assert (said.code, said.err) == (0, "")
    for shown in ("[/b] ", "[bold]x ", "\ufffd[2Jx ", "a\ufffdb ", "\ufffdgnp "):
        assert shown in said.out


async def test_a_radio_that_cannot_be_used_is_named(bus_directory: Path) -> None:
    async with private_bus(bus_directory) as address, EmulatedBlueZ(address):
        said = await scan(bus_directory, "--adapter", "hci7", "--no-serial", "--seconds", "1")
    assert said.code == 1
    assert "hci7" in said.out
    assert "Traceback" not in said.out + said.err


async def test_a_watch_goes_on_until_it_is_interrupted(bus_directory: Path) -> None:
    async with room(bus_directory):
        said = await scan(bus_directory, "--adapter", "hci0", "--no-serial", "--watch", interrupt_after_s=5.0)
    assert (said.code, said.err) == (0, "")
    assert CLIMATE in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--adapter", "bluetooth"), "write a name such as hci0"),
        (("--port", "/dev/serial/nothing"), "there is no such serial line"),
        (("--probe", "--units", "0-300"), "write numbers from 1 to 247, such as 1-16,97"),
        (("--probe", "--units", "9-3"), "write numbers from 1 to 247, such as 1-16,97"),
        (("--config", "/nowhere/gateway.toml"), "/nowhere/gateway.toml"),
    ],
)
async def test_a_mistake_is_told_in_a_line(bus_directory: Path, arguments: tuple[str, ...], says: str) -> None:
    said = await scan(bus_directory, *arguments)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert "Traceback" not in said.err
