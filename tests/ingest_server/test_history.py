"""What backend services get: the right readings, also where devices were replaced or moved, and on days of 23 hours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from device_drivers.reading import Series
from ingest_server.storage.connection import transaction
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.writer import Writer
from ingest_server.storage.queries import history
from ingest_server.storage.registry import places
from tests.ingest_server.line import open_writer
from tests.ingest_server.rollup_oracle import us_of
from tests.peers.postgres import Database

SITE = "berlin-1"
BERLIN = ZoneInfo("Europe/Berlin")
QUANTITIES = (("temperature", "°C"), ("co2", "ppm"))
# The clock goes from 02:00 to 03:00, and from 03:00 to 02:00.
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def local(day: date, hour: int = 0, minute: int = 0) -> datetime:
    """In UTC, for arithmetic that knows of no odd days."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=BERLIN).astimezone(UTC)


@dataclass(frozen=True)
class Said:
    """One reading as a test knows it."""

    at: datetime
    device: str
    quantity: str
    value: float


@dataclass
class Center:
    """A site in Berlin, and all that its devices said."""

    writer: Writer
    said: list[Said] = field(default_factory=list)

    async def speak(self, device: str, begin: datetime, end: datetime, every: timedelta) -> None:
        """Both quantities at the same times. Values are multiples of 1/4: sums are exact."""
        series = [Series(device, quantity, quantity, unit, "p/1", "1") for quantity, unit in QUANTITIES]
        table = await self.writer.catalogue.table(f"{SITE}/gw", series, 0.0)
        times = [begin + n * every for n in range(-(-(end - begin) // every))]
        new = [
            Said(at, device, quantity, (len(self.said) + 7 * n + 3 * q) % 400 / 4)
            for n, at in enumerate(times)
            for q, (quantity, _) in enumerate(QUANTITIES)
        ]
        ids = np.tile(table.ids, len(times))
        zeros = np.zeros(len(new), dtype=np.int32)
        rows = Rows(np.array([us_of(s.at) for s in new]), ids, np.array([s.value for s in new]), zeros + 90, zeros)
        await self.writer.partitions.ensure(self.writer.connection, rows.times_us)
        async with transaction(self.writer.connection):
            await copy_rows(self.writer.connection, [rows], 0)
        await refresh_all(self.writer.connection)
        self.said += new

    async def device(self, name: str) -> int:
        return await history.device_named(self.writer.connection, SITE, name)

    def of(self, *devices: str) -> list[Said]:
        return sorted((s for s in self.said if s.device in devices), key=lambda s: (s.at, s.quantity))


def plain(readings: Iterable[history.Raw]) -> list[Said]:
    return sorted((Said(r.recorded_at, r.device, r.reading_type, r.value) for r in readings), key=_order)


def _order(said: Said) -> tuple[datetime, str, str]:
    return said.at, said.device, said.quantity


Averages = dict[tuple[object, str], tuple[float, float, float, int]]


def averages(said: Iterable[Said], bucket: Callable[[datetime], object]) -> Averages:
    """By brute force."""
    found: dict[tuple[object, str], list[float]] = {}
    for s in said:
        found.setdefault((bucket(s.at), s.quantity), []).append(s.value)
    return {key: (sum(v) / len(v), min(v), max(v), len(v)) for key, v in found.items()}


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def day_of(at: datetime) -> date:
    return at.astimezone(BERLIN).date()


def by_hour(rows: Iterable[history.Hour]) -> Averages:
    return {(r.hour, r.reading_type): (r.avg_value, r.min_value, r.max_value, r.reading_count) for r in rows}


async def replaced(writer: Writer, at: datetime) -> Center:
    """`old` speaks until some hours after `new` has taken its place, and `new` was tried out before."""
    center = Center(writer)
    await places.set_time_zone(writer.connection, SITE, "Europe/Berlin")
    await center.speak("old", at - 3 * DAY, at + 5 * HOUR, timedelta(minutes=7))
    await center.speak("new", at - 4 * HOUR, at + 3 * DAY, timedelta(minutes=11))
    await places.place(writer.connection, SITE, "old", "hall", "north wall", at - 3 * DAY)
    await places.replace(writer.connection, SITE, "old", "new", at)
    return center


def lineage(center: Center, at: datetime) -> list[Said]:
    return [s for s in center.of("old", "new") if (s.device == "old") == (s.at < at)]


@pytest.mark.parametrize(
    "at",
    [
        local(AUTUMN, 10, 30),
        local(SPRING, 0, 0),
        datetime(2026, 10, 31, 23, 45, tzinfo=UTC),
        datetime(2026, 10, 25, 9, 0, tzinfo=UTC),
    ],
    ids=["within a long day", "midnight before a short day", "before a month begins", "at a whole hour"],
)
async def test_a_devices_history_goes_on_where_its_predecessors_ends(any_database: Database, at: datetime) -> None:
    async with open_writer(any_database) as writer:
        center = await replaced(writer, at)
        connection, device = writer.connection, await center.device("new")
        expected = lineage(center, at)
        begin, end = at - 10 * DAY, at + 10 * DAY
        page = await history.raw_of_device(connection, device, begin, end)
        assert plain(page.readings) == expected
        assert page.next_from is None
        hours = await history.hours_of_device(connection, device, begin, end)
        assert by_hour(hours) == averages(expected, hour_of)
        days = await history.days_of_device(connection, device, begin.date(), end.date())
        assert {
            (d.reading_date, d.reading_type): (d.avg_value, d.min_value, d.max_value, d.reading_count) for d in days
        } == averages(expected, day_of)
        # Of one quantity, and of a part.
        begin, end = at - 2 * HOUR, at + 2 * HOUR
        part = [s for s in expected if s.quantity == "co2"]
        hours = await history.hours_of_device(connection, device, begin, end, reading_type="co2")
        kept = {key: v for key, v in averages(part, hour_of).items() if begin <= key[0] < end}  # type: ignore[operator]
        assert by_hour(hours) == kept
        # The old one's own history is its own.
        alone = await history.raw_of_device(connection, await center.device("old"), at - 10 * DAY, at + 10 * DAY)
        assert plain(alone.readings) == center.of("old")


async def test_three_in_a_row_each_serve_their_time(any_database: Database) -> None:
    """Two of them within one hour."""
    begin = local(AUTUMN, 9)
    first, second = begin + 70 * MINUTE, begin + 85 * MINUTE
    async with open_writer(any_database) as writer:
        center = Center(writer)
        for device in ("a", "b", "c"):
            await center.speak(device, begin, begin + 4 * HOUR, 3 * MINUTE)
        await places.replace(writer.connection, SITE, "a", "b", first)
        await places.replace(writer.connection, SITE, "b", "c", second)
        served = {"a": (begin, first), "b": (first, second), "c": (second, begin + DAY)}
        expected = [s for s in center.of("a", "b", "c") if served[s.device][0] <= s.at < served[s.device][1]]
        last = await center.device("c")
        hours = await history.hours_of_device(writer.connection, last, begin - DAY, begin + DAY)
        assert by_hour(hours) == averages(expected, hour_of)
        days = await history.days_of_device(writer.connection, last, AUTUMN, AUTUMN)
        assert sum(d.reading_count for d in days) == len(expected)
        page = await history.raw_of_device(writer.connection, last, begin - DAY, begin + DAY)
        assert plain(page.readings) == sorted(expected, key=_order)


@pytest.mark.parametrize("most", [1, 7, 64])
async def test_pages_give_each_reading_once(any_database: Database, most: int) -> None:
    """Two quantities share each time: no page ends between them. Over the end of a month."""
    begin = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
    async with open_writer(any_database) as writer:
        center = Center(writer)
        await center.speak("d", begin, begin + 2 * HOUR, 2 * MINUTE)
        device, from_at, got = await center.device("d"), begin, []
        for _ in range(200):
            page = await history.raw_of_device(writer.connection, device, from_at, begin + 2 * HOUR, most=most)
            assert len(page.readings) <= most + 1
            got += page.readings
            if page.next_from is None:
                break
            from_at = page.next_from
        assert [r.recorded_at for r in got] == sorted(r.recorded_at for r in got)
        assert plain(got) == center.of("d")


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (date(2026, 10, 26), 24)])
async def test_a_zones_day_has_what_hung_in_it_at_the_time(any_database: Database, day: date, hours: int) -> None:
    """One device moves out at 12:40, one hangs there all day, one is taken away before."""
    begin, end = local(day), local(day + DAY)
    moved = local(day, 12, 40)
    async with open_writer(any_database) as writer:
        connection, center = writer.connection, Center(writer)
        await places.set_time_zone(connection, SITE, "Europe/Berlin")
        for device in ("stays", "moves", "gone"):
            await center.speak(device, begin - DAY, end + DAY, timedelta(minutes=13))
            await places.place(connection, SITE, device, "hall", "wall", begin - DAY)
        await places.place(connection, SITE, "moves", "lobby", "door", moved)
        await places.place(connection, SITE, "gone", None, None, begin)
        hall = await history.zone_named(connection, SITE, "hall")
        lobby = await history.zone_named(connection, SITE, "lobby")
        in_hall = [s for s in center.of("stays", "moves") if begin <= s.at < (end if s.device == "stays" else moved)]
        in_lobby = [s for s in center.of("moves") if moved <= s.at < end]
        for zone, expected in ((hall, in_hall), (lobby, in_lobby)):
            page = await history.raw_of_zone(connection, zone, begin, end)
            assert plain(page.readings) == sorted(expected, key=_order)
            found = await history.hours_of_zone(connection, zone, begin, end)
            for device in ("stays", "moves"):
                assert {
                    (h.hour, h.reading_type): (h.avg_value, h.min_value, h.max_value, h.reading_count)
                    for h in found
                    if h.device == device
                } == averages((s for s in expected if s.device == device), hour_of)
        in_hours = await history.hours_of_zone(connection, hall, begin, end, reading_type="co2")
        assert len({h.hour for h in in_hours if h.device == "stays"}) == hours
        assert {h.position for h in await history.hours_of_zone(connection, lobby, begin, end)} == {"door"}


@pytest.mark.parametrize(("first", "after"), [(20, 130), (20, 40), (60, 90), (45, 120)])
async def test_part_of_an_hour_is_that_part_alone(any_database: Database, first: int, after: int) -> None:
    begin = local(AUTUMN, 9)
    async with open_writer(any_database) as writer:
        center = Center(writer)
        await center.speak("d", begin, begin + 4 * HOUR, 3 * MINUTE)
        await places.place(writer.connection, SITE, "d", "hall", None, begin - DAY)
        zone = await history.zone_named(writer.connection, SITE, "hall")
        part = begin + first * MINUTE, begin + after * MINUTE
        found = await history.hours_of_zone(writer.connection, zone, *part)
        assert {
            (h.hour, h.reading_type): (h.avg_value, h.min_value, h.max_value, h.reading_count) for h in found
        } == averages((s for s in center.said if part[0] <= s.at < part[1]), hour_of)


async def test_latest_is_the_newest_of_each_series(any_database: Database) -> None:
    begin = local(AUTUMN, 9)
    async with open_writer(any_database) as writer:
        center = Center(writer)
        for device in ("a", "b"):
            await center.speak(device, begin, begin + HOUR, 7 * MINUTE)
        # Late: it is not the latest.
        await center.speak("b", begin - DAY, begin - DAY + HOUR, 7 * MINUTE)
        await places.place(writer.connection, SITE, "a", "hall", "door", begin)
        newest = {d: [s for s in center.of(d) if s.at == begin + 56 * MINUTE] for d in ("a", "b")}
        found = await history.latest_of_device(writer.connection, await center.device("b"))
        assert [(f.reading_type, f.value, f.recorded_at) for f in found] == [
            (s.quantity, s.value, s.at) for s in newest["b"]
        ]
        of_site = await history.latest_of_site(writer.connection, SITE)
        assert [(f.device, f.reading_type, f.value) for f in of_site] == [
            (s.device, s.quantity, s.value) for s in newest["a"] + newest["b"]
        ]
        assert [f.zone for f in of_site] == ["hall", "hall", None, None]
        assert {f.reliability_score for f in of_site} == {0.9}
        assert await history.latest_of_site(writer.connection, "elsewhere") == []


async def test_what_is_unknown_is_named_with_what_is_like_it(database: Database) -> None:
    begin = local(AUTUMN, 9)
    async with open_writer(database) as writer:
        center = Center(writer)
        await center.speak("lobby-air", begin, begin + HOUR, HOUR)
        await places.place(writer.connection, SITE, "lobby-air", "lobby", None, begin)
        with pytest.raises(places.NoSuchThing, match=r"no device loby-air at site berlin-1 \(is it lobby-air\?\)"):
            await center.device("loby-air")
        with pytest.raises(places.NoSuchThing, match=r"no zone loby at site berlin-1 \(is it lobby\?\)"):
            await history.zone_named(writer.connection, SITE, "loby")
        with pytest.raises(places.NoSuchThing, match=r"no site berlin-2 \(is it berlin-1\?\)"):
            await history.zone_named(writer.connection, "berlin-2", "lobby")
        with pytest.raises(places.NoSuchThing, match=r"no site x; see"):
            await history.device_named(writer.connection, "x", "lobby-air")
