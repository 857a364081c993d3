"""`heal7-iot redecode`: what one firmware profile made of a device's numbers becomes what another one says."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from firmware_profiles.selection import ProfileSet
from ingest_server.commands.calibrations import By, Device, Why, Yes, signed_by
from ingest_server.commands.consent import confirm
from ingest_server.commands.database_option import AsJson, Dsn, on_database, refuse, show_json, show_table
from ingest_server.commands.device_argument import split
from ingest_server.commands.following import (
    STATEMENT_TIMEOUT_S,
    UNFINISHED,
    Profiles,
    archived_before,
    follow,
    load_profiles,
    show_affected,
)
from ingest_server.commands.moments import clock_of, parsed, past, shown
from ingest_server.raw_frames import decode_by
from ingest_server.storage.connection import Connection
from ingest_server.storage.correction import decoders, entries, survey
from ingest_server.storage.frames import keeping
from ingest_server.storage.line.corrected import EVER, Decoder
from ingest_server.storage.registry.places import NoSuchThing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What would be done, and what it would come to."""

    device_id: int
    rule: Decoder
    to_at: datetime | None
    differences: list[decoders.Difference]
    affected: list[survey.Affected]
    frames: int
    apart: str | None


def redecode(
    device: Device,
    dsn: Dsn,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="By the site's clock.")],
    why: Why,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="The first moment that stays; none: as long as it was decoded so."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="What says what they mean; none: the newest revision of what decoded them."),
    ] = None,
    was: Annotated[
        str | None, typer.Option("--was", help="The profile that was wrong, where there were several.")
    ] = None,
    by: By = None,
    own_profiles: Profiles = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Correct the readings that a wrong firmware profile has decoded: those that are stored, their averages, and what
    still arrives of them. Shows first what would change, channel by channel, and what cannot be computed, and why.

    Example: heal7-iot redecode --device seoul-1/hall-air --from 2026-11-02 --to 2026-11-20T09:30 --profile
    plantower-pms5003/2 --why 'ticket 4711: firmware 1.4 counts in tenths'
    """
    site, name = split(device)
    signed = signed_by(by, why)
    begins, ends = parsed("--from", since), parsed("--to", until)
    profiles = load_profiles(own_profiles)

    async def look(connection: Connection) -> _Plan:
        clock = await clock_of(connection, site)
        device_id = await entries.device_id(connection, site, name)
        from_at = await past(connection, "--from", site, begins)
        to_at = await past(connection, "--to", site, ends)
        assert from_at is not None
        if to_at is not None and from_at >= to_at:
            refuse(f"--from {shown(from_at, clock)} is not before --to {shown(to_at, clock)}")
        rule, differences = await _between(connection, device_id, profiles, (was, profile), from_at, to_at)
        affected = await survey.of_new(connection, (device_id, site, name), rule, decode_by(profiles))
        frames = await keeping.count(connection, device_id, rule.was, from_at, to_at or "infinity")
        apart = await archived_before(connection, from_at)
        plan = _Plan(device_id, rule, to_at, differences, affected, frames, apart)
        if not as_json:
            _show(plan, device, clock)
        return plan

    plan = on_database(dsn, look, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted="nothing was changed")
    if not _is_of_use(plan):
        refuse(
            "nothing was changed: no channel can be computed from its number, and no raw frame was kept of that time"
        )
    if not yes:
        confirm(f"Write {sum(a.readings for a in plan.affected):,} readings anew?", "nothing was changed")

    async def work(connection: Connection) -> tuple[int, int]:
        number = await entries.redecode(connection, plan.device_id, plan.rule, plan.to_at, signed)
        return number, await follow(connection, [number], profiles, show_progress=not as_json)

    number, readings = on_database(dsn, work, statement_timeout_s=STATEMENT_TIMEOUT_S, interrupted=UNFINISHED)
    if as_json:
        show_json(
            {
                "number": number,
                "was": plan.rule.was,
                "profile": plan.rule.profile,
                "readings": readings,
                "channels": plan.differences,
                "affected": plan.affected,
                "frames": plan.frames,
                "apart": plan.apart,
            }
        )
    else:
        typer.echo(
            f"correction {number} is in force: {readings:,} readings follow {plan.rule.profile}, and what still arrives"
            f" of {plan.rule.was} will"
        )


async def _between(
    connection: Connection,
    device_id: int,
    profiles: ProfileSet,
    wanted: tuple[str | None, str | None],
    from_at: datetime,
    to_at: datetime | None,
) -> tuple[Decoder, list[decoders.Difference]]:
    """Raises NoSuchThing."""
    was, profile = wanted
    known = await decoders.profiles_of(connection, device_id)
    if was is None:
        candidates = known if known == [profile] else [name for name in known if name != profile]
        if len(candidates) != 1:
            said = ", ".join(known) or "none"
            raise NoSuchThing(
                f"--was: name the profile that was wrong: {said} gave readings of this device their meaning"
            )
        was = candidates[0]
    elif was not in known:
        raise NoSuchThing(f"--was: {was} decoded nothing of this device, but {', '.join(known) or 'no profile'} did")
    name = profile or _newest_revision(was, profiles)
    old = await decoders.find_facts(connection, was, profiles)
    new = profiles.named(name)
    if new is None:
        raise NoSuchThing(f"--profile: no profile {name} is installed here: name its folder by --profiles")
    from_us = (from_at - _EPOCH) // timedelta(microseconds=1)
    to_us = EVER if to_at is None else (to_at - _EPOCH) // timedelta(microseconds=1)
    return decoders.between(was, old, name, decoders.facts_of(new), from_us, to_us)


def _newest_revision(was: str, profiles: ProfileSet) -> str:
    """Raises NoSuchThing."""
    base, _, revision = was.rpartition("/")
    own = [p.name.rpartition("/")[2] for p in profiles if p.name.rpartition("/")[0] == base]
    newest = max((int(r) for r in own if r.isdigit()), default=0)
    if newest <= (int(revision) if revision.isdigit() else 0):
        raise NoSuchThing(f"--profile: no revision after {was} is installed here: name what says better")
    return f"{base}/{newest}"


def _is_of_use(plan: _Plan) -> bool:
    """Whether any reading could follow."""
    return plan.frames > 0 or any(d.computed for d in plan.differences)


def _show(plan: _Plan, device: str, clock: ZoneInfo) -> None:
    since = shown(_EPOCH + timedelta(microseconds=plan.rule.from_us), clock)
    until = "without end" if plan.to_at is None else f"to {shown(plan.to_at, clock)}"
    typer.echo(f"{device}: what {plan.rule.was} decoded means what {plan.rule.profile} says, from {since}, {until}")
    if plan.apart is not None:
        typer.echo(plan.apart)
    if _is_of_use(plan):
        show_affected(plan.affected, clock)
    if plan.frames:
        typer.echo(
            f"{plan.frames:,} raw frames of that time are decoded again; the other readings follow by their numbers"
        )
    presumed = sum(a.presumed for a in plan.affected)
    if presumed:
        typer.echo(
            f"{presumed:,} of them were written after another profile had been met, and are taken for"
            f" {plan.rule.was}'s: where that is wrong, say --to"
        )
    apart = [d for d in plan.differences if not d.computed]
    if apart:
        show_table("what cannot be computed", ["channel", "why"], [(d.channel, d.why) for d in apart])
