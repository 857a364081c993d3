"""Quarantine to live with: bounded for each gateway, every reading of it in the books, and a way out of it."""

import asyncio
import random
import time
from pathlib import Path

import psycopg
import pytest

from device_drivers.interpretation import raw_reading, raw_series
from device_drivers.reading import Reading
from device_drivers.serial_line.plantower import Frame, encode
from firmware_profiles.selection import ProfileSet
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from gateway.link.wire import Gap
from ingest_server.quarantine import Replayed, describe, replay, times_us
from ingest_server.screening import AcceptedTime
from ingest_server.storage.line import liveness
from ingest_server.storage.line.catalogue import CatalogueLimits
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.quarantine import entries
from ingest_server.storage.quarantine.entries import Filter
from ingest_server.storage.queries import fleet
from tests.golden.wire import independent
from tests.ingest_server.line import (
    ANCHOR,
    DAY,
    EPOCH,
    GATEWAY,
    LIMITS,
    NOW_US,
    RETENTION_DAYS,
    SECOND,
    books_of,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    settle,
    settled,
    status,
    until_waiting_for_a_lock,
    values,
)
from tests.peers.postgres import Database

ATTIC = "seoul-1/attic"
OLD = NOW_US - 500 * DAY
ACCEPTED = AcceptedTime.at(NOW_US, RETENTION_DAYS)
PROFILES = ProfileSet.load()
ENTRIES = "SELECT seq, reason, readings FROM iot_service.quarantine ORDER BY quarantine_id"
GAPS = "SELECT reason, readings, seqs::text FROM iot_service.data_gaps ORDER BY gap_id"


def useless(
    seq: int, *, gateway: str = GATEWAY, count: int = 2, epoch: int = EPOCH, before: int | None = None
) -> bytes:
    """A batch of readings that are all too old; the more of them, the larger."""
    draw = random.Random(seq)
    held = [reading(seq if n < 2 else draw.random(), OLD + n) for n in range(count)]
    return data(seq, held, before=seq * count if before is None else before, gateway=gateway, epoch=epoch)


def book(next_seq: int, sealed: int) -> EpochBook:
    """Of a gateway that holds nothing any more."""
    return EpochBook(epoch=EPOCH, next=next_seq, sealed=sealed, held=RangeSet())


async def all_of(
    database: Database,
    *,
    accepted: AcceptedTime = ACCEPTED,
    profiles: ProfileSet = PROFILES,
    limits: CatalogueLimits = LIMITS,
) -> list[Replayed]:
    """Every entry that waits, tried again."""
    async with open_writer(database, limits) as writer:
        results = []
        async for number in entries.waiting_ids(writer.connection, Filter()):
            found = await entries.read_entry(writer.connection, number)
            assert found is not None
            results.append(await replay(writer, *found, accepted=accepted, profiles=profiles, now_s=time.monotonic()))
    return results


async def equation(database: Database, gateway: str = GATEWAY) -> tuple[int, int, int, int]:
    """(sealed, committed, quarantined, dropped), once the books are known to balance, down to rows and gaps."""
    books = await books_of(database, gateway)
    assert books.balanced
    assert books.sealed == books.committed + books.quarantined + books.dropped + books.presumed_lost + books.in_flight
    of = "JOIN iot_service.gateways g USING (gateway_id) WHERE g.name = %s"
    waiting = f"SELECT COALESCE(sum(readings), 0)::bigint FROM iot_service.quarantine {of}"
    told = f"SELECT COALESCE(sum(readings), 0)::bigint FROM iot_service.data_gaps {of} AND reason <> 'presumed_lost'"
    assert (database.one(waiting, gateway), database.one(told, gateway)) == (books.quarantined, books.dropped)
    return books.sealed, books.committed, books.quarantined, books.dropped


# -- the bound


async def test_beyond_the_number_of_entries_readings_are_dropped_and_a_gap_says_so(database: Database) -> None:
    async with running_line(database, bound=QuarantineBound(entries=2)) as line:
        await line.settle(*(useless(seq) for seq in range(5)), data(5, before=10))
    assert database.query(ENTRIES) == [(0, "time_too_old", 2), (1, "time_too_old", 2)]
    assert database.query(GAPS) == [("quarantine_bound", 6, "{[2,5)}")]
    assert database.query(
        "SELECT (extract(epoch FROM from_at) * 1000000)::bigint,"
        " (extract(epoch FROM to_at) * 1000000)::bigint FROM iot_service.data_gaps"
    ) == [(OLD, OLD + 1)]
    assert await equation(database) == (12, 2, 4, 6)
    assert settled(database) == "{[0,6)}", "a gateway must not send for ever what nobody keeps"
    assert (line.counters.committed, line.counters.quarantined, line.counters.dropped) == (2, 4, 6)


async def test_the_bound_in_bytes_lets_in_what_still_fits(database: Database) -> None:
    small, large = useless(0), useless(1, count=600, before=2)
    assert len(large) > 2 * len(small)
    async with running_line(database, bound=QuarantineBound(bytes=2 * len(small) + 100)) as line:
        await line.settle(small, large, data(2, [reading(2, OLD)], before=602))
    assert [row[0] for row in database.query(ENTRIES)] == [0, 2]
    assert await equation(database) == (603, 0, 3, 600)


async def test_a_gateway_at_its_bound_takes_no_room_of_another(database: Database) -> None:
    async with running_line(database, bound=QuarantineBound(entries=3)) as line:
        events = line.feed(*(useless(seq) for seq in range(9)))
        events += line.feed(useless(0, gateway=ATTIC), gateway=ATTIC)
        await line.acknowledged(events)
        await line.acknowledged(line.feed(useless(1, gateway=ATTIC), gateway=ATTIC))
    assert await equation(database) == (18, 0, 6, 12)
    assert await equation(database, ATTIC) == (4, 0, 4, 0)


async def test_a_gateway_that_goes_on_grows_one_gap(database: Database) -> None:
    """With a row for each of its batches it would fill the database by its gaps."""
    async with running_line(database, bound=QuarantineBound(entries=0)) as line:
        for seq in range(6):
            await line.settle(useless(seq))
        assert database.query(GAPS) == [("quarantine_bound", 12, "{[0,6)}")]
        database.query("UPDATE iot_service.data_gaps SET recorded_at = recorded_at - interval '61 min'")
        await line.settle(useless(6), useless(0, epoch=7))
    assert database.query(GAPS)[1:] == [("quarantine_bound", 2, "{[6,7)}"), ("quarantine_bound", 2, "{[0,1)}")]
    assert await equation(database) == (16, 0, 0, 16)


async def test_at_the_bound_the_oldest_replayed_entries_go_first(database: Database) -> None:
    async with running_line(database, bound=QuarantineBound(entries=4)) as line:
        await line.settle(*(useless(seq) for seq in range(4)))
        assert {r.committed for r in await all_of(database, accepted=AcceptedTime(0, NOW_US))} == {2}
        await line.settle(useless(4), useless(5), useless(6))
        assert [row[0] for row in database.query(ENTRIES)] == [3, 4, 5, 6]
        await line.settle(useless(7), useless(8))
    assert [row[0] for row in database.query(ENTRIES)] == [4, 5, 6, 7]
    assert await equation(database) == (18, 8, 8, 2)
    assert (await books_of(database)).replayed == 8, "counted for good, though the entries are gone"


async def test_room_in_bytes_is_made_by_as_many_replayed_entries_as_it_takes(database: Database) -> None:
    sizes = [len(useless(seq)) for seq in range(4)]
    large = useless(5, count=200)
    bound = QuarantineBound(bytes=sum(sizes) + len(large) - sizes[0] - sizes[1])
    async with running_line(database, bound=bound) as line:
        await line.settle(*(useless(seq) for seq in range(4)))
        await all_of(database, accepted=AcceptedTime(0, NOW_US))
        await line.settle(large)
    # Two of four were enough, and no more went.
    assert [row[0] for row in database.query(ENTRIES)] == [2, 3, 5]
    assert database.one("SELECT sum(octet_length(payload)) FROM iot_service.quarantine") <= bound.bytes


async def test_two_workers_do_not_both_take_the_last_place(database: Database) -> None:
    """They settle different epochs, so that no row of the ledger makes one wait for the other."""
    await settle(database, data(0, epoch=1), data(0, epoch=2))
    bound = QuarantineBound(entries=1)
    with psycopg.connect(database.dsn) as blocker:
        async with running_line(database, bound=bound) as a, running_line(database, bound=bound) as b:
            blocker.execute("LOCK TABLE iot_service.quarantine IN SHARE MODE")
            events = a.feed(useless(1, epoch=1))
            await until_waiting_for_a_lock(database, 1)
            events += b.feed(useless(1, epoch=2))
            await until_waiting_for_a_lock(database, 2)
            blocker.rollback()
            await a.acknowledged(events)
    assert len(database.query(ENTRIES)) == 1
    assert await equation(database) == (8, 4, 2, 2)


async def test_what_finds_no_room_may_be_a_presumed_loss_that_arrived(database: Database) -> None:
    async with open_writer(database) as writer, running_line(database, bound=QuarantineBound(entries=0)) as line:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for beat in range(2):
            await liveness.hear(
                writer.connection, number, status(book(2, 4), beat=beat), lost_after_s=0, device_silence_s=9
            )
        assert (await books_of(database)).presumed_lost == 4
        await line.settle(useless(1))
    books = await books_of(database)
    assert (books.dropped, books.presumed_lost, books.balanced) == (2, 2, True)


# -- the way out


async def test_discarded_entries_count_as_dropped(database: Database) -> None:
    await settle(database, useless(0), data(1, [reading(1.0), reading(float("nan"))], before=2))
    async with open_writer(database) as writer:
        waiting = await entries.list_entries(writer.connection, Filter(), waiting_only=True, limit=9)
        for entry in waiting:
            found = await entries.read_entry(writer.connection, entry.quarantine_id)
            assert found is not None
            assert await entries.discard(writer.connection, entry, times_us(*found))
            assert not await entries.discard(writer.connection, entry, None), "once"
    assert database.query(
        "SELECT reason, readings, seqs::text, (extract(epoch FROM from_at) * 1000000)::bigint"
        " FROM iot_service.data_gaps ORDER BY gap_id"
    ) == [
        ("discarded", 1, "{[1,2)}", NOW_US),
        ("discarded", 2, "{[0,1)}", OLD),
    ]
    assert await equation(database) == (4, 1, 0, 3)


async def test_replayed_entries_are_pruned_after_their_time(database: Database) -> None:
    await settle(database, useless(0), useless(1), useless(2, gateway=GATEWAY))
    await all_of(database, accepted=AcceptedTime(0, NOW_US))
    await settle(database, useless(3))
    database.query("UPDATE iot_service.quarantine SET replayed_at = now() - interval '31 days' WHERE seq < 2")
    async with open_writer(database) as writer:
        assert await entries.prune_replayed(writer.connection, 30.0) == 2
        assert await entries.prune_replayed(writer.connection, 30.0) == 0
    assert [row[0] for row in database.query(ENTRIES)] == [2, 3]
    assert await equation(database) == (8, 6, 2, 0)


async def test_totals_by_reason(database: Database) -> None:
    await settle(database, useless(0), data(1, [reading(1.0), reading(float("nan"))], before=2))
    await settle(database, useless(0, gateway=ATTIC), gateway=ATTIC)
    async with open_writer(database) as writer:
        found = await entries.totals(writer.connection)
    assert [(t.reason, t.entries, t.readings, t.gateways, t.replayed_entries) for t in found] == [
        # The device belongs to the first gateway that claimed it.
        ("device_elsewhere", 1, 2, 1, 0),
        ("time_too_old", 1, 2, 1, 0),
        ("value_not_finite", 1, 1, 1, 0),
    ]
    await all_of(database, accepted=AcceptedTime(0, NOW_US))
    async with open_writer(database) as writer:
        after = {t.reason: t for t in await entries.totals(writer.connection)}
    old = after["time_too_old"]
    assert (old.entries, old.readings, old.bytes, old.replayed_entries, old.replayed_readings) == (0, 0, 0, 1, 2)
    assert after["value_not_finite"].readings == 1


async def test_the_walk_over_what_waits_ends_though_more_comes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "_PAGE", 3)
    await settle(database, *(useless(seq) for seq in range(4)))
    seen = []
    async with open_writer(database) as writer, running_line(database) as line:
        async for number in entries.waiting_ids(writer.connection, Filter(gateway=GATEWAY)):
            seen.append(number)
            await line.settle(useless(10 + len(seen)))
        assert [n async for n in entries.waiting_ids(writer.connection, Filter(gateway=ATTIC))] == []
        assert await entries.count_waiting(writer.connection, Filter("time_too_old", GATEWAY)) == 8
    assert seen == [1, 2, 3, 4]


# -- gaps


async def test_a_gap_in_quarantine_is_replayed(database: Database) -> None:
    """The database refused it once; meanwhile one of its seqs was presumed lost and another has arrived."""
    database.query("ALTER TABLE iot_service.data_gaps ADD CONSTRAINT sane CHECK (reason <> 'bound')")
    await settle(database, gap(4, [dropped(0, [2, 2, 2]), Gap("bound", 0, 0, (), 7, None, None)], before=6))
    assert database.query(ENTRIES) == [(4, "refused_by_database", 0)]
    assert settled(database) == "{[4,5)}"
    await settle(database, data(1))
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for beat in range(2):
            said = status(book(5, 6), beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=9)
        database.query(
            "UPDATE iot_service.ledger SET last_batch_at = now() - interval '1 h',"
            " missing_since = now() - interval '1 h'"
        )
        await liveness.hear(writer.connection, number, status(book(5, 6), beat=9), lost_after_s=0, device_silence_s=9)
    assert (await books_of(database)).presumed_lost == 4
    assert [r.why for r in await all_of(database)] != [""], "it is refused as before"
    database.query("ALTER TABLE iot_service.data_gaps DROP CONSTRAINT sane")
    assert [(r.committed, r.left, r.gaps, r.why) for r in await all_of(database)] == [(0, 0, 2, "")]
    assert await all_of(database) == []
    assert database.query(
        "SELECT reason, readings, corrected, seqs::text FROM iot_service.data_gaps ORDER BY 1, 2"
    ) == [
        ("bound", 4, 0, "{[0,1),[2,3)}"),
        ("bound", 7, 0, None),
        ("presumed_lost", 4, 4, "{[3,4)}"),
    ]
    books = await books_of(database)
    assert (books.sealed, books.committed, books.dropped, books.presumed_lost) == (6, 2, 4, 0)
    assert books.balanced


# -- raw frames


def raw_batch(firmware: str, *frames: bytes, anchor: Anchor = ANCHOR, extra: list[Reading] | None = None) -> bytes:
    """A batch as a gateway sends it that knows no profile for the firmware."""
    series = raw_series("lobby-air", firmware)
    held = [raw_reading(series, f, NOW_US + n - ANCHOR.offset_us) for n, f in enumerate(frames)]
    return data(0, [*held, *(extra or [])], before=0, anchor=anchor)


def profile_of_new_firmware(directory: Path, *names: str) -> ProfileSet:
    """The profiles that are shipped, and others for firmware 250."""
    text = (Path(__file__).parents[2] / "firmware_profiles/profiles/plantower/pms5003.toml").read_text()
    (directory / "shipped.toml").write_text(text)
    for n, name in enumerate(names):
        changed = text.replace('"plantower-pms5003/1"', f'"{name}"').replace('["PMS5003", "PMS7003"]', f'["M{n}"]')
        (directory / f"{n}.toml").write_text(changed.replace('">=100,<200"', '">=250,<251"'))
    return ProfileSet.load(directory)


async def test_raw_frames_are_decoded_once_a_profile_knows_their_firmware(database: Database, tmp_path: Path) -> None:
    frames = [encode(Frame(pm2_5=n, particles_0_3=100 + n, version=250)) for n in (7, 8)]
    rest = [raw_reading(raw_series("lobby-air", "250"), b"no frame", NOW_US + 9 - ANCHOR.offset_us), reading(1.5)]
    doubtful = Anchor(ANCHOR.offset_us, 5 * SECOND, ClockSource.KERNEL)
    await settle(database, raw_batch("250", *frames, anchor=doubtful, extra=rest))
    assert database.query(ENTRIES) == [(0, "unknown_firmware", 3)]
    (unknown,) = await all_of(database)
    assert (unknown.committed, unknown.left) == (0, 3)
    assert "250, which no profile knows" in unknown.why
    known = profile_of_new_firmware(tmp_path, "plantower-new/1")
    (told,) = await all_of(database, profiles=known)
    assert (told.committed, told.left) == (2, 1), "a frame is one reading of the books, however many rows it makes"
    assert database.query(
        "SELECT s.channel, r.value, (extract(epoch FROM r.recorded_at) * 1000000)::bigint - %s, r.reliability, r.causes"
        " FROM iot_service.sensor_readings r JOIN iot_service.series s USING (series_id)"
        " WHERE s.channel IN ('pm2_5', 'particles_0_3') ORDER BY 1, 2",
        NOW_US,
    ) == [
        ("particles_0_3", 107, 0, 80, 2),
        ("particles_0_3", 108, 1, 80, 2),
        ("pm2_5", 7, 0, 80, 2),
        ("pm2_5", 8, 1, 80, 2),
    ]
    assert database.one("SELECT count(*) FROM iot_service.sensor_readings") == 2 * 12 + 1
    assert database.query("SELECT DISTINCT profile, firmware FROM iot_service.series_profiles ORDER BY 1")[-1] == (
        "plantower-new/1",
        "250",
    )
    assert await equation(database) == (4, 3, 1, 0)
    assert (await all_of(database, profiles=known))[0].committed == 0


async def test_lines_of_text_are_decoded_by_a_profile_that_has_come_since(database: Database, tmp_path: Path) -> None:
    """Its program was changed; a line that states another version than the gateway wrote down stays."""
    lines = [b'{"fw":"2.0","temp":21.5,"hum":45}', b'{"fw":"2.1","temp":21.5}', b"# starts"]
    await settle(database, raw_batch("2.0", *lines))
    shipped = Path(__file__).parents[2] / "firmware_profiles/profiles/generic/climate_node.toml"
    text = shipped.read_text().replace('node/1"', 'node/2"').replace('firmware = ">=1,<2"', 'firmware = ">=2,<3"')
    (tmp_path / "new.toml").write_text(text)
    (told,) = await all_of(database, profiles=ProfileSet.load(tmp_path))
    assert (told.committed, told.left) == (1, 2)
    assert sorted(values(database)) == [21.5, 45.0]


async def test_frames_that_two_profiles_claim_stay(database: Database, tmp_path: Path) -> None:
    """The wire names no model: which of the two it was is not to be guessed."""
    await settle(database, raw_batch("250", encode(Frame(version=250))))
    two = profile_of_new_firmware(tmp_path, "plantower-new/1", "plantower-other/1")
    assert [(r.committed, r.left) for r in await all_of(database, profiles=two)] == [(0, 1)]
    assert values(database) == []


async def test_a_frame_of_which_a_series_is_refused_stays_whole(database: Database, tmp_path: Path) -> None:
    await settle(database, raw_batch("250", encode(Frame(version=250))))
    known = profile_of_new_firmware(tmp_path, "plantower-new/1")
    (told,) = await all_of(database, profiles=known, limits=CatalogueLimits(new_series_per_hour=11))
    assert (told.committed, told.left) == (0, 1)
    assert "too_many_series" in told.why
    assert values(database) == []
    assert [r.committed for r in await all_of(database, profiles=known)] == [1]
    assert len(values(database)) == 12


async def test_a_held_batch_with_raw_frames_and_readings(database: Database, tmp_path: Path) -> None:
    """Whole in quarantine: decoded and plain readings of one entry are released together."""
    async with open_writer(database) as writer, running_line(database) as line:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for instance, beat in ((11, 0), (1, 0), (11, 1), (11, 2)):
            said = status(instance=instance, beat=beat)
            await liveness.hear(writer.connection, number, said, lost_after_s=9, device_silence_s=9)
        await line.settle(raw_batch("250", encode(Frame(version=250)), extra=[reading(1.5)]))
        assert database.query(ENTRIES) == [(0, "identity_conflict", 2)]
        assert database.one("SELECT instance FROM iot_service.quarantine") == 1
        await fleet.resolve(writer.connection, GATEWAY)
    (told,) = await all_of(database, profiles=profile_of_new_firmware(tmp_path, "plantower-new/1"))
    assert (told.committed, told.left) == (2, 0)
    assert len(values(database)) == 13
    assert await equation(database) == (2, 2, 0, 0)


# -- what show says


async def shown(database: Database, payload: bytes) -> dict[str, object]:
    await settle(database, payload)
    async with open_writer(database) as writer:
        (entry,) = await entries.list_entries(writer.connection, Filter(), waiting_only=True, limit=1)
    return describe(entry, payload)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"\xc1", "body"),
        (b"\x81\xa1t\xc4\x00", "columns"),
        (independent.data_body([["d\0", "c", "q", "u", "p", "f"]], [(1, 0, 1.0, 100)]), "series"),
        (independent.data_body([["d", "c", "q", "u", "p", "f"]], [(1, 3, 1.0, 100)]), "readings"),
    ],
    ids=["no msgpack", "no columns", "a bad name", "a series that is not there"],
)
async def test_where_decoding_fails_is_told(database: Database, body: bytes, part: str) -> None:
    payload = independent.Plan(body, 1, epoch=EPOCH).payload()
    fault = (await shown(database, payload))["fault"]
    assert isinstance(fault, dict)
    assert (fault["part"], fault["at_byte"]) == (part, len(payload) - len(body))
    assert fault["why"]


async def test_gaps_are_shown_as_gaps(database: Database) -> None:
    database.query("ALTER TABLE iot_service.data_gaps ADD CONSTRAINT sane CHECK (reason <> 'bound')")
    payload = gap(4, [dropped(0, [2, 3]), Gap("bound", 0, 0, (), 7, None, None)], before=5)
    assert (await shown(database, payload))["gaps"] == [
        {"reason": "bound", "epoch": f"{EPOCH:016x}", "seqs": [0, 2], "readings": 5},
        {"reason": "bound", "epoch": None, "seqs": None, "readings": 7},
    ]


async def test_a_replay_that_the_database_refuses_ends_no_walk(database: Database) -> None:
    database.query("ALTER TABLE iot_service.series_latest ADD CONSTRAINT sane CHECK (value <> 0)")
    await settle(database, *(useless(seq) for seq in range(3)))
    told = await all_of(database, accepted=AcceptedTime(0, NOW_US))
    assert [(r.committed, r.left) for r in told] == [(0, 2), (2, 0), (2, 0)]
    assert "sane" in told[0].why
    assert await equation(database) == (6, 4, 2, 0)


async def test_a_replay_and_a_discard_at_once_do_one_of_both(database: Database) -> None:
    await settle(database, useless(0))
    async with open_writer(database) as writer:
        (entry,) = await entries.list_entries(writer.connection, Filter(), waiting_only=True, limit=1)
    with psycopg.connect(database.dsn) as blocker:
        blocker.execute("LOCK TABLE iot_service.ledger IN SHARE MODE")
        async with open_writer(database) as writer:
            replaying = asyncio.create_task(all_of(database, accepted=AcceptedTime(0, NOW_US)))
            await until_waiting_for_a_lock(database, 1)
            discarding = asyncio.create_task(entries.discard(writer.connection, entry, None))
            await until_waiting_for_a_lock(database, 2)
            blocker.rollback()
            assert ([r.committed for r in await replaying], await discarding) == ([2], False)
    assert await equation(database) == (2, 2, 0, 0)
