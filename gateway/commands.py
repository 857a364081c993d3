"""`heal7-iot gateway …`: run, check, trust, status. Exit codes: 0 well, 1 not well, 2 the configuration is wrong."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer

from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig
from gateway.health import HealthReport, read_report
from gateway.housekeeping import request_trust
from gateway.inspection import Findings, inspect
from gateway.link.config_file import EXIT_CONFIG, ConfigError
from gateway.loading import load_gateway

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/heal7-iot/gateway.toml")

app = typer.Typer(
    name="gateway",
    help="Reads sensors and keeps every batch until the database has it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Config = Annotated[Path, typer.Option("--config", help="The configuration file.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")]


@app.command(epilog="Example: heal7-iot gateway run --config /etc/heal7-iot/gateway.toml")
def run(config: Config = DEFAULT_CONFIG) -> None:
    """Run the daemon in the foreground, as systemd does. SIGTERM drains and stops it, SIGHUP reads the file again."""
    loaded, profiles = _load(config)
    # Not above: what checks a configuration or asks for the status needs neither broker nor database libraries.
    from gateway import daemon
    from gateway.app import CannotStart, Gateway

    failed = False

    async def main(stop: asyncio.Event) -> None:
        nonlocal failed
        try:
            await Gateway(loaded, profiles, load=lambda: load_gateway(config)).run(stop)
        except CannotStart as error:
            log.error("%s", error)
            failed = True

    code = daemon.run(main, name="heal7-iot gateway")
    raise typer.Exit(1 if failed else code)


@app.command(epilog="Example: heal7-iot gateway check --config /etc/heal7-iot/gateway.toml")
def check(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say what the daemon would do with this configuration on this machine, and everything that is wrong.

    Exit code 0: all is there. 1: something is missing, such as a port that is not plugged in. 2: mistakes in the file.
    """
    try:
        loaded, profiles = load_gateway(config)
    except ConfigError as error:
        if as_json:
            mistakes = [{"key": m.key, "wrong": m.wrong, "right": m.right} for m in error.mistakes]
            _print_json({"ok": False, "file": str(error.file), "mistakes": mistakes})
            raise typer.Exit(EXIT_CONFIG) from error
        _give_up(error)
    findings = inspect(loaded, profiles)
    if as_json:
        _print_json({"ok": not findings.warnings, "file": str(config), "mistakes": [], **findings.model_dump()})
    else:
        typer.echo(_described(findings))
    raise typer.Exit(1 if findings.warnings else 0)


@app.command(
    epilog="Example: heal7-iot gateway trust 0f8fad5b-d9cb-469f-a165-70867728950e --config /etc/heal7-iot/gateway.toml"
)
def trust(
    ledger_id: Annotated[str, typer.Argument(help="The id that the new database says, as the gateway's log names it.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Accept the receipts of another database than before, and send it all that the spool still holds.

    A daemon that runs takes it up within seconds; otherwise it counts from the next start.
    """
    loaded, _ = _load(config)
    try:
        # As the log names it: whoever mistypes it would have the gateway refuse the server's receipts from then on.
        ledger = str(UUID(ledger_id.strip()))
    except ValueError:
        _fail(f"{ledger_id!r:.80} is no ledger id: copy it from the gateway's log, which names it as a UUID")
    try:
        request_trust(loaded.gateway.state_dir, ledger)
    except OSError as error:
        _fail(f"{loaded.gateway.state_dir}: {error.strerror or error}; run this as the gateway's user, or as root")
    typer.echo(f"{loaded.identity} will trust ledger {ledger}: within seconds if it runs, else from its next start")


@app.command(epilog="Example: heal7-iot gateway status --config /etc/heal7-iot/gateway.toml --json")
def status(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Show what the daemon last said of itself. Exit code 1 where it does not run, or says nothing any more."""
    loaded, _ = _load(config)
    report = read_report(loaded)
    if report is None:
        if as_json:
            _print_json({"running": False})
        else:
            typer.echo(f"{loaded.identity} has not written a report: it does not run, or never did", err=True)
        raise typer.Exit(1)
    age_s = time.time() - report.written_at_s
    # It writes every `write_s`; a few missed ones are a busy machine, more are a daemon that is gone.
    running = not report.stopped and age_s < 3 * loaded.health.write_s + 5
    if as_json:
        _print_json({"running": running, "age_s": round(age_s, 1), **report.model_dump()})
    else:
        typer.echo(_told(report, age_s, running))
    raise typer.Exit(0 if running else 1)


@app.command(epilog="Example: heal7-iot gateway scan --seconds 20 --config /etc/heal7-iot/gateway.toml")
def scan(
    config: Annotated[
        Path | None, typer.Option(help="Of the gateway here: its lines are left alone, its bindkeys are tried.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long to listen to radios.")] = 15.0,
    adapter: Annotated[
        list[str] | None, typer.Option(help="A Bluetooth adapter, such as hci0; all that are here if left out.")
    ] = None,
    port: Annotated[
        list[str] | None, typer.Option(help="A serial line, such as /dev/ttyUSB0; all that are here if left out.")
    ] = None,
    serial: Annotated[bool, typer.Option("--serial/--no-serial", help="Whether to look at serial lines.")] = True,
    bluetooth: Annotated[bool, typer.Option("--bluetooth/--no-bluetooth", help="Whether to listen to radios.")] = True,
    # A PMS5003 whose values do not change sends every 2.3 s (data manual V2.3, appendix I).
    listen: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds of listening to a serial line at each speed.")
    ] = 3.0,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also ask on silent lines; what a question means to others nobody knows.")
    ] = False,
    units: Annotated[str, typer.Option(help="Modbus units that --probe asks for, such as 1-16,97.")] = "1-16",
    unknown: Annotated[bool, typer.Option("--all", help="Also Bluetooth devices that nobody here reads.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Live, until interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """Show what speaks on serial lines and what Bluetooth adapters hear, with the configuration to paste.

    It listens only, unless --probe asks. Exit code 1 where a Bluetooth adapter cannot be used.
    """
    # Not above: the daemon's commands need no radio library.
    from gateway.scan.running import run as run_scan
    from gateway.scan.scanning import wanted_of

    loaded, profiles = _load(config) if config is not None else (None, _packaged())
    try:
        wanted = wanted_of(
            adapter if bluetooth else (), port if serial else (), units if probe else None, listen_s=listen
        )
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIG) from error
    is_well = asyncio.run(
        run_scan(wanted, loaded, profiles, seconds=None if watch else seconds, unknown=unknown, as_json=as_json)
    )
    raise typer.Exit(0 if is_well else 1)


def _load(path: Path) -> tuple[GatewayConfig, ProfileSet]:
    try:
        return load_gateway(path)
    except ConfigError as error:
        _give_up(error)


def _packaged() -> ProfileSet:
    try:
        return ProfileSet.load()
    except ProfileError as error:
        typer.echo(f"firmware profile {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from error


def _give_up(error: ConfigError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(EXIT_CONFIG) from error


def _fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    raise typer.Exit(1)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def _described(found: Findings) -> str:
    lines = [
        f"gateway   {found.gateway}",
        f"broker    {found.broker} ({'answers' if found.broker_answers else 'DOES NOT ANSWER'})",
        f"spool     {found.spool}: at most {_size(found.spool_bound_bytes)}, disk has {_size(found.free_bytes)} free",
        f"clock     trusts the {found.clock_trust}",
    ]
    for driver in found.drivers:
        there = {True: "found", False: "NOT FOUND", None: ""}[driver.found]
        lines.append(f"driver    {driver.kind} on {driver.line}: {there}".rstrip(": "))
        for device in driver.devices:
            stated = "profile by the firmware that it states" if device.model else "profile by what it states"
            profile = device.profile or ("NO PROFILE" if device.raw_only else stated)
            named = " ".join(part for part in (device.model or "any model", device.firmware) if part)
            lines.append(f"  device  {device.device}: {named}, {profile}")
    lines += [f"warning   {warning}" for warning in found.warnings]
    return "\n".join(lines)


def _told(report: HealthReport, age_s: float, running: bool) -> str:
    lines = [
        f"gateway   {report.gateway}: {'runs' if running else 'DOES NOT RUN'}, said so {age_s:.0f} s ago",
        f"line      {report.line()}",
    ]
    if not report.spool.reserve:
        lines.append(f"disk      FULL: its last reserve is given up, {report.no_room} readings found no room")
    if report.thinning_age_s is not None:
        since = datetime.fromtimestamp(report.written_at_s - report.thinning_age_s, UTC)
        lines.append(f"spool     THINNING since {since:%Y-%m-%d %H:%M:%S} UTC: {100 * report.spool.fill:.0f} % full")
    told = {"dropped": report.spool.dropped, "unsealed": report.spool.unsealed_lost}
    lines += [f"{name:<10}{_counted(counts)}" for name, counts in told.items() if counts]
    for driver in report.drivers:
        age = "never" if driver.last_reading_age_s is None else f"{driver.last_reading_age_s:.0f} s before"
        load = "" if driver.line_load is None else f", line busy {100 * driver.line_load:.0f} %"
        lines.append(f"driver    {driver.name}: {driver.state}, last reading {age}, {driver.failures} failures{load}")
        if driver.last_error and driver.state != "reading":
            lines.append(f"          {driver.last_error}")
        if driver.faults:
            lines.append(f"          counted: {', '.join(f'{count} {kind}' for kind, count in driver.faults.items())}")
    # Of a sensor that is asked each minute most reports have no reading: its rate alone would look like a fault.
    lines += [
        f"  device  {device.device}: {device.readings:,} readings, the last {device.last_reading_age_s:.0f} s before, "
        f"{device.readings_per_s:g} readings/s"
        for device in report.devices
    ]
    return "\n".join(lines)


def _counted(readings: Mapping[str, int]) -> str:
    return ", ".join(f"{number} readings ({reason})" for reason, number in readings.items())


def _size(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
