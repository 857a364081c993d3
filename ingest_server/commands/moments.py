"""Times on a command line: as ISO 8601 has them, by the site's clock where they name no zone, and told by it."""

from datetime import UTC, date, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest_server.commands.database_option import refuse
from ingest_server.storage.connection import Connection
from ingest_server.storage.queries import history
from ingest_server.storage.registry.places import NoSuchThing, on_its_clock

_D = TypeVar("_D", date, datetime)
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


def parsed(option: str, text: str | None) -> datetime | None:
    """What was written, with a zone only if it names one; exit 2 where it is no time."""
    if text is None:
        return None
    try:
        return of_our_time(option, datetime.fromisoformat(text))
    except ValueError:
        refuse(
            f"{option}: {text!r} is no time: write 2026-11-21 or 2026-11-21T14:30 by the site's clock,"
            " or 2026-11-21T14:30+09:00"
        )


def of_our_time(option: str, at: _D) -> _D:
    """The same; exit 2 for a year in which nothing was measured."""
    # A day before or after it, or by another clock, may be one that no calendar has.
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        refuse(f"{option}: nothing was measured in the year {at.year}")
    return at


async def clock_of(connection: Connection, site: str) -> ZoneInfo:
    """The site's; UTC where nobody said. Raises NoSuchThing for one that this machine does not know."""
    name = await history.time_zone(connection, site) or "UTC"
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise NoSuchThing(f"this machine knows no time zone {name}: install tzdata") from error


def shown(at: datetime, clock: ZoneInfo) -> str:
    """For a person: to the second, with the offset."""
    return at.astimezone(clock).isoformat(timespec="seconds")


async def past(connection: Connection, option: str, site: str, at: datetime | None) -> datetime | None:
    """The moment, in UTC; exit 2 where it has not come yet."""
    if at is None:
        return None
    moment = (await on_its_clock(connection, site, at)).astimezone(UTC)
    if moment > datetime.now(UTC):
        told = shown(moment, await clock_of(connection, site))
        refuse(f"{option}: {told} has not come yet: say when it was")
    return moment
