"""`make bench-storage`: a year of readings through the server's storage, and what backend services then wait for.

1,000 series over 12 months, native partitions, fsync on, loaded by what `heal7-iot simulate --backfill` loads with:
COPY, ledger, latest readings and the log of rollups in one transaction, rollups refreshed in between. Then each query
of `storage.queries.history` many times on one connection, of devices, zones and times by chance. Exit code 1 where a
p95 is above the platform's target, or where the last readings go in slower than the first. The last line printed is
one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from heal7_iot.embedded.postgres import EmbeddedPostgres
from heal7_iot.simulate.backfill.load import Loader, Step
from heal7_iot.simulate.backfill.plan import Backfill
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.queries import history
from ingest_server.storage.schema.migrations import migrate

TARGET_MS = 100.0
"""The platform's, at p95."""
RATIO = 0.9
"""Load rate of the last 5 % by that of the first, at least."""
ENDS = 0.05
SETTINGS = {
    "shared_buffers": "2GB",
    "effective_cache_size": "12GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
}
"""Beside PostgreSQL's own; fsync, full_page_writes and synchronous_commit are on."""
_GATEWAYS, _SENSORS, _DAYS = 10, 20, 365
_SEED = 7
_TIME_ZONE = "Asia/Seoul"
console = Console(stderr=True)

_SIZES = """
SELECT CASE WHEN c.relname ~ '^sensor_readings' THEN 'readings' ELSE 'rollups' END, c.relkind = 'i',
       sum(pg_relation_size(c.oid))::bigint
  FROM pg_class c
 WHERE c.relnamespace = 'iot_service'::regnamespace AND c.relkind IN ('r', 'i')
   AND c.relname ~ '^(sensor_readings|rollup_1|rollup_site)'
 GROUP BY 1, 2
"""


@dataclass(frozen=True)
class Loaded:
    """readings_per_s: of the transactions that wrote readings; first, last: of the ends; seconds: everything."""

    readings: int
    seconds: float
    readings_per_s: float
    first: float
    last: float
    write_s: float
    rollups_s: float
    made_s: float

    @property
    def ratio(self) -> float:
        return self.last / self.first


async def load(dsn: str, plan: Backfill) -> Loaded:
    """Writes the plan and works off the log of rollups."""
    steps: list[Step] = []
    began_s = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("readings", total=plan.readings)
        async with Loader.open(dsn, plan, _TIME_ZONE) as loader:
            async for step in loader.run():
                steps.append(step)
                progress.advance(task, step.readings)
    seconds = time.perf_counter() - began_s
    writes = [step for step in steps if step.readings]
    first, last = ends_of(steps, plan.readings)
    return Loaded(
        readings=sum(s.readings for s in writes),
        seconds=seconds,
        readings_per_s=_rate(writes),
        first=first,
        last=last,
        write_s=sum(s.seconds for s in writes),
        rollups_s=sum(s.seconds for s in steps if s.entries),
        made_s=sum(s.made_s for s in writes),
    )


def ends_of(steps: list[Step], readings: int) -> tuple[float, float]:
    """Readings a second of the first and of the last twentieth."""
    writes = [step for step in steps if step.readings]
    first, last = (_until(some, ENDS * readings) for some in (writes, writes[::-1]))
    return _rate(first), _rate(last)


def _until(writes: list[Step], readings: float) -> list[Step]:
    taken, so_far = [], 0
    for step in writes:
        taken.append(step)
        so_far += step.readings
        if so_far >= readings:
            break
    return taken


def _rate(writes: list[Step]) -> float:
    return sum(s.readings for s in writes) / sum(s.seconds for s in writes)


@dataclass(frozen=True)
class Question:
    """What a backend service asks; ask: with times and names by chance, gives the number of rows."""

    name: str
    ask: Callable[[random.Random], Awaitable[int]]


_SHOWN = ("rows", "first_ms", "p50_ms", "p95_ms", "p99_ms", "again_ms")


class Questions:
    """Of the plan's devices, zones and times."""

    def __init__(self, connection: Connection, plan: Backfill, devices: list[int], zones: list[int]) -> None:
        self._connection = connection
        self._plan = plan
        self._devices = devices
        self._zones = zones

    def all(self) -> list[Question]:
        return [
            Question("latest value of a device", self._latest),
            Question("latest values of a site", self._site),
            Question("a device's 24 h, raw", self._raw),
            Question("a device's 30 days by hour", self._hours),
            Question("a device's 12 months by day", self._days),
            Question("a zone's day by hour", self._zone),
            Question("a zone's day, raw", self._zone_raw),
        ]

    def _ends(self, chance: random.Random, length: timedelta) -> tuple[datetime, datetime]:
        """An interval of this length anywhere in the plan's time."""
        begins, ends = _date(self._plan.from_us), _date(self._plan.to_us)
        to_at = begins + length + chance.random() * (ends - begins - length)
        return to_at - length, to_at

    async def _latest(self, chance: random.Random) -> int:
        return len(await history.latest_of_device(self._connection, chance.choice(self._devices)))

    async def _site(self, chance: random.Random) -> int:
        del chance
        return len(await history.latest_of_site(self._connection, self._plan.site))

    async def _raw(self, chance: random.Random) -> int:
        device, times = chance.choice(self._devices), self._ends(chance, timedelta(days=1))
        return len((await history.raw_of_device(self._connection, device, *times)).readings)

    async def _hours(self, chance: random.Random) -> int:
        device, times = chance.choice(self._devices), self._ends(chance, timedelta(days=30))
        return len(await history.hours_of_device(self._connection, device, *times))

    async def _days(self, chance: random.Random) -> int:
        first, last = _date(self._plan.from_us).date(), _date(self._plan.to_us).date()
        return len(await history.days_of_device(self._connection, chance.choice(self._devices), first, last))

    async def _zone(self, chance: random.Random) -> int:
        zone, times = chance.choice(self._zones), self._ends(chance, timedelta(days=1))
        return len(await history.hours_of_zone(self._connection, zone, *times))

    async def _zone_raw(self, chance: random.Random) -> int:
        zone, times = chance.choice(self._zones), self._ends(chance, timedelta(days=1))
        return len((await history.raw_of_zone(self._connection, zone, *times)).readings)


async def ask(dsn: str, plan: Backfill, times: int) -> dict[str, dict[str, float]]:
    """Each question so often, in ms: first (not among the others), p50, p95, p99, and the rows of the median answer.

    again: p95 of the same questions asked once more, when what they need is in memory.
    """
    connection = await connect(dsn, "bench", 60)
    try:
        devices = await _column(connection, "SELECT device_id FROM iot_service.iot_devices ORDER BY 1")
        zones = await _column(connection, "SELECT location_id FROM iot_service.zones ORDER BY 1")
        found = {}
        for question in Questions(connection, plan, devices, zones).all():
            chance = random.Random(_SEED)
            taken = [await _timed(question, chance) for _ in range(times + 1)]
            chance = random.Random(_SEED)
            again = [await _timed(question, chance) for _ in range(times + 1)]
            (first_ms, _), rest = taken[0], _sorted_ms(taken[1:])
            found[question.name] = {
                "first_ms": round(first_ms, 2),
                **{f"p{p}_ms": _percentile(rest, p) for p in (50, 95, 99)},
                "again_ms": _percentile(_sorted_ms(again[1:]), 95),
                "rows": sorted(rows for _, rows in taken)[len(taken) // 2],
            }
        return found
    finally:
        await connection.close()


def _sorted_ms(taken: list[tuple[float, int]]) -> list[float]:
    return sorted(ms for ms, _ in taken)


def _percentile(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)


async def _timed(question: Question, chance: random.Random) -> tuple[float, int]:
    began_s = time.perf_counter()
    rows = await question.ask(chance)
    return (time.perf_counter() - began_s) * 1000, rows


async def _column(connection: Connection, statement: str) -> list[int]:
    cursor = await connection.execute(statement.encode())
    return [row[0] for row in await cursor.fetchall()]


async def _prepare(dsn: str) -> None:
    connection = await connect(dsn, "bench", 60)
    await migrate(connection)
    await connection.close()


def _sizes(dsn: str, readings: int) -> dict[str, float]:
    """Bytes a reading."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        rows = connection.execute(_SIZES.encode()).fetchall()
    names = {
        ("readings", False): "table",
        ("readings", True): "index",
        ("rollups", False): "rollups",
        ("rollups", True): "rollups_index",
    }
    return {names[what, index]: round(size / readings, 1) for what, index, size in rows}


def _forget(directory: Path) -> None:
    """Has the kernel give up what it holds of these files, and of no others."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _date(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us / 1_000_000, UTC)


def _show(plan: Backfill, loaded: Loaded, sizes: dict[str, float], asked: dict[str, dict[str, float]]) -> None:
    console.print(
        f"{loaded.readings:,} readings of {plan.series:,} series over {plan.days:g} days, PostgreSQL with"
        f" {', '.join(f'{k}={v}' for k, v in SETTINGS.items())}, fsync on\n"
        f"loaded in {loaded.seconds:,.0f} s: {loaded.write_s:,.0f} s writing, {loaded.rollups_s:,.0f} s rollups,"
        f" {loaded.made_s:,.0f} s making readings up\n"
        f"writing: {loaded.readings_per_s:,.0f} readings/s; first 5 % {loaded.first:,.0f}, last 5 % {loaded.last:,.0f}:"
        f" ratio {loaded.ratio:.3f} (aim {RATIO})\n"
        f"bytes a reading: {', '.join(f'{k} {v}' for k, v in sizes.items())}",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(title=f"queries, ms (target at p95: {TARGET_MS:g})", title_justify="left")
    for column in ("query", "rows", "first", "p50", "p95", "p99", "p95 again"):
        table.add_column(column, justify="left" if column == "query" else "right")
    for name, figures in asked.items():
        table.add_row(name, *(f"{figures[k]:,g}" for k in _SHOWN))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=100_000_000, help="how many (default 100 million)")
    parser.add_argument("--times", type=int, default=400, help="how often each query is asked (default 400)")
    parser.add_argument("--keep", action="store_true", help="leave the database where it is")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="h7s-"))
    directory.chmod(0o755)
    # Midnight of the year's last day: the same months, whenever it is run.
    to_us = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
    plan = Backfill("bench", _GATEWAYS, _SENSORS, 1.0, 0.1, _SEED, to_us, _DAYS).of_readings(given.readings)
    postgres = EmbeddedPostgres(directory / "pg", SETTINGS)
    try:
        postgres.start()
        dsn = postgres.dsn()
        asyncio.run(_prepare(dsn))
        loaded = asyncio.run(load(dsn, plan))
        sizes = _sizes(dsn, loaded.readings)
        # What was just written is in memory: begin as after a restart of the machine.
        postgres.stop()
        _forget(postgres.data)
        postgres.start()
        asked = asyncio.run(ask(dsn, plan, given.times))
    finally:
        postgres.stop("immediate")
        if given.keep:
            console.print(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    _show(plan, loaded, sizes, asked)
    slow = [name for name, figures in asked.items() if figures["p95_ms"] > TARGET_MS]
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "settings": SETTINGS,
                "readings": loaded.readings,
                "series": plan.series,
                "days": plan.days,
                "load_readings_per_s": round(loaded.readings_per_s),
                "load_first_per_s": round(loaded.first),
                "load_last_per_s": round(loaded.last),
                "load_ratio": round(loaded.ratio, 3),
                "seconds": round(loaded.seconds, 1),
                "write_s": round(loaded.write_s, 1),
                "rollups_s": round(loaded.rollups_s, 1),
                "made_s": round(loaded.made_s, 1),
                "bytes_a_reading": sizes,
                "queries": asked,
                "slow": slow,
            }
        )
    )
    if slow or loaded.ratio < RATIO:
        sys.exit(1)


if __name__ == "__main__":
    main()
