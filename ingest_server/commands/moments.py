"""Times on a command line: as ISO 8601 has them, by the site's clock where they name no zone."""

from datetime import UTC, datetime

from ingest_server.commands.database_option import refuse
from ingest_server.storage.connection import Connection
from ingest_server.storage.registry.places import on_its_clock


def parsed(option: str, text: str | None) -> datetime | None:
    """What was written, with a zone only if it names one; exit 2 where it is no time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        refuse(
            f"{option}: {text!r} is no time: write 2026-11-21 or 2026-11-21T14:30 by the site's clock,"
            " or 2026-11-21T14:30+09:00"
        )


async def past(connection: Connection, option: str, site: str, at: datetime | None) -> datetime | None:
    """The moment; exit 2 where it has not come yet."""
    if at is None:
        return None
    try:
        moment = (await on_its_clock(connection, site, at)).astimezone(UTC)
    except OverflowError:
        refuse(f"{option}: {at.isoformat()} is a time that no calendar has by the site's clock")
    if moment > datetime.now(UTC):
        refuse(f"{option}: {moment:%Y-%m-%dT%H:%M:%SZ} has not come yet: say when it was, or leave it out for now")
    return moment
