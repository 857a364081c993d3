"""`heal7-iot simulate`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from pydantic import BaseModel

from gateway.config import BatchOptions, UplinkOptions
from gateway.link.broker import BrokerOptions
from gateway.link.config_file import EXIT_CONFIG, ConfigError, Table, read_toml, validated
from gateway.link.topics import NAME, is_gateway_name
from heal7_iot.simulate.plan import Late, Outage, Plan

_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)

_MOST_GATEWAYS = 9_999
_MOST_SENSORS = 500
"""What the server's `[books] new_devices_per_hour` lets one gateway bring by default."""


_RATE = 1.0
_BACKFILL_RATE = 1 / 60
_ONLY_LIVE = ("late", "outage", "together", "duration", "patience", "config", "host", "port", "root", "insecure")
_ONLY_BACKFILL = ("time_zone", "dsn")


def simulate(
    context: typer.Context,
    gateways: Annotated[int, typer.Option(min=1, max=_MOST_GATEWAYS, help="How many gateways.")] = 10,
    sensors: Annotated[int, typer.Option(min=1, max=_MOST_SENSORS, help="Sensors of each gateway.")] = 5,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=1000,
            help="Readings a second of each sensor; with --backfill of each of its five quantities.",
            show_default="1; with --backfill one a minute",
        ),
    ] = None,
    jitter: Annotated[
        float, typer.Option(min=0, max=0.49, help="How far a reading is off its time, in periods of its sensor.")
    ] = 0.1,
    late: Annotated[
        str | None,
        typer.Option(help="SHARE:SECONDS, such as 0.05:30: one reading of twenty comes 30 s after it was taken."),
    ] = None,
    outage: Annotated[
        str | None,
        typer.Option(help="EVERY/FOR, such as 300/20: every 300 s a gateway loses the broker for 20 s."),
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="All gateways have their outages at one time.")] = False,
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds of reading.", show_default="until Ctrl-C")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that what was read may take to be settled after that.")
    ] = 120.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other values, times and outages.")] = 7,
    site: Annotated[str, typer.Option(help="The site of all gateways; each of several fleets wants its own.")] = "sim",
    config: Annotated[
        Path | None,
        typer.Option(
            help="A gateway's or a server's configuration: its table mqtt says where the broker is, uplink and batch"
            " how a gateway behaves.",
            show_default="a broker on 127.0.0.1:1883",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The broker, instead of the configuration's.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.")] = None,
    root: Annotated[str | None, typer.Option(help="Root of the topics.", show_default="heal7/v1")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a broker beyond loopback, though there is no TLS yet.")
    ] = False,
    backfill: Annotated[
        float | None,
        typer.Option(help="DAYS of history up to now, written into the database itself; needs --dsn.", metavar="DAYS"),
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(envvar="HEAL7_IOT_DSN", help="With --backfill: the database.", show_default=False),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="With --backfill: that of a new site, such as Asia/Seoul.", show_default="UTC")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: progress, and at the end the outcome.")] = False,
) -> None:
    """Speak to a server as many gateways of many sensors, to see what it takes.

    Each gateway is a real one but for its sensors and its disk: it seals batches, waits for receipts, sends again.
    Gateways, devices and readings stay in the database of the server, under a site of their own: let it be one for
    tests. Exit code 0 means that all that was read is settled.

    With --backfill no gateway speaks: history is written as the server would have written it, of rooms with opening
    hours, weekends and visitors, with placements, books and rollups.

    Example: heal7-iot simulate --gateways 100 --rate 0.2 --duration 60
    """
    if not NAME.fullmatch(site) or not is_gateway_name(f"{site}/x"):
        _fail(f"--site: {site!r} is wrong: write 1 to 64 letters, digits, _ . or -, and not server")
    if backfill is not None:
        _refuse(context, _ONLY_LIVE, "has no meaning with --backfill, which speaks to no broker")
        # What a server needs is not installed where a fleet is simulated, and the other way round.
        from heal7_iot.simulate.backfill.command import fill

        raise typer.Exit(
            fill(
                dsn,
                backfill,
                time_zone,
                site=site,
                gateways=gateways,
                sensors=sensors,
                rate=_BACKFILL_RATE if rate is None else rate,
                jitter=jitter,
                seed=seed,
                as_json=as_json,
            )
        )
    _refuse(context, _ONLY_BACKFILL, "needs --backfill DAYS")
    from heal7_iot.simulate.simulation import Setup, run

    if together and outage is None:
        _fail("--together: there is no outage; say how often and how long with --outage EVERY/FOR")
    plan = Plan(
        gateways=gateways,
        sensors=sensors,
        rate=_RATE if rate is None else rate,
        jitter=jitter,
        late=_parsed("--late", late, Late.parse),
        outage=_parsed("--outage", outage, partial(Outage.parse, together=together)),
        duration_s=duration,
        patience_s=patience,
        seed=seed,
        site=site,
    )
    options = _options(config, host=host, port=port, root=root, insecure=insecure or None)
    raise typer.Exit(run(Setup(plan, *options), as_json))


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Ends where one of these options was given on the command line."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            _fail(f"--{name.replace('_', '-')}: {why}")


def _parsed(option: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        _fail(f"{option}: {error}")


def _options(config: Path | None, **given: object) -> tuple[BrokerOptions, BatchOptions, UplinkOptions]:
    try:
        tables = {} if config is None else read_toml(config)
    except ConfigError as error:
        _fail(str(error))
    said = {key: value for key, value in given.items() if value is not None}
    file = "" if config is None else f"{config}: "
    mqtt = tables.get("mqtt", {})
    return (
        _table(file, "mqtt", BrokerOptions, {**mqtt, **said} if isinstance(mqtt, dict) else mqtt),
        _table(file, "batch", BatchOptions, tables.get("batch", {})),
        _table(file, "uplink", UplinkOptions, tables.get("uplink", {})),
    )


def _table(file: str, name: str, model: type[_M], table: object) -> _M:
    content: Table = table if isinstance(table, dict) else {name: table}
    found = validated(content, model, (name,))
    if isinstance(found, list):
        # What a configuration says by a key, the command line says by an option.
        _fail("\n".join(f"{file}{mistake}".replace("insecure = true", "--insecure") for mistake in found))
    return found


def _fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    raise typer.Exit(EXIT_CONFIG)
