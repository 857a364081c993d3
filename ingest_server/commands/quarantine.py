"""`heal7-iot quarantine`: what could not be written."""

import time
from typing import Annotated

import typer

from firmware_profiles.selection import ProfileSet
from ingest_server.app import describe_from, wall_us
from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.quarantine import Replayed, describe, replay
from ingest_server.screening import AcceptedTime
from ingest_server.storage import quarantine
from ingest_server.storage.catalogue import Catalogue, CatalogueLimits
from ingest_server.storage.connection import Connection
from ingest_server.storage.partitions import NativePartitions
from ingest_server.storage.writer import Writer

app = typer.Typer(no_args_is_help=True, help="Batches and readings that could not be written, kept with their reason.")

_RETENTION_DAYS = 400
_MOST = 100_000

Reason = Annotated[str | None, typer.Option("--reason", help="Only entries with this reason.")]


@app.command("list")
def list_entries(
    dsn: Dsn,
    reason: Reason = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Show replayed entries, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first.

    Example: heal7-iot quarantine list --dsn 'dbname=heal7' --reason unknown_firmware
    """
    found = on_database(
        dsn, lambda c: quarantine.list_entries(c, reason=reason, waiting_only=not replayed, limit=limit)
    )
    if as_json:
        show_json(found)
    elif found:
        columns = ["id", "received", "gateway", "epoch", "seq", "reason", "detail", "readings"]
        show_table(
            "quarantine",
            columns,
            [
                (
                    e.quarantine_id,
                    e.received_at[:19],
                    e.gateway,
                    f"{e.epoch:016x}",
                    e.seq,
                    e.reason,
                    e.detail,
                    e.readings,
                )
                for e in found
            ],
        )
    else:
        typer.echo("nothing is in quarantine")


@app.command()
def show(
    quarantine_id: Annotated[int, typer.Argument(help="As `list` shows it.", show_default=False)],
    dsn: Dsn,
    as_json: AsJson = False,
) -> None:
    """Show one entry: its first bytes, and its content as far as it decodes.

    Example: heal7-iot quarantine show 17 --dsn 'dbname=heal7'
    """
    found = on_database(dsn, lambda c: quarantine.read_entry(c, quarantine_id))
    if found is None:
        typer.echo(f"no entry {quarantine_id} is in quarantine; see `heal7-iot quarantine list`", err=True)
        raise typer.Exit(EXIT_FAILED)
    entry, payload = found
    content = describe(entry, payload)
    if as_json:
        show_json({"entry": entry, "content": content})
        return
    for name in ("gateway", "reason", "detail", "readings", "received_at", "replayed_at"):
        typer.echo(f"{name:12} {getattr(entry, name)}")
    for key, value in content.items():
        if isinstance(value, list):
            typer.echo(f"{key}:")
            for item in value:
                typer.echo(f"  {item}")
        else:
            typer.echo(f"{key:12} {value}")


@app.command("replay")
def replay_entries(
    dsn: Dsn,
    ids: Annotated[list[int] | None, typer.Argument(help="Entries to try again; none: all that wait.")] = None,
    reason: Reason = None,
    retention_days: Annotated[int, typer.Option(min=1, help="As in the server's configuration.")] = _RETENTION_DAYS,
    as_json: AsJson = False,
) -> None:
    """Try entries again after a fix: what is sound now is committed, the rest stays. The books move with it.

    Example: heal7-iot quarantine replay --dsn 'dbname=heal7' --reason identity_conflict
    """
    results = on_database(dsn, lambda c: _replay(c, ids or [], reason, retention_days))
    if as_json:
        show_json(results)
        return
    for r in results:
        typer.echo(f"{r.quarantine_id}: {r.committed} committed, {r.left} left{f' ({r.why})' if r.why else ''}")
    typer.echo(f"{sum(r.committed for r in results)} readings committed, {sum(r.left for r in results)} left")


async def _replay(connection: Connection, ids: list[int], reason: str | None, retention_days: int) -> list[Replayed]:
    describe_profile = describe_from(ProfileSet.load())
    writer = Writer(connection, Catalogue(connection, CatalogueLimits(), describe_profile), NativePartitions())
    waiting = ids
    if not waiting:
        found = await quarantine.list_entries(connection, reason=reason, waiting_only=True, limit=_MOST)
        waiting = sorted(e.quarantine_id for e in found)
    accepted = AcceptedTime.at(wall_us(), retention_days)
    results = []
    for quarantine_id in waiting:
        entry = await quarantine.read_entry(connection, quarantine_id)
        if entry is None:
            results.append(Replayed(quarantine_id, 0, 0, "there is no such entry"))
        else:
            results.append(await replay(writer, *entry, accepted=accepted, now_s=time.monotonic()))
    return results
