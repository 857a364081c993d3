"""Frames of decoded readings: kept where wanted, read again by a rule, erased and pruned."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from device_drivers.reading import Reading, Series
from device_drivers.serial_line import ld2410
from firmware_profiles.selection import ProfileSet
from ingest_server.raw_frames import decode_by
from ingest_server.storage.correction import decoders, entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure.erasing import Scope
from ingest_server.storage.frames import keeping
from ingest_server.storage.frames.blocks import pack, unpack
from ingest_server.storage.line.corrected import EVER, Calibration
from tests.ingest_server.line import (
    ANCHOR,
    EPOCH,
    GATEWAY,
    NOW_US,
    SECOND,
    books_of,
    connected,
    data,
    running_line,
)
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]
RADAR = "hall-radar"
PROFILE = "hi-link-ld2410/1"
PROFILES = ProfileSet.load()
DECODE = decode_by(PROFILES)
SIGNED = Signed("kim", "the codec read the wrong byte")
MINUTE = 60 * SECOND


def channel(name: str, profile: str = PROFILE) -> Series:
    known = next(p for p in PROFILES if p.name == PROFILE).channels[name]
    return Series(RADAR, name, known.quantity, known.symbol, profile, "1.0")


PRESENCE, DISTANCE = channel("presence"), channel("moving_distance")


def report(minute: int, cm: int, *, said: float, framed: bool = True) -> list[Reading]:
    """What a frame came to: the codec was wrong, and said another distance. The first of its readings carries it."""
    at_us = NOW_US + minute * MINUTE - ANCHOR.offset_us
    frame = ld2410.encode(1, cm, 50, 0, 0, cm) if framed else None
    return [Reading(PRESENCE, 1.0, at_us, frame=frame), Reading(DISTANCE, said, at_us)]


async def settle(database: Database, *payloads: bytes, keep_frames: bool = False) -> None:
    async with running_line(database, decode=DECODE, keep_frames=keep_frames) as line:
        await line.settle(*payloads)


def distances(database: Database) -> list[tuple[float, float | None]]:
    return database.query(
        "SELECT value, raw_value FROM iot_service.readings WHERE channel = 'moving_distance' ORDER BY recorded_at"
    )


def kept(database: Database) -> list[int]:
    """Minutes of the frames that are kept."""
    blocks = database.query("SELECT content, frames, first_at, last_at FROM iot_service.raw_frames ORDER BY block_id")
    found = []
    for content, count, first_at, last_at in blocks:
        frames = unpack(content)
        assert len(frames) == count
        assert [first_at, last_at] == [datetime.fromtimestamp(at / 1e6, UTC) for at in (min(frames)[0], max(frames)[0])]
        found += [(at_us - NOW_US) // MINUTE for at_us, _ in frames]
    return found


async def redecode(database: Database) -> int:
    """The same profile again: its codec was mended."""
    async with connected(database) as connection:
        device = await entries.device_id(connection, SITE, RADAR)
        facts = await decoders.find_facts(connection, PROFILE, PROFILES)
        rule, _ = decoders.between(PROFILE, facts, PROFILE, facts, NOW_US - 60 * MINUTE, EVER)
        return await carry_out(connection, await entries.redecode(connection, device, rule, None, SIGNED), DECODE)


@pytest.mark.parametrize("seed", range(5))
def test_a_block_gives_back_what_it_was_given(seed: int) -> None:
    draw = Random(seed)
    frames = [
        (draw.randrange(-(1 << 60), 1 << 60), draw.randbytes(draw.randrange(40))) for _ in range(draw.randrange(50))
    ]
    assert unpack(pack(frames)) == frames


async def test_frames_are_kept_where_the_operator_wants_it(every_database: Database) -> None:
    await settle(every_database, data(0, report(-3, 120, said=999)))
    assert kept(every_database) == []
    await settle(
        every_database, data(1, [*report(-2, 130, said=999), *report(-1, 140, said=999)], before=2), keep_frames=True
    )
    assert kept(every_database) == [-2, -1]
    ((device, profile, firmware),) = every_database.query(
        "SELECT d.device, f.profile, f.firmware FROM iot_service.raw_frames f"
        " JOIN iot_service.iot_devices d USING (device_id)"
    )
    assert (device, profile, firmware) == (RADAR, PROFILE, "1.0")
    assert [value for value, _ in distances(every_database)] == [999, 999, 999]
    books = await books_of(every_database)
    assert (books.balanced, books.committed) == (True, 6)


async def test_a_codec_that_was_mended_decodes_again(every_database: Database) -> None:
    """What has a frame comes to what it says; what has none stays, and what arrives later follows by its frame."""
    await settle(every_database, data(0, report(-3, 120, said=999, framed=False)))
    await settle(every_database, data(1, report(-2, 130, said=999), before=2), keep_frames=True)
    assert await redecode(every_database) == 4
    assert distances(every_database) == [(999, None), (130, 999)]
    # Its frame is kept though nobody asks for that: it is needed again.
    await settle(
        every_database, data(2, report(-1, 140, said=999), before=4), data(3, report(0, 150, said=150), before=6)
    )
    found = [(999, None), (130, 999), (140, 999), (150, None)]
    assert distances(every_database) == found
    async with connected(every_database) as connection:
        device = await entries.device_id(connection, SITE, RADAR)
        rule = Calibration(0, "moving_distance", DISTANCE.unit, NOW_US - 10 * MINUTE, (1.0, 2.0))
        number = await entries.calibrate(connection, device, rule, SIGNED)
        assert await carry_out(connection, number, DECODE) == 4
        assert distances(every_database) == [(1999, 999), (261, 999), (281, 999), (301, 150)]
        number = await entries.withdraw(connection, number, SIGNED)
        assert await carry_out(connection, number, DECODE) == 4
        assert distances(every_database) == found
        # What a rule reads stays; when it is withdrawn, it goes in its time.
        every_database.query("UPDATE iot_service.raw_frames SET created_at = now() - interval '10 days'")
        assert await keeping.prune(connection, 3) == 0
        number = await entries.withdraw(connection, 1, SIGNED)
        await carry_out(connection, number, DECODE)
        assert [value for value, _ in distances(every_database)] == [999, 999, 999, 150]
        assert await keeping.prune(connection, 11) == 0
        assert await keeping.prune(connection, 3) == 3
    assert kept(every_database) == []


async def test_an_erasure_leaves_no_frame_of_what_it_names(every_database: Database) -> None:
    minutes = (-5, -4, -3)
    await settle(every_database, data(0, [r for m in minutes for r in report(m, 100, said=1)]), keep_frames=True)
    noon = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    async with connected(every_database) as connection:
        scope = Scope(SITE, None, RADAR, noon - timedelta(minutes=4), noon - timedelta(minutes=3))
        erasure_id, _ = await erasing.request(connection, scope, reason="asked for", by="test")
        assert await erasing.carry_out(connection, erasure_id) == 2
        assert kept(every_database) == [-5, -3]
        # Nor of what comes again.
        again = [r for m in (-4, -2) for r in report(m, 100, said=1)]
        await settle(every_database, data(0, again, epoch=EPOCH + 1), keep_frames=True)
        assert kept(every_database) == [-5, -3, -2]
        erasure_id, _ = await erasing.request(
            connection, Scope(SITE, None, None, None, noon), reason="asked for", by="test"
        )
        await erasing.carry_out(connection, erasure_id)
    assert every_database.query("SELECT FROM iot_service.raw_frames") == []


async def test_what_is_not_written_leaves_no_frame(every_database: Database) -> None:
    too_old = [r for m in (-500 * 1440, -1) for r in report(m, 100, said=1)]
    await settle(every_database, data(0, too_old), keep_frames=True)
    assert kept(every_database) == [-1]
    assert (await books_of(every_database)).quarantined == 2


async def test_bytes_that_are_no_frame_change_nothing(every_database: Database) -> None:
    broken = [
        Reading(PRESENCE, 1.0, NOW_US - ANCHOR.offset_us, frame=b"noise"),
        Reading(DISTANCE, 7.0, NOW_US - ANCHOR.offset_us),
    ]
    await settle(every_database, data(0, broken), keep_frames=True)
    assert await redecode(every_database) == 2
    await settle(every_database, data(1, broken, before=2))
    assert distances(every_database) == [(7.0, None), (7.0, None)]
