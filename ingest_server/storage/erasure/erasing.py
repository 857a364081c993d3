"""Removing readings on request, so that nothing brings them back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from uuid import UUID

from psycopg import sql as composed

from ingest_server.storage.connection import Connection, session_lock, sql, transaction, translated
from ingest_server.storage.erasure.quarantine import erase_entry
from ingest_server.storage.flavour import Flavour, recorded
from ingest_server.storage.frames import keeping
from ingest_server.storage.keeping.patterns import lock_patterns
from ingest_server.storage.keeping.rollups import lock_rollups, refreshes
from ingest_server.storage.line.erased import Erased
from ingest_server.storage.line.rules import hold_rules
from ingest_server.storage.registry.places import NoSuchThing

_CARRYING_OUT = 0x48454107 << 32
"""With 32 bits of an erasure's id: the lock of whoever carries it out."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a site is meant: a zone (its devices while they were there), a device, or, both None, all of it.

    from_at, to_at: [from, to), with a time zone; from_at None: from the beginning on.
    """

    site: str
    zone: str | None
    device: str | None
    from_at: datetime | None
    to_at: datetime

    def __str__(self) -> str:
        return self.told(UTC)

    def told(self, clock: tzinfo) -> str:
        """By this clock, to the second."""
        what = f"zone {self.zone}" if self.zone else f"device {self.device}" if self.device else "all devices"
        since, until = (
            None if at is None else at.astimezone(clock).isoformat(timespec="seconds")
            for at in (self.from_at, self.to_at)
        )
        return f"{self.site}: {what}, {since or 'the beginning'} to {until}"


@dataclass(frozen=True, slots=True)
class Interval:
    """One rule: a device's time; device None: every device of the site. Dates as ISO 8601, or ±infinity."""

    site: str
    device: str | None
    from_at: str
    to_at: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """An entry of the audit trail. readings: rows removed; refused: readings dropped in quarantine, or on arrival."""

    erasure_id: UUID
    requested_at: str
    requested_by: str
    reason: str
    scope: str
    readings: int
    refused: int
    done_at: str | None


@dataclass(frozen=True, slots=True)
class Affected:
    """What an erasure would remove of a device. first, last: times of its readings; None where there are none."""

    device: str
    readings: int
    first: datetime | None
    last: datetime | None


async def survey(connection: Connection, scope: Scope) -> list[Affected]:
    """What a scope names, archived months with it, by device. Changes nothing. Raises NoSuchThing."""
    with translated():
        cursor = await connection.execute(sql("erasure/erase_unknown"), _named(scope))
        row = await cursor.fetchone()
        if row is not None:
            raise NoSuchThing(row[0])
        months = [composed.Identifier(*table) for table in await _archived(connection) if "rollup" not in table[1]]
        found: dict[str, Affected] = {}
        for table in (composed.Identifier("iot_service", "sensor_readings"), *months):
            cursor = await connection.execute(
                composed.SQL(sql("erasure/erase_survey").decode()).format(
                    scope=composed.SQL(sql("erasure/erase_intervals").decode()), readings=table
                ),
                _named(scope),
            )
            for device, readings, first, last in await cursor.fetchall():
                known = found.get(device)
                if known is not None:
                    readings += known.readings
                    first = min((at for at in (first, known.first) if at), default=None)
                    last = max((at for at in (last, known.last) if at), default=None)
                found[device] = Affected(device, readings, first, last)
    return sorted(found.values(), key=lambda affected: affected.device)


async def request(connection: Connection, scope: Scope, *, reason: str, by: str) -> tuple[UUID, int]:
    """Brings an erasure into force: from now on nothing that it names is written. Its id; its intervals, in number."""
    async with transaction(connection):
        await hold_rules(connection)
        cursor = await connection.execute(
            "INSERT INTO iot_service.erasures (requested_by, reason, scope) VALUES (%s, %s, %s) RETURNING erasure_id",
            (by, reason, str(scope)),
        )
        row = await cursor.fetchone()
        assert row is not None
        cursor = await connection.execute(
            b"INSERT INTO iot_service.erased_intervals (erasure_id, site, device, from_at, to_at)"
            b" SELECT %(erasure_id)s, s.* FROM (" + sql("erasure/erase_intervals") + b") s",
            {"erasure_id": row[0], **_named(scope)},
        )
        return row[0], cursor.rowcount


async def carry_out(connection: Connection, erasure_id: UUID, refreshed: Callable[[int], None] | None = None) -> int:
    """Removes the rows of an erasure that is in force; how many. 0 where it is done already.

    What was derived from them goes, too: rollups, patterns of use. So does what of them waits in quarantine: it counts
    as dropped. refreshed: hears how many entries of the log of rollups were worked off; None: whoever calls sees to
    the rollups.
    """
    # A command and the job `erasures` would do the same work twice, and one of them would say that there was none.
    async with session_lock(connection, _CARRYING_OUT | erasure_id.int & 0xFFFF_FFFF):
        if erasure_id not in await unfinished(connection):
            return 0
        removed = await _erase_rows(connection, erasure_id)
        # Last: somebody may have let quarantine grow large, and everybody's readings would wait for it.
        await _erase_quarantined(connection, erasure_id)
        # Before it counts as done: an average of what was erased tells of it.
        if refreshed is not None:
            async for entries in refreshes(connection):
                refreshed(entries)
        with translated():
            await connection.execute(
                "UPDATE iot_service.erasures SET done_at = now() WHERE erasure_id = %s", (erasure_id,)
            )
    return removed


async def _erase_rows(connection: Connection, erasure_id: UUID) -> int:
    """Out of every table but quarantine; how many readings."""
    this = {"erasure_id": erasure_id}
    # First, and by itself: writers wait for these rows.
    async with transaction(connection):
        cursor = await connection.execute(sql("erasure/erase_latest"), this)
        row = await cursor.fetchone()
        if row is not None and row[0]:
            await connection.execute(sql("erasure/restore_latest"), {"series_ids": row[0]})
    await keeping.erase(connection, erasure_id)
    removed = await _erase_readings(connection, erasure_id)
    async with transaction(connection):
        await _begin_long(connection)
        apart = sum([await _erase_archived(connection, table, erasure_id) for table in await _archived(connection)])
        before_horizon = composed.SQL(sql("erasure/erase_before_horizon").decode()).format(**await _rollups(connection))
        await connection.execute(before_horizon, this)
        await lock_patterns(connection)
        await connection.execute(sql("erasure/erase_patterns"), this)
        await _count(connection, erasure_id, apart)
    return removed + apart


async def _begin_long(connection: Connection) -> None:
    await lock_rollups(connection)
    # A month of a site takes as long as it takes: cut off, it would begin anew each time.
    await connection.execute("SET LOCAL statement_timeout = 0")
    # By default TimescaleDB decompresses no more than 100,000 readings for one statement, and fails.
    await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")


async def _count(connection: Connection, erasure_id: UUID, removed: int) -> None:
    await connection.execute(
        "UPDATE iot_service.erasures SET readings = readings + %s WHERE erasure_id = %s", (removed, erasure_id)
    )


async def _erase_quarantined(connection: Connection, erasure_id: UUID) -> None:
    """Each entry in a transaction of its own: gateways that quarantine meanwhile do not wait."""
    erased = Erased()
    await erased.read(connection)
    with translated():
        cursor = await connection.execute(sql("erasure/quarantined_of_erasure"), {"erasure_id": erasure_id})
        entries = [row[0] for row in await cursor.fetchall()]
    for quarantine_id in entries:
        await erase_entry(connection, erased, quarantine_id)


async def _erase_readings(connection: Connection, erasure_id: UUID) -> int:
    """Out of the table; how many. Each month in a transaction of its own: rollups of all others wait for it."""
    removed = 0
    with translated():
        cursor = await connection.execute(sql("erasure/erase_spans"), {"erasure_id": erasure_id})
        spans = await cursor.fetchall()
    for series_ids, from_at, to_at in spans:
        async with transaction(connection):
            await _begin_long(connection)
            cursor = await connection.execute(
                sql("erasure/erase_readings"),
                {"series_ids": series_ids, "from_at": from_at, "to_at": to_at},
                # A plan for any span would look into every month, and decompress every chunk.
                prepare=False,
            )
            row = await cursor.fetchone()
            assert row is not None
            await _count(connection, erasure_id, row[0])
        removed += int(row[0])
    return removed


async def _rollups(connection: Connection) -> dict[str, composed.Identifier]:
    """The tables that hold the rollups, by the width of their buckets."""
    names = {level: ("iot_service", level) for level in ("rollup_1m", "rollup_1h", "rollup_1d")}
    if await recorded(connection) is Flavour.TIMESCALEDB:
        # From the view of an aggregate nothing can be deleted.
        cursor = await connection.execute(sql("erasure/aggregate_tables"))
        names |= {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
    widths = {"minutes": "rollup_1m", "hours": "rollup_1h", "days": "rollup_1d"}
    return {width: composed.Identifier(*names[level]) for width, level in widths.items()}


async def removed_by(connection: Connection, erasures: Sequence[UUID]) -> int:
    """How many rows erasures have removed, whoever carried them out."""
    with translated():
        cursor = await connection.execute(
            "SELECT COALESCE(sum(readings), 0)::bigint FROM iot_service.erasures WHERE erasure_id = ANY(%s)",
            (list(erasures),),
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def unfinished(connection: Connection) -> list[UUID]:
    """Erasures that are in force, and whose rows nobody has removed yet."""
    with translated():
        cursor = await connection.execute(
            "SELECT erasure_id FROM iot_service.erasures WHERE done_at IS NULL ORDER BY number"
        )
        return [row[0] for row in await cursor.fetchall()]


async def listed(connection: Connection) -> list[Erasure]:
    """Every erasure, the newest first."""
    with translated():
        cursor = await connection.execute(
            "SELECT erasure_id, requested_at::text, requested_by, reason, scope, readings, refused, done_at::text"
            " FROM iot_service.erasures ORDER BY number DESC"
        )
        return [Erasure(*row) for row in await cursor.fetchall()]


async def intervals(connection: Connection, erasure_id: UUID) -> list[Interval]:
    """The rules of one erasure."""
    with translated():
        cursor = await connection.execute(
            "SELECT site, device, from_at::text, to_at::text FROM iot_service.erased_intervals WHERE erasure_id = %s",
            (erasure_id,),
        )
        return [Interval(*row) for row in await cursor.fetchall()]


async def enforce(connection: Connection, erasure: Erasure, rules: Sequence[Interval]) -> bool:
    """Brings an erasure of another database, or of before a restore, into force here. False: it is in force."""
    async with transaction(connection):
        await hold_rules(connection)
        cursor = await connection.execute(
            "INSERT INTO iot_service.erasures (erasure_id, requested_at, requested_by, reason, scope)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (erasure_id) DO NOTHING",
            (erasure.erasure_id, erasure.requested_at, erasure.requested_by, erasure.reason, erasure.scope),
        )
        if cursor.rowcount == 0:
            return False
        for rule in rules:
            await connection.execute(
                "INSERT INTO iot_service.erased_intervals (erasure_id, site, device, from_at, to_at)"
                " VALUES (%s, %s, %s, %s, %s)",
                (erasure.erasure_id, rule.site, rule.device, rule.from_at, rule.to_at),
            )
    return True


def _named(scope: Scope) -> dict[str, object]:
    return {
        "site": scope.site,
        "zone": scope.zone,
        "device": scope.device,
        "from_at": scope.from_at or "-infinity",
        "to_at": scope.to_at,
    }


async def _archived(connection: Connection) -> list[tuple[str, str]]:
    """Schema and table of each month that has left its parent, or is about to: the parent does not show it any more."""
    cursor = await connection.execute(sql("erasure/months_apart"))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def _erase_archived(connection: Connection, table: tuple[str, str], erasure_id: UUID) -> int:
    """From one archived month; how many readings."""
    is_rollup = table[1].startswith("rollup_1m")
    time = composed.SQL("r.bucket + interval '1 minute' > e.from_at AND r.bucket < e.to_at") if is_rollup else None
    statement = composed.SQL(
        "DELETE FROM {} r USING iot_service.erased_series e"
        " WHERE e.erasure_id = %s AND r.series_id = e.series_id AND {}"
    ).format(
        composed.Identifier(*table), time or composed.SQL("r.recorded_at >= e.from_at AND r.recorded_at < e.to_at")
    )
    cursor = await connection.execute(statement, (erasure_id,))
    return 0 if is_rollup else cursor.rowcount
