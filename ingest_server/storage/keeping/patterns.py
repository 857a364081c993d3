"""How people use a zone, by day and part of the day: derived from its presence and environment sensors, anonymous.

A day is computed from its own minutes alone, as a whole, and its rows replaced: however often, and however late its
readings came. What marks a day as changed is taken out in the transaction of its rows. docs/patterns.md has the rules.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from ingest_server.storage.connection import Connection, sql, transaction, translated

PATTERNS_LOCK = 0x48454106
"""Of the transaction: two that derive take turns."""


@dataclass(frozen=True, slots=True)
class Slots:
    """At which hours of the site's clock the parts of its day begin, and when the last one ends."""

    morning: int = 6
    afternoon: int = 12
    evening: int = 18
    end: int = 24

    def __post_init__(self) -> None:
        if not 0 <= self.morning < self.afternoon < self.evening < self.end <= 24:
            raise ValueError(
                f"morning {self.morning}, afternoon {self.afternoon}, evening {self.evening}, end {self.end}: write"
                " hours of the day that ascend, from 0 to 24"
            )


async def derive(connection: Connection, slots: Slots, now: datetime | None = None) -> int:
    """Derives the days that changed since they were derived last; how many.

    A day that is not over at `now` (None: by this machine's clock) is derived as far as it has come, and stays marked.
    Days that began before the raw readings do stay as they are. Raises StorageError; days before the one that failed
    stand.
    """
    at = now or datetime.now(UTC)
    with translated():
        cursor = await connection.execute("SELECT site, visit_date FROM iot_service.changed_days ORDER BY 1, 2")
        changed = await cursor.fetchall()
    # Each in a transaction of its own: whoever has the same day to mark waits for it.
    return sum([await _derive_day(connection, site, day, slots, at) for site, day in changed])


async def _derive_day(connection: Connection, site: str, day: date, slots: Slots, now: datetime) -> bool:
    async with transaction(connection):
        await lock_patterns(connection)
        this = {"site": site, "visit_date": day}
        cursor = await connection.execute(
            "DELETE FROM iot_service.changed_days WHERE site = %(site)s AND visit_date = %(visit_date)s", this
        )
        if cursor.rowcount == 0:
            return False  # another one derived it meanwhile
        # From here on in statements of their own: whoever marked the day has committed what it was marked for.
        cursor = await connection.execute(sql("keeping/patterns_day"), this)
        row = await cursor.fetchone()
        if row is None:
            return False
        zone, from_at, to_at = row
        await connection.execute(
            sql("keeping/patterns_derive"),
            {
                **this,
                "zone": zone,
                "from_at": from_at,
                "to_at": to_at,
                "now": now,
                "morning": slots.morning,
                "afternoon": slots.afternoon,
                "evening": slots.evening,
                "end": slots.end,
            },
        )
        if now < to_at:
            await connection.execute(
                "INSERT INTO iot_service.changed_days (site, visit_date) VALUES (%(site)s, %(visit_date)s)", this
            )
    return True


async def lock_patterns(connection: Connection) -> None:
    """Holds off derivations until the caller's transaction ends. Before any of their rows or marks is touched."""
    # A refresh of the rollups may hold a day's mark for long; nobody who reads or writes waits for either.
    await connection.execute("SET LOCAL lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (PATTERNS_LOCK,))
