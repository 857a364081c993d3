"""The command line: composes what the packages bring, each loaded only when it is called.

An edge device has no database driver and a server has no radio: a missing extra is named, not a traceback.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

EXIT_MISSING_EXTRA = 3


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives and the extra that brings what it imports.

    of_option: an option with which it imports what another extra brings, and that extra.
    """

    module: str
    attribute: str
    extra: str
    help: str
    of_option: tuple[str, str] | None = None


COMMANDS = {
    "gateway": Command("gateway.commands", "app", "gateway", "The edge daemon: run, check, scan, status, trust."),
    "profiles": Command(
        "heal7_iot.profiles.command", "app", "gateway", "What is known of sensors: list, show, validate, new."
    ),
    "ingest": Command("ingest_server.commands.daemon", "app", "ingest", "The ingest server: run, check."),
    "db": Command(
        "ingest_server.commands.schema", "app", "ingest", "The schema: migrate, status, check, backup, restore, verify."
    ),
    "jobs": Command("ingest_server.commands.jobs", "app", "ingest", "What the server does by the clock: list, run."),
    "gateways": Command(
        "ingest_server.commands.fleet", "gateways", "ingest", "Gateways in the database: list, resolve."
    ),
    "devices": Command("ingest_server.commands.devices", "app", "ingest", "Devices: list, place, replace."),
    "sites": Command("ingest_server.commands.places", "sites", "ingest", "Sites and their time zones: list, set."),
    "zones": Command("ingest_server.commands.places", "zones", "ingest", "Zones of sites: list."),
    "erase": Command("ingest_server.commands.erase", "app", "ingest", "Erase readings: run, list, resume, enforce."),
    "calibrations": Command(
        "ingest_server.commands.calibrations", "app", "ingest", "Calibrate channels, with dates: add, list, remove."
    ),
    "redecode": Command(
        "ingest_server.commands.redecode", "redecode", "ingest", "Correct what a wrong firmware profile has decoded."
    ),
    "corrections": Command(
        "ingest_server.commands.corrections", "app", "ingest", "Calibrations and decoders: list, withdraw, resume."
    ),
    "audit": Command("ingest_server.commands.books", "audit", "ingest", "Account for every reading; exit 1 if not."),
    "quarantine": Command(
        "ingest_server.commands.quarantine",
        "app",
        "ingest",
        "What could not be written: summary, list, show, replay, discard.",
    ),
    "demo": Command(
        "heal7_iot.demo.command", "demo", "demo", "The whole line on this machine, with a simulated center."
    ),
    "simulate": Command(
        "heal7_iot.simulate.command",
        "simulate",
        "gateway",
        "A fleet of gateways, to size a server or to test it; or history for a database.",
        ("--backfill", "ingest"),
    ),
    "history": Command(
        "ingest_server.commands.history",
        "app",
        "ingest",
        "What was measured: latest, raw, hours, days, zone.",
    ),
}
_OURS = frozenset({"gateway", "ingest_server", "heal7_iot", "device_drivers", "firmware_profiles"})


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heal7-iot {importlib.metadata.version('heal7-iot')}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Sensor readings from the bytes of a line to committed rows; every one accounted for.

    Example: heal7-iot gateway check --config /etc/heal7-iot/gateway.toml
    """


def build(chosen: str | None) -> typer.Typer:
    """The application, with the chosen command loaded and the others named only."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_top)
    for name, command in COMMANDS.items():
        found = _load(command) if name == chosen else _unloaded
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=command.help)
        else:
            app.command(name, help=None if name == chosen else command.help)(found)
    return app


def _unloaded() -> None:
    """Stands for a command that was not called, so that it shows in the help."""


def _load(command: Command) -> Any:
    return getattr(importlib.import_module(command.module), command.attribute)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point `heal7-iot`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((a for a in given if not a.startswith("-")), None)
    try:
        build(chosen)(args=given)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in _OURS or chosen not in COMMANDS:
            raise  # a part of ours that is missing is a broken installation, not a missing extra
        words, extra = _needing(chosen, given)
        typer.echo(
            f"`heal7-iot {words}` needs {missing}, which is not installed here: pip install 'heal7-iot[{extra}]'",
            err=True,
        )
        sys.exit(EXIT_MISSING_EXTRA)


def _needing(chosen: str, given: Sequence[str]) -> tuple[str, str]:
    """What of the command line needs an extra, and which."""
    command = COMMANDS[chosen]
    if command.of_option is not None:
        option, extra = command.of_option
        if any(argument.split("=")[0] == option for argument in given):
            return f"{chosen} {option}", extra
    return chosen, command.extra
