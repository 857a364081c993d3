"""`heal7-iot erase`: readings removed on request, so that no spool and no replay brings them back."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ingest_server.commands.consent import confirm, who
from ingest_server.commands.database_option import (
    EXIT_NOT_WRITTEN,
    AsJson,
    Dsn,
    on_database,
    refuse,
    show_json,
    show_table,
)
from ingest_server.commands.moments import clock_of, parsed, past, shown
from ingest_server.storage.connection import Connection
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure import journal as erasure_journal
from ingest_server.storage.erasure.erasing import Affected, Scope

app = typer.Typer(no_args_is_help=True, help="Remove readings on request, for good.")

_STATEMENT_TIMEOUT_S = 3_600.0
# The rows of an erasure go a month at a time: all of a site's, perhaps.

_UNFINISHED = "see `heal7-iot erase list`: what is not done there, `heal7-iot erase resume` finishes"

_Journal = Annotated[
    Path | None,
    typer.Option("--journal", help="A file that every erasure is added to, kept apart from the database's backups."),
]


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of erasures: how many, the rows that were removed. unwritten: why the journal lacks an entry."""

    erasures: int
    readings: int
    unwritten: str | None


@app.command("run")
def run_erasure(
    site: Annotated[str, typer.Argument(help="As in <site>/<gateway>.", show_default=False)],
    dsn: Dsn,
    reason: Annotated[str, typer.Option("--reason", help="For the audit trail: who asked for it, why.")],
    zone: Annotated[str | None, typer.Option("--zone", help="Only its devices, while each was there.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Only this one.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="By the site's clock; none: from the beginning.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="The first moment that stays; none: now.")
    ] = None,
    journal: _Journal = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a site's readings, or those of a zone, a device, a time; what arrives of them later is dropped.

    Shows first what would go. What was computed from them follows: latest values, rollups, patterns of use; and what
    of them lies in quarantine.

    Example: heal7-iot erase run seoul-1 --zone hall --from 2026-11-02 --to 2026-11-03 --reason 'request 4711'
    """
    if zone is not None and device is not None:
        refuse("--zone and --device: say one of them; each makes an erasure of its own")
    if not reason.strip():
        refuse("--reason: say who asked for it and why: it is all that the audit trail will have")
    from_at, to_at = parsed("--from", since), parsed("--to", until)
    _require_writable(journal)

    async def look(connection: Connection) -> tuple[Scope, list[Affected], ZoneInfo]:
        clock = await clock_of(connection, site)
        begins = await past(connection, "--from", site, from_at)
        ends = await past(connection, "--to", site, to_at) or datetime.now(UTC)
        if begins is not None and begins >= ends:
            refuse(f"--from {shown(begins, clock)} is not before --to {shown(ends, clock)}")
        scope = Scope(site, zone, device, begins, ends)
        return scope, await erasing.survey(connection, scope), clock

    scope, affected, clock = on_database(
        dsn, look, statement_timeout_s=_STATEMENT_TIMEOUT_S, interrupted="nothing was erased"
    )
    if not as_json:
        rows = [(a.device, a.readings, *(at and shown(at, clock) for at in (a.first, a.last))) for a in affected]
        typer.echo(f"to be erased: {scope.told(clock)}")
        show_table("what is there of it", ["device", "readings", "first", "last"], rows)
    if not yes:
        confirm(f"Erase {sum(a.readings for a in affected):,} readings for good?", "nothing was erased")

    async def work(connection: Connection) -> tuple[UUID, int, _Done]:
        erasure_id, rules = await erasing.request(connection, scope, reason=reason, by=who())
        unwritten = await _enter(connection, journal)
        done = await _carry_out(connection, [erasure_id], show_progress=not as_json)
        return erasure_id, rules, _Done(1, done, unwritten)

    erasure_id, rules, done = on_database(dsn, work, statement_timeout_s=_STATEMENT_TIMEOUT_S, interrupted=_UNFINISHED)
    if as_json:
        show_json(
            {
                "erasure_id": erasure_id,
                "scope": str(scope),
                "rules": rules,
                "readings": done.readings,
                "devices": affected,
                "journal": journal,
            }
        )
    else:
        typer.echo(
            f"{done.readings:,} readings erased; what arrives of {scope.told(clock)} is dropped (erasure {erasure_id})"
        )
    _end(done)


@app.command("list")
def list_erasures(dsn: Dsn, as_json: AsJson = False) -> None:
    """List the audit trail, the newest first: who, why, what, rows removed, readings refused.

    Example: heal7-iot erase list --dsn 'dbname=heal7'
    """
    found = on_database(dsn, erasing.listed)
    if as_json:
        show_json(found)
    elif found:
        columns = ["requested", "by", "reason", "scope", "readings", "refused", "done", "erasure"]
        rows = [
            (e.requested_at, e.requested_by, e.reason, e.scope, e.readings, e.refused, e.done_at or "NO", e.erasure_id)
            for e in found
        ]
        show_table("erasures", columns, rows)
    else:
        typer.echo("nothing was ever erased")


@app.command()
def resume(dsn: Dsn, journal: _Journal = None, as_json: AsJson = False) -> None:
    """Finish erasures that were interrupted; with --journal, add those to it that it lacks.

    Example: heal7-iot erase resume --journal /var/lib/heal7-iot/erasures.jsonl
    """
    _require_writable(journal)

    async def work(connection: Connection) -> _Done:
        unwritten = await _enter(connection, journal)
        left = await erasing.unfinished(connection)
        return _Done(len(left), await _carry_out(connection, left, show_progress=not as_json), unwritten)

    done = on_database(dsn, work, statement_timeout_s=_STATEMENT_TIMEOUT_S, interrupted=_UNFINISHED)
    if as_json:
        show_json({"erasures": done.erasures, "readings": done.readings})
    elif done.erasures:
        typer.echo(f"finished: {done.erasures:,}, with {done.readings:,} readings")
    else:
        typer.echo("nothing was left to do")
    _end(done)


@app.command()
def enforce(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="As `erase run` wrote it.", show_default=False)],
    dsn: Dsn,
    as_json: AsJson = False,
) -> None:
    """Bring erasures of a journal into force that the database does not know, and remove their rows: after a recovery
    to a moment before them. `db restore --erasures` does the same by itself.

    Example: heal7-iot erase enforce /var/lib/heal7-iot/erasures.jsonl --dsn 'dbname=heal7'
    """
    try:
        rules = erasure_journal.read(journal)
    except OSError as error:
        refuse(f"{journal}: {error.strerror or error}: name the journal")
    except erasure_journal.JournalError as error:
        refuse(str(error))

    async def work(connection: Connection) -> _Done:
        enforced = [made for made, intervals in rules if await erasing.enforce(connection, made, intervals)]
        left = await erasing.unfinished(connection)
        return _Done(len(enforced), await _carry_out(connection, left, show_progress=not as_json), None)

    done = on_database(dsn, work, statement_timeout_s=_STATEMENT_TIMEOUT_S, interrupted=_UNFINISHED)
    if as_json:
        show_json({"erasures": done.erasures, "readings": done.readings})
    else:
        typer.echo(f"{done.erasures:,} erasures brought into force, {done.readings:,} readings removed")


async def _carry_out(connection: Connection, erasures: list[UUID], *, show_progress: bool) -> int:
    """Removes the rows, and brings the rollups up to date; how many rows."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not (show_progress and console.is_terminal))
    with bar:
        removing = bar.add_task("erasing", total=len(erasures))
        rollups = bar.add_task("rollups", total=None)

        def refreshed(entries: int) -> None:
            bar.advance(rollups, entries)

        for erasure_id in erasures:
            await erasing.carry_out(connection, erasure_id, refreshed)
            bar.advance(removing)
    return await erasing.removed_by(connection, erasures)


async def _enter(connection: Connection, journal: Path | None) -> str | None:
    """Adds to the journal what it lacks of the audit trail; why that could not be. The rules are in force already."""
    if journal is None:
        return None
    try:
        known = _entered(journal)
        for entry in reversed(await erasing.listed(connection)):
            if entry.erasure_id not in known:
                erasure_journal.append(journal, entry, await erasing.intervals(connection, entry.erasure_id))
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _entered(journal: Path) -> set[UUID]:
    return {e.erasure_id for e, _ in erasure_journal.read(journal)} if journal.exists() else set()


def _require_writable(journal: Path | None) -> None:
    """Before anything is erased: an erasure that the journal lacks is undone by an older backup."""
    if journal is None:
        return
    try:
        if journal.exists():
            # Of a device like /dev/zero there is no end to read.
            if not journal.is_file():
                raise OSError("this is no file")
            _entered(journal)
            journal.open("ab").close()
        elif not os.access(journal.resolve().parent, os.W_OK):
            raise PermissionError(f"{journal.resolve().parent} is not there, or closed to you")
    except OSError as error:
        refuse(f"--journal {journal}: {error.strerror or error}: name a file that can be written")
    except ValueError as error:
        refuse(f"--journal {error}")


def _end(done: _Done) -> None:
    if done.unwritten is not None:
        typer.echo(
            f"erased, but the journal lacks it: {done.unwritten}; mend that, then `heal7-iot erase resume --journal …`",
            err=True,
        )
        raise typer.Exit(EXIT_NOT_WRITTEN)
