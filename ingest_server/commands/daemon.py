"""`heal7-iot ingest`: the server itself."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from firmware_profiles.errors import ProfileError
from gateway.daemon import run as run_daemon
from gateway.link.config_file import EXIT_CONFIG, ConfigError, load_toml
from ingest_server.app import serve
from ingest_server.commands.database_option import EXIT_FAILED, AsJson, show_json
from ingest_server.config import IngestConfig
from ingest_server.errors import OtherLedger, SchemaError, StorageError
from ingest_server.storage.connection import connect
from ingest_server.storage.schema.migrations import status

app = typer.Typer(no_args_is_help=True, help="The ingest server: from the broker to committed rows.")

Config = Annotated[Path, typer.Option("--config", help="Configuration file (TOML).", show_default=False)]


def _load(path: Path) -> IngestConfig:
    try:
        loaded = load_toml(path, IngestConfig)
        # Here, where it is one line; the server loads them again.
        loaded.profiles.load()
        return loaded
    except (ConfigError, ProfileError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIG) from error


@app.command()
def run(config: Config) -> None:
    """Run the server until SIGTERM; what was begun is finished and answered first.

    Example: heal7-iot ingest run --config /etc/heal7-iot/ingest.toml
    """
    loaded = _load(config)

    unfit: list[Exception] = []

    async def main(stop: asyncio.Event) -> None:
        try:
            await serve(loaded, stop)
        # Caught here: to `run_daemon` it would be an error that nobody foresaw, told by a traceback.
        except* (SchemaError, OtherLedger) as group:
            unfit.extend(group.exceptions)

    code = run_daemon(main, name="ingest server")
    if unfit:
        typer.echo(f"database: {_first(unfit[0])}", err=True)
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(code)


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


@app.command()
def check(config: Config, as_json: AsJson = False) -> None:
    """Say what `run` would do, and name every mistake in the file. Starts nothing, changes nothing.

    Example: heal7-iot ingest check --config /etc/heal7-iot/ingest.toml
    """
    loaded = _load(config)
    fault, missing = asyncio.run(_database(loaded))
    unreachable = asyncio.run(_broker(loaded))
    found = {
        "broker": f"{loaded.mqtt.host}:{loaded.mqtt.port}, {unreachable or 'answers'}",
        "root": loaded.mqtt.root,
        "share": loaded.ingest.share,
        "receive_maximum": loaded.ingest.receive_maximum,
        "raw_retention_days": loaded.books.raw_retention_days,
        "database": fault or ("ready" if not missing else f"lacks migrations {missing}: run `heal7-iot db migrate`"),
        "ok": fault is None and not missing and unreachable is None,
    }
    if as_json:
        show_json(found)
    else:
        for key, value in found.items():
            typer.echo(f"{key:20} {value}")
    if not found["ok"]:
        raise typer.Exit(EXIT_FAILED)


async def _broker(config: IngestConfig) -> str | None:
    """Why nothing takes connections there; None if something does."""
    try:
        async with asyncio.timeout(config.mqtt.connect_timeout_s):
            _, writer = await asyncio.open_connection(config.mqtt.host, config.mqtt.port)
            writer.close()
            await writer.wait_closed()
    except OSError as error:  # TimeoutError is one
        return str(error) or "no answer"
    return None


async def _database(config: IngestConfig) -> tuple[str | None, list[int]]:
    """What is wrong with reaching it, and which migrations it lacks."""
    try:
        connection = await connect(config.database.dsn.get_secret_value(), "check", 10)
        try:
            return None, [s.migration.version for s in await status(connection) if s.applied_at is None]
        finally:
            await connection.close()
    except StorageError as error:
        return str(error), []
