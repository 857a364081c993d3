"""`heal7-iot quarantine`: what could not be written."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from gateway.link.config_file import EXIT_CONFIG, ConfigError, load_toml
from ingest_server.app import catalogue_limits, describe_from, wall_us
from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.config import BooksOptions, IngestConfig
from ingest_server.hexdump import hexdump
from ingest_server.quarantine import Replayed, describe, replay, times_us
from ingest_server.raw_frames import decode_by
from ingest_server.screening import AcceptedTime, date
from ingest_server.storage.connection import Connection
from ingest_server.storage.line.catalogue import Catalogue
from ingest_server.storage.line.writer import Writer, partitions_of
from ingest_server.storage.quarantine import entries
from ingest_server.storage.quarantine.entries import Filter, Quarantined
from ingest_server.storage.queries.history import raw_horizon

app = typer.Typer(no_args_is_help=True, help="Batches and readings that could not be written, kept with their reason.")

_MOST = 100_000
_SHOWN_BYTES = 1_024
_NO_ENTRY = "there is no such entry"
_TOLD = 20
# Entries that stayed after a replay, told one by one; of more, only how many for each reason.

Reason = Annotated[str | None, typer.Option("--reason", help="Only entries with this reason.")]
Gateway = Annotated[str | None, typer.Option("--gateway", help="Only entries of this <site>/<gateway>.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Entries, as `list` shows them; none: all that wait.")]
Named = Annotated[list[int] | None, typer.Argument(help="Entries, as `list` shows them.")]


@app.command("list")
def list_entries(
    dsn: Dsn,
    reason: Reason = None,
    gateway: Gateway = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Show replayed entries, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first: why, and where from.

    Example: heal7-iot quarantine list --dsn 'dbname=heal7' --reason unknown_firmware
    """
    chosen = Filter(reason, gateway)
    found = on_database(dsn, lambda c: entries.list_entries(c, chosen, waiting_only=not replayed, limit=limit))
    if as_json:
        show_json([_plain(e) for e in found])
    elif found:
        columns = ["id", "received", "gateway", "epoch", "seq", "instance", "reason", "detail", "readings", "bytes"]
        rows = [
            (
                e.quarantine_id,
                e.received_at[:19],
                e.gateway,
                f"{e.epoch:016x}",
                e.seq,
                _hex(e.instance),
                e.reason,
                e.detail,
                e.readings,
                e.bytes,
            )
            for e in found
        ]
        show_table("quarantine", columns, rows)
    elif chosen == Filter():
        typer.echo("nothing is in quarantine")
    else:
        typer.echo("nothing in quarantine has that reason and gateway; see `heal7-iot quarantine summary`")


@app.command()
def summary(dsn: Dsn, as_json: AsJson = False) -> None:
    """Count entries and readings for each reason: what waits, and what was replayed.

    Example: heal7-iot quarantine summary --dsn 'dbname=heal7'
    """
    found = on_database(dsn, entries.totals)
    if as_json:
        show_json(found)
    elif found:
        columns = ["reason", "entries", "readings", "bytes", "gateways", "oldest", "replayed", "their readings"]
        rows = [
            (
                t.reason,
                t.entries,
                t.readings,
                t.bytes,
                t.gateways,
                None if t.oldest is None else t.oldest[:19],
                t.replayed_entries,
                t.replayed_readings,
            )
            for t in found
        ]
        show_table("quarantine, by reason", columns, rows)
    else:
        typer.echo("nothing is in quarantine")


@app.command()
def show(
    quarantine_id: Annotated[int, typer.Argument(help="As `list` shows it.", show_default=False)],
    dsn: Dsn,
    whole: Annotated[bool, typer.Option("--all", help=f"All bytes, not the first {_SHOWN_BYTES:,}.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one entry: where it is from, its content as far as it decodes, its bytes.

    Example: heal7-iot quarantine show 17 --dsn 'dbname=heal7'
    """
    found = on_database(dsn, lambda c: entries.read_entry(c, quarantine_id))
    if found is None:
        typer.echo(f"no entry {quarantine_id} is in quarantine; see `heal7-iot quarantine list`", err=True)
        raise typer.Exit(EXIT_FAILED)
    entry, payload = found
    content = describe(entry, payload)
    if as_json:
        shown = payload if whole else payload[:_SHOWN_BYTES]
        show_json({"entry": _plain(entry), "content": {**content, "hex": shown.hex(" ")}})
        return
    for name in ("gateway", "reason", "detail", "readings", "released", "received_at", "replayed_at"):
        _field(name, getattr(entry, name))
    for key, value in content.items():
        if key == "readings":
            _show_readings(value)
        else:
            _field(key, value)
    shown = payload if whole else payload[:_SHOWN_BYTES]
    for line in hexdump(shown):
        typer.echo(line)
    if len(shown) < len(payload):
        typer.echo(f"… {len(payload) - len(shown):,} bytes more: --all")


@app.command("replay")
def replay_entries(
    ids: Ids = None,
    dsn: Annotated[str | None, typer.Option("--dsn", envvar="HEAL7_IOT_DSN", help="Database.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The server's file: its database, its limits.")
    ] = None,
    reason: Reason = None,
    gateway: Gateway = None,
    retention_days: Annotated[int | None, typer.Option(min=1, help="Instead of `books.raw_retention_days`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try entries again after a fix: what is sound now is committed, the rest stays. The books move with it.

    What an erasure forbids is dropped.

    It is judged by the limits under `books` in the file that --config names, or by their defaults, and decoded by the
    firmware profiles of the package and those of the `profiles.directory` there.

    Example: heal7-iot quarantine replay --dsn 'dbname=heal7' --reason identity_conflict
    """
    books, profiles = BooksOptions(), ProfileSet.load()
    if config is not None:
        try:
            loaded = load_toml(config, IngestConfig)
            profiles = loaded.profiles.load()
        except (ConfigError, ProfileError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(EXIT_CONFIG) from error
        books, dsn = loaded.books, dsn or loaded.database.dsn.get_secret_value()
    if dsn is None:
        typer.echo("which database? Give --dsn, HEAL7_IOT_DSN or --config", err=True)
        raise typer.Exit(EXIT_CONFIG)
    days = retention_days or books.raw_retention_days
    work = _Replay(Filter(reason, gateway), ids or [], books, days, profiles, not as_json)
    results = on_database(dsn, work.run)
    if as_json:
        show_json(results)
    else:
        _tell(results, each=bool(ids))
    _end(r.quarantine_id for r in results if r.why == _NO_ENTRY)


@app.command("discard")
def discard_entries(
    dsn: Dsn,
    ids: Named = None,
    reason: Reason = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Give entries up: their readings count as dropped from now on, and a gap `discarded` says so.

    Needs entries, a reason or a gateway.

    Example: heal7-iot quarantine discard --dsn 'dbname=heal7' --reason value_not_finite
    """
    if not ids and reason is None and gateway is None:
        typer.echo("what shall be given up? Name entries, --reason or --gateway", err=True)
        raise typer.Exit(EXIT_CONFIG)
    given_up = on_database(dsn, lambda c: _discard(c, Filter(reason, gateway), ids or []))
    if as_json:
        show_json({"entries": len(given_up), "readings": sum(given_up.values())})
    else:
        typer.echo(f"given up: {_many(len(given_up), 'entry', 'entries')} with {_readings(sum(given_up.values()))}")
    _end(quarantine_id for quarantine_id in ids or () if quarantine_id not in given_up)


@dataclass(frozen=True, slots=True)
class _Replay:
    """One run of the command."""

    chosen: Filter
    ids: list[int]
    books: BooksOptions
    retention_days: int
    profiles: ProfileSet
    show_progress: bool

    async def run(self, connection: Connection) -> list[Replayed]:
        profiles = self.profiles
        catalogue = Catalogue(connection, catalogue_limits(self.books), describe_from(profiles), decode_by(profiles))
        writer = Writer(connection, catalogue, await partitions_of(connection))
        horizon = await raw_horizon(connection)
        horizon_us = 0 if horizon is None else int(horizon.timestamp()) * 1_000_000
        accepted = AcceptedTime.at(wall_us(), self.retention_days, horizon_us)
        waiting = len(self.ids) or await entries.count_waiting(connection, self.chosen)
        results: list[Replayed] = []
        with self._progress() as bar:
            task = bar.add_task("replaying", total=waiting)
            async for quarantine_id in _chosen(connection, self.chosen, self.ids):
                found = await entries.read_entry(connection, quarantine_id)
                if found is None:
                    results.append(Replayed(quarantine_id, 0, 0, _NO_ENTRY))
                else:
                    now_s = time.monotonic()
                    results.append(await replay(writer, *found, accepted=accepted, profiles=self.profiles, now_s=now_s))
                bar.advance(task)
        return results

    def _progress(self) -> Progress:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(
            *columns, console=console, transient=True, disable=not (self.show_progress and console.is_terminal)
        )


async def _discard(connection: Connection, chosen: Filter, ids: list[int]) -> dict[int, int]:
    """The readings of each entry that was given up."""
    given_up = {}
    async for quarantine_id in _chosen(connection, chosen, ids):
        found = await entries.read_entry(connection, quarantine_id)
        if found is not None and await entries.discard(connection, found[0], times_us(*found)):
            given_up[quarantine_id] = found[0].readings
    return given_up


async def _chosen(connection: Connection, chosen: Filter, ids: list[int]) -> AsyncIterator[int]:
    """The named entries, or those that wait and are chosen."""
    if ids:
        for quarantine_id in ids:
            yield quarantine_id
    else:
        async for quarantine_id in entries.waiting_ids(connection, chosen):
            yield quarantine_id


def _tell(results: Sequence[Replayed], *, each: bool) -> None:
    """Every entry that was named; of all others those that stay, and of many only why."""
    results = [r for r in results if r.why != _NO_ENTRY]
    told = results if each else [r for r in results if r.why]
    for r in told[:_TOLD] if not each else told:
        more = (f", {r.gaps} gaps settled" if r.gaps else "") + (f", {r.erased} dropped as erased" if r.erased else "")
        typer.echo(f"{r.quarantine_id}: {r.committed} committed, {r.left} left{more}{f' ({r.why})' if r.why else ''}")
    if not each and len(told) > _TOLD:
        for why, entries in Counter(r.why for r in told[_TOLD:]).most_common(_TOLD):
            typer.echo(f"{entries:,} more: {why}")
    committed, left, erased = (sum(getattr(r, part) for r in results) for part in ("committed", "left", "erased"))
    more = f", {erased:,} dropped as erased" if erased else ""
    typer.echo(f"{_readings(committed)} committed, {left:,} left{more}, in {_many(len(results), 'entry', 'entries')}")


def _end(missing: Iterable[int]) -> None:
    """Says which of the named entries do not wait; exit 1 then."""
    numbers = ", ".join(map(str, missing))
    if numbers:
        typer.echo(f"not waiting in quarantine: {numbers}; see `heal7-iot quarantine list`", err=True)
        raise typer.Exit(EXIT_FAILED)


def _readings(number: int) -> str:
    return _many(number, "reading", "readings")


def _many(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _plain(entry: Quarantined) -> dict[str, object]:
    # As on the link: numbers that JSON readers would round are hex digits.
    return asdict(entry) | {"epoch": f"{entry.epoch:016x}", "instance": _hex(entry.instance)}


def _hex(number: int | None) -> str | None:
    return None if number is None else f"{number:016x}"


def _show_readings(readings: object) -> None:
    """A line each, with the time as a date; its frame, if it has one, below."""
    assert isinstance(readings, list)
    typer.echo("readings:")
    for r in readings:
        at, unit = date(r["recorded_at_us"]), f" {r['unit']}" if r["unit"] else ""
        typer.echo(f"  {r['index']:5}  {at}  {r['device']} {r['channel']} = {r['value']}{unit} ({r['firmware']})")
        if r["frame"] is not None:
            typer.echo(f"         frame {r['frame']}")


def _field(name: str, value: object, indent: str = "") -> None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    if isinstance(value, dict):
        typer.echo(f"{indent}{name}:")
        for key, item in value.items():
            _field(key, item, f"{indent}  ")
    elif isinstance(value, list):
        for n, item in enumerate(value):
            _field(f"{name} {n}", item, indent)
    else:
        typer.echo(f"{indent}{name:14} {'' if value is None else value}")
