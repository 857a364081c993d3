"""The walk of docs/adding-a-sensor.md: its commands and files as they stand there, against pymodbus's own server."""

import asyncio
import os
import re
import signal
import sys
import tomllib
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.link import wire
from ingest_server.decoder import Columns, open_body
from tests.contracts.sources import ROOT
from tests.gateway.ledger_server import LedgerServer, ledger_server
from tests.gateway.running import write_config
from tests.peers.mosquitto import Broker

SECTION = (
    (ROOT / "docs/adding-a-sensor.md").read_text().split("\n## A Modbus sensor in ten minutes\n")[1].split("\n## ")[0]
)
PROFILE, CONFIGURATION = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = [line.strip() for line in SECTION.splitlines() if re.match(r" {4}\S", line)]
PORT = tomllib.loads(CONFIGURATION)["driver"][0]["port"]
PATIENCE_S = 60.0


def test_the_document_shows_the_whole_walk() -> None:
    """Else the test below would walk another way than its reader."""
    assert [" ".join(command.split()[:3]) for command in COMMANDS] == [
        "heal7-iot profiles new",
        "heal7-iot profiles validate",
        "heal7-iot profiles show",
        "heal7-iot gateway check",
        "systemctl reload heal7-iot-gateway",
        "heal7-iot gateway status",
    ]


class Technician:
    """Types what the document says, at a machine that has its folders elsewhere."""

    def __init__(self, folder: Path, daemon: int) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self._program("heal7-iot", f'exec {sys.executable} -m heal7_iot "$@"')
        self._program("systemctl", f'test "$*" = "reload heal7-iot-gateway" && kill -HUP {daemon}')

    def _program(self, name: str, does: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (self.programs / name).chmod(0o755)

    def here(self, text: str) -> str:
        """What the document says, with this machine's folders."""
        return text.replace("/etc/heal7-iot", str(self.folder)).replace(PORT, str(self.folder / "adapter"))

    async def types(self, command: str) -> tuple[int, str]:
        """(exit code, all that was said)."""
        process = await asyncio.create_subprocess_shell(
            self.here(command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"PATH": f"{self.programs}:{os.environ['PATH']}"},
        )
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode is not None
        return process.returncode, said.decode()


@asynccontextmanager
async def sensor(adapter: Path) -> AsyncIterator[None]:
    """An Acme TH-100 of pymodbus's making behind the link `adapter`: 21.5 °C, 48.7 %."""
    # Between two pseudo-terminals, since pymodbus's server opens a port as the gateway does.
    (near, gateways), (far, servers) = os.openpty(), os.openpty()
    for terminal in (gateways, servers):
        tty.setraw(terminal)
    adapter.symlink_to(os.ttyname(gateways))
    loop = asyncio.get_running_loop()
    loop.add_reader(near, lambda: os.write(far, os.read(near, 4096)))
    loop.add_reader(far, lambda: os.write(near, os.read(far, 4096)))
    unit = SimDevice(5, simdata=[SimData(0, values=[215, 487], datatype=DataType.REGISTERS)])
    server = ModbusSerialServer(unit, framer=FramerType.RTU, port=os.ttyname(servers), baudrate=9600)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
        for end in (near, far):
            loop.remove_reader(end)
        for end in (near, gateways, far, servers):
            os.close(end)


@asynccontextmanager
async def daemon(config: Path, log: Path) -> AsyncIterator[int]:
    """A gateway that runs; yields its process id."""
    with log.open("wb") as to:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heal7_iot", "gateway", "run", "--config", str(config), stderr=to
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0, log.read_text()


def told(server: LedgerServer) -> set[tuple[str, str, str, float]]:
    """(device, quantity, unit, value) of every reading that came."""
    found = set()
    for batch in server.batches:
        columns = open_body(batch)
        if isinstance(columns, Columns):
            series = wire.decode_series(columns.table)
            rows = zip(columns.series, columns.values, strict=True)
            found |= {
                (series[n].device, series[n].quantity, series[n].unit, round(float(value), 6)) for n, value in rows
            }
    return found


async def test_the_walk(mosquitto: Broker, tmp_path: Path) -> None:
    begin, validate, show, check, reload, status = COMMANDS
    config = write_config(tmp_path, mosquitto.port, devices=())
    async with (
        sensor(tmp_path / "adapter"),
        ledger_server(mosquitto.port) as server,
        daemon(config, tmp_path / "log") as running,
    ):
        await server.until(lambda: bool(server.online()))
        technician = Technician(tmp_path, running)
        file = tmp_path / "profiles/acme/th-100.toml"

        assert await technician.types(begin) == (
            0,
            f'wrote {file}: fill in every "", then say: heal7-iot profiles validate {file}\n',
        )
        begun = tomllib.loads(file.read_text())
        code, said = await technician.types(validate)
        assert code == 2
        assert f'{file}: channels.temperature.unit: "" is no unit: write a UCUM code' in said
        # Whoever fills in keeps what stands there.
        profile = tomllib.loads(PROFILE)
        assert {key: profile[key] for key in begun if isinstance(begun[key], str | list)} == {
            key: value for key, value in begun.items() if isinstance(value, str | list)
        }
        file.write_text(PROFILE)
        assert await technician.types(validate) == (0, f"{file}: acme-th-100/1 is right\n")
        code, said = await technician.types(show)
        assert code == 0
        assert re.search(
            r"^temperature +holding 0 int16 +temperature +°C +-20 to 60 +0.1 +manual +±0.4 °C$", said, re.MULTILINE
        )

        config.write_text(config.read_text() + technician.here(CONFIGURATION))
        code, said = await technician.types(check)
        assert code == 0, said
        assert "server-room: TH-100, acme-th-100/1" in said
        hasty = tmp_path / "hasty.toml"
        hasty.write_text(config.read_text().replace("interval_s = 10", "interval_s = 1"))
        code, said = await technician.types(check.replace("gateway.toml", "hasty.toml"))
        assert code == 2
        assert "driver[0].device[0].interval_s: 1 is more often than profile acme-th-100/1 allows" in said

        assert await technician.types(reload) == (0, "")
        await server.until(lambda: len(told(server)) == 2)
        assert told(server) == {
            ("server-room", "temperature", "°C", 21.5),
            ("server-room", "humidity", "%", 48.7),
        }
        code, said = await technician.types(status)
        assert code == 0
        assert "device  server-room" in said
