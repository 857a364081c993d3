"""`heal7-iot db backup|restore|verify`: a copy of everything, and the proof that it is one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.link.config_file import EXIT_CONFIG
from ingest_server.commands.database_option import (
    EXIT_FAILED,
    EXIT_NOT_WRITTEN,
    AsJson,
    Dsn,
    on_database,
    show_json,
)
from ingest_server.errors import StorageError
from ingest_server.storage.backup.dumping import dump
from ingest_server.storage.backup.errors import BackupError, NotABackup, NotWritten
from ingest_server.storage.backup.folder import newest
from ingest_server.storage.backup.loading import Backup, Restored, Rules, check_files, open_backup
from ingest_server.storage.backup.loading import restore as load
from ingest_server.storage.backup.verifying import Verified, verify_backup
from ingest_server.storage.connection import Connection, dsn_fault
from ingest_server.storage.erasure import journal as erasure_journal
from ingest_server.storage.flavour import Wanted

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A backup, or a folder of backups: its newest.", show_default=False)
]


def backup(
    dsn: Dsn,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where backups are kept.", show_default=False)],
    with_archive: Annotated[bool, typer.Option("--with-archive", help="Also months in the schema archive.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a backup of everything that cannot be computed again, from one snapshot, into a new folder below DIR.

    Writers go on meanwhile. It holds readings: keep it as private as the database.

    Example: heal7-iot db backup --dsn 'dbname=heal7' --to /var/backups/heal7-iot
    """
    _require_dsn(dsn)
    with _told(), _Bar() as bar:
        done = dump(dsn, to, bar, with_archive=with_archive)
    for name in done.left_behind.removed:
        typer.echo(f"removed what an interrupted backup had left: {name}", err=True)
    for name in done.left_behind.in_use:
        typer.echo(f"another backup is being written: {name}", err=True)
    made = done.manifest
    if made.erasures:
        typer.echo(
            f"erasures in force: {made.erasures}. Older backups still hold what they removed: let these expire, or"
            " restore them with --erasures",
            err=True,
        )
    if as_json:
        show_json(
            {
                "backup": str(done.path),
                "readings": made.readings,
                "bytes": made.size,
                "files": len(made.files),
                "left_out": made.left_out,
            }
        )
        return
    typer.echo(f"{done.path}: {made.readings:,} readings, {made.size:,} bytes in {len(made.files)} files")
    for left in made.left_out:
        typer.echo(f"left out: {left}")


def restore(
    folder: Folder,
    dsn: Dsn,
    flavour: Annotated[Wanted, typer.Option(help="Of the schema that is made.")] = Wanted.AUTO,
    erasures: Annotated[
        Path | None, typer.Option("--erasures", metavar="JOURNAL", help="Erasures that the backup may not know.")
    ] = None,
    as_copy: Annotated[
        bool, typer.Option("--as-copy", help="Under a ledger of its own, which no gateway trusts: for staging.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load a backup into a database without the schema iot_service, or with an empty one: all of it, or nothing.

    Gateways go on as if nothing had been, and send again what the backup lacks. Every checksum is compared first.

    Example: heal7-iot db restore /var/backups/heal7-iot --dsn 'dbname=heal7' --erasures erasures.jsonl
    """
    _require_dsn(dsn)
    with _told():
        chosen = open_backup(_chosen(folder))
        rules = _rules(erasures)
        with _Bar() as bar:
            faults = asyncio.run(check_files(chosen, bar))
            _require_sound(faults)
            done = on_database(
                dsn, lambda connection: _load(connection, chosen, bar, flavour, rules, as_copy), current=False
            )
    _warn(chosen, done, erasures)
    if as_json:
        show_json({"backup": str(chosen.path), **_plain(done)})
        return
    copied = ", a copy under a ledger of its own" if as_copy else ""
    typer.echo(f"{chosen.path}: {done.readings:,} readings, {done.rows:,} rows in all; ledger {done.ledger_id}{copied}")
    if done.erasures:
        typer.echo(f"{done.erasures} erasures brought into force, {done.erased:,} readings removed")
    typer.echo("rollups follow with the server's next refreshes")


def verify(
    folder: Folder,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", help="A server to restore into: a database is made beside this one, and dropped again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove a backup; exit 1 where anything differs. Without --dsn only its checksums are compared.

    With it, it is restored; rows of each table, each gateway's books and a sample of hours are compared. That needs a
    role with CREATEDB, and room for a second copy.

    Example: heal7-iot db verify /var/backups/heal7-iot --dsn 'host=/run/postgresql dbname=postgres'
    """
    if dsn is not None:
        _require_dsn(dsn)
    with _told(), _Bar() as bar:
        done = asyncio.run(verify_backup(_chosen(folder), dsn, bar))
    if as_json:
        show_json({"backup": str(done.path), "sound": done.sound, **_compared(done)})
    else:
        for comparison in done.comparisons:
            typer.echo(f"{'DIFFERS' if comparison.differs else 'equal  '}  {comparison.what}")
            for line in comparison.differs:
                typer.echo(f"         {line}")
        extent = "restored and compared" if done.restored else "checksums only; --dsn names a server to restore into"
        typer.echo(f"{done.path}: {'sound' if done.sound else 'NOT SOUND'} ({extent})")
    for database in done.dropped:
        typer.echo(f"dropped what a killed verification had left: {database}", err=True)
    for database in done.left_behind:
        typer.echo(f"looks like what a killed verification left: {database}: if so, DROP DATABASE it", err=True)
    if not done.sound:
        raise typer.Exit(EXIT_FAILED)


def join(app: typer.Typer) -> None:
    """Puts these commands into `heal7-iot db`."""
    for command in (backup, restore, verify):
        app.command()(command)


async def _load(
    connection: Connection, chosen: Backup, bar: "_Bar", flavour: Wanted, rules: Rules, as_copy: bool
) -> Restored:
    # What a command may take ends the statements of a restore in the middle.
    await connection.execute("SET statement_timeout = 0")
    return await load(connection, chosen, bar, wanted=flavour, as_copy=as_copy, erasures=rules)


def _chosen(folder: Path) -> Path:
    """The folder itself, or the newest backup in it."""
    try:
        return newest(folder)
    except NotABackup:
        return folder


def _rules(journal: Path | None) -> Rules:
    if journal is None:
        return ()
    try:
        return erasure_journal.read(journal)
    except OSError as error:
        typer.echo(
            f"--erasures {journal}: {error.strerror or error}; where nothing was ever erased, leave it out", err=True
        )
        raise typer.Exit(EXIT_CONFIG) from error
    except erasure_journal.JournalError as error:
        typer.echo(f"--erasures {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from error


def _require_sound(faults: list[str]) -> None:
    for fault in faults:
        typer.echo(f"backup: {fault}", err=True)
    if faults:
        typer.echo("backup: nothing was restored: take another one", err=True)
        raise typer.Exit(EXIT_FAILED)


def _require_dsn(dsn: str) -> None:
    fault = dsn_fault(dsn)
    if fault is not None:
        typer.echo(f"database: {fault}", err=True)
        raise typer.Exit(EXIT_CONFIG)


def _warn(chosen: Backup, done: Restored, journal: Path | None) -> None:
    for warning in done.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for left in chosen.manifest.left_out:
        typer.echo(f"not in the backup: {left}", err=True)
    if journal is None:
        typer.echo(
            f"erasures after {chosen.manifest.made_at} are not known to it: where there were any, give --erasures"
            " JOURNAL when restoring, or erase again before anybody reads",
            err=True,
        )


def _plain(done: Restored) -> dict[str, object]:
    return {name: getattr(done, name) for name in Restored.__slots__}


def _compared(done: Verified) -> dict[str, object]:
    return {
        "restored": done.restored,
        "comparisons": done.comparisons,
        "dropped": done.dropped,
        "left_behind": done.left_behind,
    }


@contextmanager
def _told() -> Iterator[None]:
    """Faults as one line each; the code says whose fault it was."""
    try:
        yield
    except BackupError as error:
        typer.echo(f"backup: {error}", err=True)
        code = {NotABackup: EXIT_CONFIG, NotWritten: EXIT_NOT_WRITTEN}.get(type(error), EXIT_FAILED)
        raise typer.Exit(code) from error
    except StorageError as error:
        typer.echo(f"database: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error


class _Bar:
    """How far it is, for a person at a terminal; nothing into a pipe."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(stage, total=total or None)

    def advance(self, amount: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, amount)
