"""`heal7-iot demo`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heal7_iot.demo.demonstration import Options, run
from heal7_iot.demo.line import Setup
from heal7_iot.embedded.broker import BrokerKind

_EXIT_USAGE = 2


class Broker(StrEnum):
    """`auto`: mosquitto where it is installed, else nats-server."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    NATS = "nats"


class Bus(StrEnum):
    """Where the emulated BlueZ is; `auto`: dbus-daemon where it is installed, else one in Python."""

    AUTO = "auto"
    DBUS_DAEMON = "dbus-daemon"
    PYTHON = "python"


_BROKERS: dict[Broker, BrokerKind | None] = {Broker.AUTO: None, Broker.MOSQUITTO: "mosquitto", Broker.NATS: "nats"}


def demo(
    duration: Annotated[
        float | None,
        typer.Option(min=1, help="End after so many seconds of measuring.", show_default="until Ctrl-C"),
    ] = None,
    day: Annotated[float, typer.Option(min=10, max=86_400, help="Seconds that a simulated day takes.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Another seed, other visitors and another weather.")] = 7,
    broker: Annotated[Broker, typer.Option(help="auto: mosquitto where it is installed, else nats-server.")] = (
        Broker.AUTO
    ),
    bus: Annotated[Bus, typer.Option(hidden=True)] = Bus.AUTO,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep configuration, logs, spool and database in this new directory.", show_default="nothing"
        ),
    ] = None,
) -> None:
    """Run the whole line on this machine: emulated sensors of a simulated center, gateway, broker, server, database.

    Three rooms with days and visitors. The sensors speak the real bytes, everything listens on loopback or unix
    sockets only, and nothing stays behind. The last line is one JSON object; exit code 0 means that the books of
    both ends balance.

    Example: heal7-iot demo --duration 20
    """
    if keep is not None and keep.exists():
        typer.echo(f"--keep {keep}: exists already; name a directory that does not", err=True)
        raise typer.Exit(_EXIT_USAGE)
    setup = Setup(seed, day, _BROKERS[broker], bus.value)
    raise typer.Exit(run(Options(setup, duration, keep)))
