"""Writes a plan's readings through the server's storage: ledger, latest readings and the log of rollups follow.

Block after block in the order of time, which is how they would have arrived. A gateway's part of a block is a batch of
its own in the ledger, so that the books balance.
"""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from firmware_profiles.selection import ProfileSet
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import MAX_READINGS, Envelope, Kind
from heal7_iot.simulate.backfill.course import Course
from heal7_iot.simulate.backfill.plan import Backfill
from heal7_iot.simulate.errors import CannotSimulate
from ingest_server.app import describe_from
from ingest_server.storage.connection import connect
from ingest_server.storage.keeping.rollups import refreshes
from ingest_server.storage.line.catalogue import Catalogue, CatalogueLimits
from ingest_server.storage.line.group import Entry, write_group
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.line.writer import Writer, partitions_of
from ingest_server.storage.queries import history
from ingest_server.storage.registry import places
from ingest_server.storage.schema.migrations import require_current

_STATEMENT_TIMEOUT_S = 600.0
_ANY = 1_000_000_000
_REFRESH_READINGS = 500_000
# So often the log is worked off: what it reads has just been written, and is in memory.


@dataclass(frozen=True, slots=True)
class Step:
    """So many readings were written, or so many entries of the log worked off, in so many seconds.

    made_s: what it took to make the readings up.
    """

    readings: int
    entries: int
    seconds: float
    made_s: float = 0.0


class Loader:
    """A plan at work on a database. The books of its gateways have an epoch of their own for each run."""

    def __init__(self, writer: Writer, plan: Backfill, course: Course, gateway_ids: list[int], rules: int) -> None:
        self._writer = writer
        self._plan = plan
        self._course = course
        self._gateway_ids = gateway_ids
        self._rules = rules
        self._epoch = secrets.randbits(62) + 1
        self._sealed = [[0, 0] for _ in gateway_ids]  # seqs, readings

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, plan: Backfill, time_zone: str | None) -> AsyncIterator["Loader"]:
        """Registers gateways, devices and series, and hangs them in their rooms.

        time_zone: of a site that has none yet; None leaves it as it is. Raises CannotSimulate, StorageError.
        """
        connection = await connect(dsn, "backfill", _STATEMENT_TIMEOUT_S)
        try:
            await require_current(connection)
            catalogue = Catalogue(connection, CatalogueLimits(_ANY, _ANY), describe_from(ProfileSet.load()))
            writer = Writer(connection, catalogue, await partitions_of(connection))
            await _require_room(writer, plan)
            # As of then: to register series follows the rules, and screens nothing.
            rules = catalogue.rules.number
            zone = await _zone(writer, plan.site, time_zone)
            gateway_ids, series_ids = await _register(writer, plan)
            yield cls(writer, plan, Course(plan, series_ids, zone), gateway_ids, rules)
        finally:
            await connection.close()

    async def run(self) -> AsyncIterator[Step]:
        """Until all is written and the log of rollups is worked off. Raises CannotSimulate, StorageError."""
        written = 0
        for first, slots in self._plan.blocks():
            began_s = time.perf_counter()
            parts = self._course.block(first, slots)
            made_s = time.perf_counter() - began_s
            yield await self._write(parts, made_s)
            written += sum(map(len, parts))
            if written >= _REFRESH_READINGS:
                written = 0
                async for step in self._refresh():
                    yield step
        async for step in self._refresh():
            yield step

    async def _refresh(self) -> AsyncIterator[Step]:
        began_s = time.perf_counter()
        async for entries in refreshes(self._writer.connection):
            if entries:
                yield Step(0, entries, time.perf_counter() - began_s)
            began_s = time.perf_counter()

    async def _write(self, parts: list[Rows], made_s: float) -> Step:
        batches = [
            (n, part.where(slice(first, first + MAX_READINGS)))
            for n, part in enumerate(parts)
            for first in range(0, len(part), MAX_READINGS)
        ]
        entries = [self._entry(n, rows) for n, rows in batches]
        began_s = time.perf_counter()
        while True:
            try:
                done = await write_group(self._writer.connection, self._writer.partitions, entries, QuarantineBound())
            except RulesChanged:
                await _require_no_erasure(self._writer, self._plan)
                self._rules = self._writer.catalogue.rules.number
                entries = [replace(entry, rules=self._rules) for entry in entries]
            else:
                return Step(done.committed, 0, time.perf_counter() - began_s, made_s)

    def _entry(self, number: int, rows: Rows) -> Entry:
        sealed = self._sealed[number]
        envelope = Envelope(
            Kind.DATA, self._plan.gateway(number), self._epoch, sealed[0], len(rows), sealed[1], _ANCHOR, instance=1
        )
        sealed[0] += 1
        sealed[1] += len(rows)
        return Entry(self._gateway_ids[number], envelope, b"", rows, rules=self._rules)


_ANCHOR = Anchor(0, 0, ClockSource.KERNEL)


async def _require_room(writer: Writer, plan: Backfill) -> None:
    """Raises CannotSimulate where the period is not free."""
    begins, ends = _date(plan.from_us), _date(plan.to_us)
    horizon = await history.raw_horizon(writer.connection)
    if horizon is not None and begins < horizon:
        raise CannotSimulate(
            f"--backfill: readings before {horizon:%Y-%m-%d} have been archived: fewer days, so that {begins:%Y-%m-%d}"
            " is not before it"
        )
    found = await history.any_reading(writer.connection, plan.site, begins, ends)
    if found is not None:
        device, at = found
        raise CannotSimulate(
            f"--site {plan.site}: has readings of that time already ({device}, {at:%Y-%m-%d %H:%M} UTC): name another"
            " site"
        )
    await _require_no_erasure(writer, plan)


async def _require_no_erasure(writer: Writer, plan: Backfill) -> None:
    erased = writer.catalogue.rules.erased
    await writer.catalogue.rules.follow(writer.connection)
    for sensor in plan.all_sensors():
        if any(from_us < plan.to_us and plan.from_us < to_us for from_us, to_us in erased.of(plan.site, sensor.device)):
            raise CannotSimulate(f"--site {plan.site}: an erasure forbids readings of that time: name another site")


async def _zone(writer: Writer, site: str, wanted: str | None) -> ZoneInfo:
    found = await history.time_zone(writer.connection, site)
    if wanted is not None and found != wanted:
        if found is not None:
            raise CannotSimulate(f"--time-zone {wanted}: site {site} is in {found}")
        await places.set_time_zone(writer.connection, site, wanted)
    try:
        return ZoneInfo(wanted or found or "UTC")
    except ZoneInfoNotFoundError as error:
        raise CannotSimulate(f"this machine knows no time zone {wanted or found}: install tzdata") from error


async def _register(writer: Writer, plan: Backfill) -> tuple[list[int], np.ndarray]:
    """The numbers of the gateways, and those of the series: (sensors, quantities), int32."""
    gateway_ids, series_ids = [], []
    since, half = _date(plan.from_us), _date(plan.from_us + plan.slots // 2 * plan.period_us)
    for gateway, of_gateway in groupby(plan.all_sensors(), lambda s: s.gateway):
        sensors = list(of_gateway)
        name = plan.gateway(gateway)
        table = await writer.catalogue.table(name, [s for sensor in sensors for s in sensor.series()], time.monotonic())
        for refusal in table.refusals.values():
            raise CannotSimulate(f"--site {plan.site}: {refusal.detail}: name another site")
        gateway_ids.append(await writer.catalogue.gateway_id(name))
        series_ids.append(table.ids.reshape(len(sensors), -1))
        for sensor in sensors:
            rooms = [(sensor.room, since)] + ([] if sensor.moves_to is None else [(sensor.moves_to, half)])
            for room, at in rooms:
                zone = plan.zone(gateway, room)
                await places.place(writer.connection, plan.site, sensor.device, zone, f"wall {sensor.number + 1}", at)
    return gateway_ids, np.concatenate(series_ids)


def _date(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us / 1_000_000, UTC)
