"""What a rule would change of what is stored, before anybody says yes to it. Changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ingest_server.storage.connection import Connection, sql, translated
from ingest_server.storage.correction.computing import DeviceSeries, Stored, computed
from ingest_server.storage.correction.rewriting import device_series, profiles_behind, reach_of, rules_of
from ingest_server.storage.frames import keeping
from ingest_server.storage.frames.reading import Decode, Frames
from ingest_server.storage.line.corrected import EVER, UNKNOWN, Calibration, Decoder, DeviceRules


@dataclass(frozen=True, slots=True)
class Example:
    """One stored reading: its time, Unix µs; what is in the table now, and what would be."""

    at_us: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Affected:
    """What a rule reaches of a channel. presumed: readings of them that are taken for the named profile's, since they
    were written after the server had met another one."""

    channel: str
    unit: str
    readings: int
    presumed: int
    examples: tuple[Example, ...]


async def of_new(
    connection: Connection, device: tuple[int, str, str], rule: Calibration | Decoder, decode: Decode
) -> list[Affected]:
    """What a rule that is not in force yet would change of a device (device_id, site, device)."""
    rules = await rules_of(connection, *device)
    # As the newest of all: so it will be.
    rules.add(replace(rule, number=EVER))
    return await _affected(connection, device, rule, rules, decode)


async def of_withdrawal(
    connection: Connection, device: tuple[int, str, str], number: int, decode: Decode
) -> list[Affected]:
    """What the withdrawal of a rule that is in force would change."""
    rules = await rules_of(connection, *device)
    both: list[Calibration | Decoder] = [*rules.calibrations, *rules.decoders]
    rule = next(r for r in both if r.number == number)
    rules.calibrations = [c for c in rules.calibrations if c.number != number]
    rules.decoders = [d for d in rules.decoders if d.number != number]
    return await _affected(connection, device, rule, rules, decode)


async def _affected(
    connection: Connection,
    device: tuple[int, str, str],
    rule: Calibration | Decoder,
    rules: DeviceRules,
    decode: Decode,
) -> list[Affected]:
    reach = await reach_of(connection, device, rule)
    behind = await profiles_behind(connection, device[0])
    known = {profile for s in await device_series(connection, device[0]) for profile, _ in s.profiles}
    # Which number a revision will have is of no interest here.
    profiles = {UNKNOWN, *known, *behind.values(), *(d.was for d in rules.decoders)}
    rules.revisions = dict.fromkeys(profiles, 1)
    with translated():
        cursor = await connection.execute(sql("correction/sample_readings"), reach.span, prepare=False)
        sampled = await cursor.fetchall()
        presumed = await _presumed(connection, reach.series, reach.span) if isinstance(rule, Decoder) else {}
        frames = Frames(await keeping.read_at(connection, device[0], sorted({row[2] for row in sampled})), decode)
    found = []
    for one in reach.series:
        own = [row[1:] for row in sampled if row[0] == one.series_id]
        examples = _examples(own, one, behind, rules, frames)
        found.append(Affected(one.channel, one.unit, own[0][0] if own else 0, presumed.get(one.series_id, 0), examples))
    return found


def _examples(
    own: list[tuple[Any, ...]], one: DeviceSeries, behind: dict[int, str], rules: DeviceRules, frames: Frames
) -> tuple[Example, ...]:
    if not own:
        return ()
    _, times, created, before, arrived, revisions = zip(*own, strict=True)
    zeros = np.zeros(len(own), np.int32)
    rows = Stored(
        np.array(times, np.int64),
        np.array(created, np.int64),
        np.array(arrived, np.float64),
        zeros + np.int32(one.series_id),
        zeros,
        zeros,
        np.array(revisions, np.int32),
    )
    after = computed(rows, [one], behind, rules, frames).values.tolist()
    return tuple(Example(*row) for row in zip(times, before, after, strict=True))


async def _presumed(connection: Connection, series: Sequence[DeviceSeries], span: dict[str, object]) -> dict[int, int]:
    several = [s for s in series if len(s.profiles) > 1]
    cursor = await connection.execute(
        sql("correction/count_presumed"),
        {
            **span,
            "series_ids": [s.series_id for s in several],
            "since_us": [s.profiles[1][1] for s in several],
        },
        prepare=False,
    )
    return dict(await cursor.fetchall())
