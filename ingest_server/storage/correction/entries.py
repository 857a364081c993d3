"""Corrections as they are made, withdrawn and listed: entries that are only ever added."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.line.corrected import UNKNOWN, Affine, Calibration, Decoder, register_revisions
from ingest_server.storage.line.rules import hold_rules
from ingest_server.storage.registry.places import NoSuchThing

CALIBRATION, DECODER, WITHDRAWAL = "calibration", "decoder", "withdrawal"


@dataclass(frozen=True, slots=True)
class Signed:
    """Who makes a rule, and why: all that the list will tell of it."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Correction:
    """An entry. to_at: `infinity` where it has no end. withdrawn_by: number of the entry that withdrew this one.

    readings: rows that were written anew. done_at: None: stored readings do not all follow it yet.
    """

    number: int
    kind: str
    site: str
    device: str
    from_at: str
    to_at: str
    channel: str | None
    unit: str | None
    coefficients: tuple[float, ...] | None
    was_profile: str | None
    profile: str | None
    withdraws: int | None
    withdrawn_by: int | None
    made_at: str
    made_by: str
    reason: str
    readings: int
    done_at: str | None


async def listed(
    connection: Connection, device: tuple[str, str] | None = None, kind: str | None = None
) -> list[Correction]:
    """The newest first. device: (site, device), None: all."""
    site, name = device or (None, None)
    with translated():
        cursor = await connection.execute(
            sql("correction/list_corrections"), {"site": site, "device": name, "kind": kind}
        )
        rows = await cursor.fetchall()
    # psycopg gives arrays as lists.
    return [_listed([tuple(c) if isinstance(c, list) else c for c in row]) for row in rows]


def _listed(columns: list[Any]) -> Correction:
    return Correction(*columns)


async def unfinished(connection: Connection) -> list[int]:
    """Numbers of what is in force, and not carried out yet."""
    with translated():
        cursor = await connection.execute(
            "SELECT number FROM iot_service.corrections WHERE done_at IS NULL ORDER BY number"
        )
        return [row[0] for row in await cursor.fetchall()]


async def device_id(connection: Connection, site: str, device: str) -> int:
    """Raises NoSuchThing."""
    with translated():
        cursor = await connection.execute(
            "SELECT device_id FROM iot_service.iot_devices WHERE site = %s AND device = %s", (site, device)
        )
        row = await cursor.fetchone()
    if row is None:
        raise NoSuchThing(f"no device {device} at site {site}; see `heal7-iot devices list`")
    return int(row[0])


async def calibrate(connection: Connection, device: int, rule: Calibration, signed: Signed) -> int:
    """Brings a calibration into force: from now on arriving readings follow it. Its number."""
    return await _enter(
        connection,
        device,
        signed,
        kind=CALIBRATION,
        from_us=rule.from_us,
        channel=rule.channel,
        unit=rule.unit,
        coefficients=list(rule.coefficients),
    )


async def redecode(connection: Connection, device: int, rule: Decoder, to_at: datetime | None, signed: Signed) -> int:
    """Brings a decoder into force. to_at: None: for as long as readings arrive that `rule.was` decoded. Its number."""
    return await _enter(
        connection,
        device,
        signed,
        kind=DECODER,
        from_us=rule.from_us,
        to_at=to_at,
        was_profile=rule.was,
        profile=rule.profile,
        channels=json.dumps(_told(rule.channels)),
    )


async def withdraw(connection: Connection, number: int, signed: Signed, kind: str | None = None) -> int:
    """Takes a rule, which must be of this kind, out of force; the number of the withdrawal. Raises NoSuchThing."""
    async with transaction(connection):
        await hold_rules(connection)
        cursor = await connection.execute(
            "SELECT c.device_id, c.kind, c.from_at, w.number FROM iot_service.corrections c"
            " LEFT JOIN iot_service.corrections w ON w.withdraws = c.number WHERE c.number = %s",
            (number,),
        )
        row = await cursor.fetchone()
        if row is None or row[1] == WITHDRAWAL or kind not in (None, row[1]):
            raise NoSuchThing(f"no {kind or 'correction'} has the number {number}; see `heal7-iot corrections list`")
        if row[3] is not None:
            raise NoSuchThing(f"correction {number} was withdrawn already, by {row[3]}")
        return await _insert(connection, row[0], signed, {"kind": WITHDRAWAL, "withdraws": number, "from_at": row[2]})


async def _enter(
    connection: Connection, device: int, signed: Signed, *, from_us: int, to_at: datetime | None = None, **told: object
) -> int:
    async with transaction(connection):
        await hold_rules(connection)
        cursor = await connection.execute(
            "SELECT timestamptz 'epoch' + %s * interval '1 microsecond', COALESCE(%s::timestamptz, 'infinity')::text",
            (from_us, to_at),
        )
        row = await cursor.fetchone()
        assert row is not None
        return await _insert(connection, device, signed, {**told, "from_at": row[0], "to_at": row[1]})


async def _insert(connection: Connection, device: int, signed: Signed, told: Mapping[str, object]) -> int:
    columns = ["kind", "from_at", "to_at", "channel", "unit", "coefficients", "was_profile", "profile", "channels"]
    values = {name: told.get(name) for name in [*columns, "withdraws"]}
    values |= {"device_id": device, "by": signed.by, "why": signed.why, "to_at": told.get("to_at", "infinity")}
    cursor = await connection.execute(sql("correction/enter_correction"), values)
    row = await cursor.fetchone()
    assert row is not None
    cursor = await connection.execute(sql("correction/device_profiles"), {"device_id": device})
    profiles = [row[0] for row in await cursor.fetchall()]
    await register_revisions(connection, [(device, profile) for profile in sorted({UNKNOWN, *profiles})])
    return int(row[0])


def _told(channels: Mapping[tuple[str, str], Affine | None]) -> dict[str, object]:
    """What line.corrected reads."""
    return {
        channel: {"unit": unit} | ({} if a is None else {"was": [a.was_scale, a.was_offset], "is": [a.scale, a.offset]})
        for (channel, unit), a in channels.items()
    }
