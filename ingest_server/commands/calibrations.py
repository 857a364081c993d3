"""`heal7-iot calibrations`: what a reference says of a channel, since when, by whom and why."""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from firmware_profiles.selection import ProfileSet
from ingest_server.commands.consent import confirm, who
from ingest_server.commands.database_option import AsJson, Dsn, on_database, refuse, show_json
from ingest_server.commands.device_argument import split
from ingest_server.commands.following import (
    STATEMENT_TIMEOUT_S,
    UNFINISHED,
    Profiles,
    archived_before,
    follow,
    load_profiles,
    polynomial,
    show_affected,
    show_corrections,
    standing,
)
from ingest_server.commands.moments import clock_of, parsed, past, shown
from ingest_server.raw_frames import decode_by
from ingest_server.storage.connection import Connection
from ingest_server.storage.correction import entries, survey
from ingest_server.storage.correction.entries import CALIBRATION, Signed
from ingest_server.storage.correction.rewriting import device_series
from ingest_server.storage.line.corrected import Calibration
from ingest_server.storage.registry.places import NoSuchThing

app = typer.Typer(no_args_is_help=True, help="What channels read beside a reference, with dates.")

_MOST_COEFFICIENTS = 10
# A polynomial of a higher degree follows the noise of the reference.
_MOST_REASON, _MOST_NAME = 1_000, 200
"""Characters: they stay in the list for good."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Device = Annotated[str, typer.Option("--device", metavar="SITE/DEVICE", help="As `heal7-iot devices list` shows it.")]
By = Annotated[str | None, typer.Option("--by", help="Who says so; none: whoever runs this.", show_default=False)]
Why = Annotated[str, typer.Option("--why", help="For the list: which reference, which ticket.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@app.command()
def add(
    device: Device,
    dsn: Dsn,
    channel: Annotated[str, typer.Option("--channel", help="As `heal7-iot history latest` shows it.")],
    valid_from: Annotated[
        str, typer.Option("--valid-from", metavar="TIME", help="Since when, by the site's clock; until the next one.")
    ],
    why: Why,
    gain: Annotated[float | None, typer.Option("--gain", help="value × gain + offset; none: 1.")] = None,
    offset: Annotated[float | None, typer.Option("--offset", help="In the channel's unit; none: 0.")] = None,
    coefficients: Annotated[
        str | None,
        typer.Option("--polynomial", metavar="C0,C1,C2", help="Instead of these: c0 + c1·value + c2·value² …"),
    ] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Where the channel has had several.")] = None,
    by: By = None,
    own_profiles: Profiles = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Calibrate a channel: stored readings from then on, their averages, and what arrives later. Shows first what would
    change. The value that arrived is kept beside it. `--gain 1` ends an earlier calibration.

    Example: heal7-iot calibrations add --device seoul-1/hall-air --channel temperature --valid-from 2026-11-02
    --offset -0.4 --why 'beside the reference thermometer'
    """
    site, name = split(device)
    wanted = _coefficients(gain, offset, coefficients)
    signed = signed_by(by, why)
    since, profiles = parsed("--valid-from", valid_from), load_profiles(own_profiles)

    async def look(
        connection: Connection,
    ) -> tuple[tuple[int, str, str], Calibration, list[survey.Affected], str | None]:
        clock = await clock_of(connection, site)
        found = await entries.device_id(connection, site, name), site, name
        known = await _unit(connection, found[0], channel, unit)
        from_at = await past(connection, "--valid-from", site, since)
        assert from_at is not None
        rule = Calibration(0, channel, known, (from_at - _EPOCH) // timedelta(microseconds=1), wanted)
        affected = await survey.of_new(connection, found, rule, decode_by(profiles))
        apart = await archived_before(connection, from_at)
        if not as_json:
            typer.echo(f"{device}, {channel}: {polynomial(wanted)} {known}, from {shown(from_at, clock)}")
            show_affected(affected, clock)
        return found, rule, affected, apart

    found, rule, affected, apart = on_database(
        dsn, look, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted="nothing was changed"
    )
    if apart is not None and not as_json:
        typer.echo(apart)
    if not yes:
        confirm(f"Calibrate, and write {sum(a.readings for a in affected):,} readings anew?", "nothing was changed")

    async def work(connection: Connection) -> tuple[int, int]:
        number = await entries.calibrate(connection, found[0], rule, signed)
        return number, await follow(connection, [number], profiles, show_progress=not as_json)

    number, readings = on_database(dsn, work, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted=UNFINISHED)
    if as_json:
        show_json({"number": number, "readings": readings, "affected": affected, "apart": apart})
    else:
        typer.echo(f"calibration {number} is in force: {readings:,} readings follow it, and what arrives later will")


@app.command("list")
def list_calibrations(
    dsn: Dsn,
    device: Annotated[
        str | None, typer.Option("--device", metavar="SITE/DEVICE", help="Only of this one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List calibrations, the newest first: since when, what, by whom, why, and whether they stand.

    Example: heal7-iot calibrations list --device seoul-1/hall-air
    """
    chosen = None if device is None else split(device)
    found = on_database(dsn, lambda connection: entries.listed(connection, chosen, CALIBRATION))
    if as_json:
        show_json(found)
    else:
        show_corrections(found)


@app.command()
def remove(
    number: Annotated[int, typer.Argument(help="As `calibrations list` shows it.", show_default=False)],
    dsn: Dsn,
    why: Why,
    by: By = None,
    own_profiles: Profiles = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw a calibration: readings are what an earlier one makes of them, or as they arrived. It stays in the list.

    Example: heal7-iot calibrations remove 7 --why 'the reference itself was wrong'
    """
    withdraw(dsn, number, CALIBRATION, signed_by(by, why), load_profiles(own_profiles), yes=yes, as_json=as_json)


def withdraw(
    dsn: str, number: int, kind: str | None, signed: Signed, profiles: ProfileSet, *, yes: bool, as_json: bool
) -> None:
    """Shows what would change, asks, and does it."""

    async def look(connection: Connection) -> list[survey.Affected]:
        rule = await standing(connection, number, kind)
        device = await entries.device_id(connection, rule.site, rule.device), rule.site, rule.device
        affected = await survey.of_withdrawal(connection, device, number, decode_by(profiles))
        if not as_json:
            typer.echo(f"to be withdrawn: {rule.kind} {number} of {rule.site}/{rule.device} ({rule.reason})")
            show_affected(affected, await clock_of(connection, rule.site))
        return affected

    affected = on_database(dsn, look, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted="nothing was changed")
    if not yes:
        confirm(f"Withdraw it, and write {sum(a.readings for a in affected):,} readings anew?", "nothing was changed")

    async def work(connection: Connection) -> tuple[int, int]:
        withdrawal = await entries.withdraw(connection, number, signed, kind)
        return withdrawal, await follow(connection, [withdrawal], profiles, show_progress=not as_json)

    withdrawal, readings = on_database(dsn, work, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted=UNFINISHED)
    if as_json:
        show_json({"number": withdrawal, "withdraws": number, "readings": readings, "affected": affected})
    else:
        typer.echo(f"{number} is withdrawn (by {withdrawal}): {readings:,} readings were written anew")


def signed_by(by: str | None, why: str) -> Signed:
    """Exit 2 where nobody is named, or no reason, or in a way that no list could show."""
    if not why.strip():
        refuse("--why: say which reference, or which ticket: it is all that the list will tell")
    if by is not None and not by.strip():
        refuse("--by: name somebody, or leave it out for whoever runs this")
    for option, text, most in (("--why", why, _MOST_REASON), ("--by", by or "", _MOST_NAME)):
        if len(text) > most or not text.isprintable():
            refuse(f"{option}: write one line of at most {most} characters")
    return Signed(by or who(), why)


def _coefficients(gain: float | None, offset: float | None, polynomial: str | None) -> tuple[float, ...]:
    if polynomial is None:
        if gain is None and offset is None:
            refuse("--gain, --offset or --polynomial: say what the values come to")
        found: tuple[float, ...] = (offset or 0.0, 1.0 if gain is None else gain)
    else:
        if gain is not None or offset is not None:
            refuse("--polynomial has a constant and a factor of its own: leave --gain and --offset out")
        try:
            found = tuple(float(part) for part in polynomial.split(","))
        except ValueError:
            refuse(
                f"--polynomial: {polynomial!r} is no list of numbers: write the constant first, as in -0.4,1.02,0.001"
            )
    if len(found) > _MOST_COEFFICIENTS:
        refuse(f"--polynomial: {len(found)} coefficients, where {_MOST_COEFFICIENTS} are the most")
    if not all(map(math.isfinite, found)):
        refuse("--gain, --offset and --polynomial: write finite numbers")
    if not any(found[1:]):
        refuse("every value would become the same: write a gain, or a coefficient after the first, other than 0")
    return found


async def _unit(connection: Connection, device_id: int, channel: str, unit: str | None) -> str:
    """Of the channel. Raises NoSuchThing where it has none, or several and `unit` names none of them."""
    series = await device_series(connection, device_id)
    units = sorted({s.unit for s in series if s.channel == channel})
    if not units:
        known = ", ".join(sorted({s.channel for s in series})) or "none"
        raise NoSuchThing(f"--channel: the device has no channel {channel}, but {known}")
    if unit is None and len(units) == 1:
        return units[0]
    if unit not in units:
        raise NoSuchThing(
            f"--unit: channel {channel} has been in {', '.join(u or chr(39) * 2 for u in units)}: name one"
        )
    return unit
