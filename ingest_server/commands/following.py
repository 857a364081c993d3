"""What commands that correct readings share: showing what would change, and seeing it carried out."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from ingest_server.commands.database_option import refuse, show_table
from ingest_server.commands.moments import shown
from ingest_server.raw_frames import decode_by
from ingest_server.storage.connection import Connection
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Correction
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.correction.survey import Affected
from ingest_server.storage.queries import history
from ingest_server.storage.registry.places import NoSuchThing

STATEMENT_TIMEOUT_S = 3_600.0
"""For what looks at, or writes anew, all readings of a device."""

UNFINISHED = "what is in force goes on: see `heal7-iot corrections list`; `heal7-iot corrections resume` finishes it"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Profiles = Annotated[
    Path | None,
    typer.Option(
        "--profiles",
        metavar="DIRECTORY",
        help="Firmware profiles beside the package's: the server's `profiles.directory`.",
        show_default=False,
    ),
]


def load_profiles(directory: Path | None) -> ProfileSet:
    """By which raw frames are read; exit 2 where one of them is wrong."""
    try:
        return ProfileSet.with_own(directory)
    except ProfileError as error:
        refuse(str(error))


def show_affected(affected: Sequence[Affected], clock: ZoneInfo) -> None:
    """A table of what would change, with examples."""
    rows = []
    for a in affected:
        dated = [(shown(_EPOCH + timedelta(microseconds=e.at_us), clock), e) for e in a.examples]
        examples = [f"{at}: {e.before:.6g} → {e.after:.6g} {a.unit}".rstrip() for at, e in dated]
        rows.append((a.channel, a.readings, "\n".join(examples)))
    show_table("stored readings that would follow", ["channel", "readings", "examples"], rows)


async def archived_before(connection: Connection, from_at: datetime) -> str | None:
    """What is to be said of readings that have left the table; None where the rule reaches none of them."""
    horizon = await history.raw_horizon(connection)
    if horizon is None or from_at >= horizon:
        return None
    return f"readings before {horizon:%Y-%m-%d} have left the table (archive): they and their averages stay as they are"


async def follow(connection: Connection, numbers: Sequence[int], profiles: ProfileSet, *, show_progress: bool) -> int:
    """Has stored readings follow these rules; how many were written anew."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done, decode = 0, decode_by(profiles)
    with Progress(
        *columns, console=console, transient=True, disable=not (show_progress and console.is_terminal)
    ) as bar:
        readings = bar.add_task("readings", total=None)
        rollups = bar.add_task("rollups", total=None)
        for number in numbers:
            done += await carry_out(
                connection,
                number,
                decode,
                lambda written, total: bar.update(readings, completed=written, total=total),
                lambda worked_off: bar.advance(rollups, worked_off),
            )
    return done


async def standing(connection: Connection, number: int, kind: str | None) -> Correction:
    """A rule that is in force, and of this kind. Raises NoSuchThing."""
    found = next((c for c in await entries.listed(connection, None, kind) if c.number == number), None)
    if found is None or found.kind == entries.WITHDRAWAL:
        raise NoSuchThing(f"no {kind or 'correction'} has the number {number}; see `heal7-iot corrections list`")
    if found.withdrawn_by is not None:
        raise NoSuchThing(f"correction {number} was withdrawn already, by {found.withdrawn_by}")
    return found


def show_corrections(found: Sequence[Correction]) -> None:
    """The list, for a person."""
    if not found:
        typer.echo("nothing was ever corrected")
        return
    columns = ["number", "kind", "device", "from", "to", "what", "by", "why", "readings", "state"]
    rows = [
        (
            c.number,
            c.kind,
            f"{c.site}/{c.device}",
            c.from_at,
            None if c.to_at == "infinity" else c.to_at,
            _what(c),
            c.made_by,
            c.reason,
            c.readings,
            "NOT CARRIED OUT"
            if c.done_at is None
            else f"withdrawn by {c.withdrawn_by}"
            if c.withdrawn_by
            else "stands",
        )
        for c in found
    ]
    show_table("corrections", columns, rows)


def _what(c: Correction) -> str:
    if c.coefficients is not None:
        return f"{c.channel}: {polynomial(c.coefficients)} {c.unit}".rstrip()
    return f"{c.was_profile} → {c.profile}" if c.profile else f"withdraws {c.withdraws}"


def polynomial(coefficients: Sequence[float]) -> str:
    """As people write it, in x."""
    powers = ("", "·x", "·x²", "·x³", "·x⁴", "·x⁵", "·x⁶", "·x⁷", "·x⁸", "·x⁹")
    return " + ".join(f"{c:g}{powers[n]}" for n, c in enumerate(coefficients))
