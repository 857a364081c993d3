"""What readings mean is corrected in history and for what arrives later; nothing else changes, and nothing is lost."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_drivers.reading import Reading, Series
from ingest_server.storage.connection import transaction
from ingest_server.storage.correction import entries
from ingest_server.storage.correction.entries import Signed
from ingest_server.storage.correction.rewriting import carry_out
from ingest_server.storage.erasure import erasing
from ingest_server.storage.erasure.erasing import Scope
from ingest_server.storage.frames.reading import undecoded
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.line.corrected import Affine, Calibration, Decoder
from ingest_server.storage.line.group import copy_rows
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.registry.places import NoSuchThing
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    NOW_US,
    SECOND,
    books_of,
    connected,
    data,
    open_writer,
    reading,
    running_line,
    settle,
    until_waiting_for_a_lock,
)
from tests.ingest_server.rollup_oracle import brute_force, stored
from tests.peers.postgres import Database

SITE = GATEWAY.split("/")[0]
DEVICE = "hall-1"
MINUTE = 60 * SECOND
NOON = datetime.fromtimestamp(NOW_US / 1e6, UTC)
OLD, NEW, THIRD = "maker-model/1", "maker-model/2", "maker-model/3"
TEMPERATURE = Series(DEVICE, "temperature", "temperature", "°C", OLD, "1.0")
HUMIDITY = Series(DEVICE, "humidity", "humidity", "%", OLD, "1.0")
LOBBY = replace(TEMPERATURE, device="lobby-1")
SIGNED = Signed("kim", "the reference said so")
HALF_OF_TWICE = Affine(2.0, 0.5, 1.0, 0.25)
"""The old profile made 2 × raw + 0.5 of a number, the new one makes raw + 0.25 of it: exact in binary."""


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def us(minutes: float) -> int:
    return NOW_US + int(minutes * MINUTE)


def measured(minute: float, series: Series = TEMPERATURE, value: float | None = None) -> Reading:
    """A reading whose value is, unless given, the minute, from noon on, at which it was taken."""
    return reading(minute if value is None else value, us(minute), series)


def batch(*minutes: float, seq: int = 0, epoch: int = EPOCH, before: int = 0, series: Series = TEMPERATURE) -> bytes:
    return data(seq, [measured(m, series) for m in minutes], epoch=epoch, before=before)


def calibration(from_min: float, *coefficients: float, channel: str = "temperature", unit: str = "°C") -> Calibration:
    return Calibration(0, channel, unit, us(from_min), coefficients)


def decoder(from_min: float, to_min: float, was: str = OLD, now: str = NEW, how: Affine = HALF_OF_TWICE) -> Decoder:
    return Decoder(0, was, now, us(from_min), us(to_min), {("temperature", "°C"): how})


async def enter(database: Database, rule: Calibration | Decoder) -> int:
    """Brings a rule into force, and no more."""
    async with connected(database) as connection:
        device = await entries.device_id(connection, SITE, DEVICE)
        if isinstance(rule, Calibration):
            return await entries.calibrate(connection, device, rule, SIGNED)
        to_at = datetime.fromtimestamp(rule.to_us / 1e6, UTC)
        return await entries.redecode(connection, device, rule, to_at, SIGNED)


async def carry(database: Database, number: int, **bounds: int) -> int:
    async with connected(database) as connection:
        return await carry_out(connection, number, undecoded, None, lambda _entries: None, **bounds)


async def correct(database: Database, rule: Calibration | Decoder) -> int:
    """As the command does it; rows that were written anew."""
    return await carry(database, await enter(database, rule))


async def withdraw(database: Database, number: int) -> int:
    async with connected(database) as connection:
        withdrawal = await entries.withdraw(connection, number, SIGNED)
    return await carry(database, withdrawal)


async def refresh(database: Database) -> None:
    async with connected(database) as connection:
        await refresh_all(connection)


def rows(database: Database, channel: str = "temperature", device: str = DEVICE) -> list[tuple[Any, ...]]:
    """(value, raw value) in the order of time."""
    return database.query(
        "SELECT r.value, r.raw_value FROM iot_service.readings r JOIN iot_service.iot_devices d USING (device_id)"
        " WHERE d.device = %s AND r.channel = %s ORDER BY r.recorded_at, r.value",
        device,
        channel,
    )


def latest(database: Database) -> dict[str, float]:
    return dict(
        database.query(
            "SELECT d.device || ' ' || r.channel, r.value FROM iot_service.latest_readings r"
            " JOIN iot_service.iot_devices d USING (device_id)"
        )
    )


def require_rollups(database: Database) -> None:
    ids = [row[0] for row in database.query("SELECT series_id FROM iot_service.series ORDER BY 1")]
    assert stored(database, ids) == brute_force(database, ids, "UTC")


async def test_a_calibration_reaches_what_is_stored_and_what_arrives(every_database: Database) -> None:
    await settle(
        every_database, data(0, [measured(m, s) for m in (-90, -30, 0) for s in (TEMPERATURE, HUMIDITY, LOBBY)])
    )
    await refresh(every_database)
    created = every_database.query("SELECT series_id, recorded_at, created_at FROM iot_service.sensor_readings")
    assert await correct(every_database, calibration(-60, -0.5, 2.0)) == 2
    assert rows(every_database) == [(-90, None), (-60.5, -30), (-0.5, 0)]
    assert (
        rows(every_database, "humidity")
        == rows(every_database, device="lobby-1")
        == [(-90, None), (-30, None), (0, None)]
    )
    # Only what it means has changed.
    assert sorted(created) == sorted(
        every_database.query("SELECT series_id, recorded_at, created_at FROM iot_service.sensor_readings")
    )
    assert latest(every_database) == {"hall-1 temperature": -0.5, "hall-1 humidity": 0, "lobby-1 temperature": 0}
    require_rollups(every_database)
    # Late arrivals: before it, and after.
    await settle(every_database, batch(-61, -20, 1, epoch=EPOCH + 1))
    assert rows(every_database) == [(-90, None), (-61, None), (-60.5, -30), (-40.5, -20), (-0.5, 0), (1.5, 1)]
    assert latest(every_database)["hall-1 temperature"] == 1.5
    await refresh(every_database)
    require_rollups(every_database)
    assert (await books_of(every_database)).balanced


async def test_each_calibration_is_computed_from_what_arrived(every_database: Database) -> None:
    """Never from a corrected value; each counts until the next one, and a withdrawn one counts no more."""
    await settle(every_database, batch(-40, -20, 0))
    await refresh(every_database)
    assert await correct(every_database, calibration(-30, 1.0, 1.0)) == 2
    first = every_database.one("SELECT max(number) FROM iot_service.corrections")
    assert await correct(every_database, calibration(-10, 0.0, 3.0)) == 1
    assert rows(every_database) == [(-40, None), (-19, -20), (0, None)]
    # Its place is taken by another of the same moment.
    assert await correct(every_database, calibration(-30, 0.0, 0.0, 0.5)) == 1
    assert rows(every_database) == [(-40, None), (200, -20), (0, None)]
    # What replaces it stays; then nothing does.
    assert await withdraw(every_database, first) == 1
    assert rows(every_database) == [(-40, None), (200, -20), (0, None)]
    assert await withdraw(every_database, first + 2) == 1
    assert rows(every_database) == [(-40, None), (-20, None), (0, None)]
    revisions = every_database.query(
        "SELECT r.revision, v.number FROM iot_service.sensor_readings r LEFT JOIN iot_service.correction_revisions v"
        " USING (revision) ORDER BY r.recorded_at"
    )
    assert revisions[0] == (0, None)
    assert revisions[1][1] == first + 4
    require_rollups(every_database)
    with pytest.raises(NoSuchThing, match=f"correction {first} was withdrawn already, by {first + 3}"):
        await withdraw(every_database, first)
    with pytest.raises(NoSuchThing, match="no correction has the number 99"):
        await withdraw(every_database, 99)


async def test_a_decoder_reaches_the_readings_of_one_profile(every_database: Database) -> None:
    """Late batches of the old profile follow it, those of the new one are left alone, also by whatever comes later."""
    await settle(every_database, batch(-90, -30, 0))
    assert await correct(every_database, decoder(-60, 60)) == 2
    # (-30 - 0.5) / 2 + 0.25
    assert rows(every_database) == [(-90, None), (-15, -30), (0, None)]
    newer = replace(TEMPERATURE, profile=NEW)
    await settle(every_database, batch(-20, 5, epoch=EPOCH + 1), batch(-25, 4, epoch=EPOCH + 2, series=newer))
    found = [(-90, None), (-15, -30), (-25, None), (-10, -20), (0, None), (4, None), (2.5, 5)]
    assert rows(every_database) == found
    # The calibration after the decoder, for each of them.
    assert await correct(every_database, calibration(-60, 1.0, 2.0)) == 6
    assert rows(every_database) == [(-90, None), (-29, -30), (-49, -25), (-19, -20), (1, 0), (9, 4), (6, 5)]
    assert every_database.query(
        "SELECT decoded_by, count(decoder)::int, count(calibration)::int FROM iot_service.reading_corrections"
        " GROUP BY 1 ORDER BY 1"
    ) == [(OLD, 4, 4), (NEW, 0, 2)]
    assert await withdraw(every_database, 2) == 6
    assert rows(every_database) == found
    assert await withdraw(every_database, 1) == 6
    await refresh(every_database)
    arrived = [(-90, None), (-30, None), (-25, None), (-20, None), (0, None), (4, None), (5, None)]
    assert rows(every_database) == arrived
    require_rollups(every_database)


async def test_the_query_of_the_document_tells_which_rules_apply(every_database: Database) -> None:
    await settle(every_database, batch(-90, 0))
    await correct(every_database, calibration(-60, 1.0, 1.0))
    page = (Path(__file__).parents[2] / "docs/corrections.md").read_text()
    query = page[page.index("    SELECT") :].partition(";")[0].replace("device_id = 7", "device_id = 1")
    found = every_database.query(query.replace("now()", f"'{NOON}'::timestamptz"))
    assert [row[1:] for row in found] == [(1, 0, OLD, None, 1)]


async def test_a_value_that_is_no_number_is_left_as_it_arrived(every_database: Database) -> None:
    await settle(every_database, data(0, [measured(-1, value=1e99), measured(0, value=2.0)]))
    assert await correct(every_database, calibration(-60, 0.0, 0.0, 0.5)) == 2
    await settle(every_database, data(1, [measured(1, value=-1e99)], before=2))
    assert rows(every_database) == [(1e99, None), (2.0, None), (-1e99, None)]


async def test_rows_screened_by_older_rules_are_refused(every_database: Database) -> None:
    await settle(every_database, batch(0))
    await correct(every_database, calibration(-60, 1.0, 1.0))
    ids = every_database.query("SELECT series_id FROM iot_service.series")
    zero = np.zeros(1, np.int32)
    one = Rows(np.array([us(-1)]), np.array(ids[0], np.int32), np.array([-1.0]), zero + 100, zero)
    async with connected(every_database) as connection:
        with pytest.raises(RulesChanged):
            async with transaction(connection):
                await copy_rows(connection, [one], 0)
    assert rows(every_database) == [(1, 0)]


async def test_a_correction_waits_for_who_is_writing(any_database: Database) -> None:
    """Rows that were screened before it, and commit after it began: it sees and corrects them."""
    await settle(any_database, batch(0))
    ids = any_database.query("SELECT series_id FROM iot_service.series")
    zero = np.zeros(1, np.int32)
    async with open_writer(any_database) as writer:
        await writer.catalogue.rules.follow(writer.connection)
        one = Rows(np.array([us(-1)]), np.array(ids[0], np.int32), np.array([-1.0]), zero + 100, zero)
        async with transaction(writer.connection):
            await copy_rows(writer.connection, [one], 0)
            task = asyncio.create_task(correct(any_database, calibration(-60, 10.0, 1.0)))
            await until_waiting_for_a_lock(any_database)
        assert await task == 2
    assert rows(any_database) == [(9, -1), (10, 0)]


async def test_an_erasure_goes_before_a_correction(every_database: Database) -> None:
    await settle(every_database, batch(-20, -10, 0))
    async with connected(every_database) as connection:
        scope = Scope(SITE, None, DEVICE, at(-15), at(-5))
        erasure_id, _ = await erasing.request(connection, scope, reason="asked for", by="test")
        await erasing.carry_out(connection, erasure_id)
    assert await correct(every_database, calibration(-60, 1.0, 1.0)) == 2
    await settle(every_database, batch(-10, -19, epoch=EPOCH + 1))
    assert rows(every_database) == [(-19, -20), (-18, -19), (1, 0)]


async def test_what_is_cut_off_is_gone_on_with(any_database: Database) -> None:
    """The first of its transactions stands, with its rollups; whoever goes on finds the rest by its revision."""
    days = [-3 * 1440, -2 * 1440, -1440, 0]
    await settle(any_database, batch(*days))
    await refresh(any_database)
    number = await enter(any_database, calibration(-10 * 1440, 0.0, 2.0))
    async with connected(any_database) as holder, connected(any_database) as connection:

        def cut(done: int, total: int) -> None:
            assert total == 4
            if done == 2:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            await carry_out(connection, number, undecoded, cut, most_readings=1)
        assert rows(any_database) == [(2 * days[0], days[0]), (2 * days[1], days[1]), (-1440, None), (0, None)]
        require_rollups(any_database)
        assert await entries.unfinished(holder) == [number]
        # Late ones of both parts are in order already.
        await settle(any_database, batch(days[0] + 1, days[3] - 1, epoch=EPOCH + 1))
        assert await carry_out(holder, number, undecoded) == 2
        assert await entries.unfinished(holder) == []
        assert await carry_out(holder, number, undecoded) == 0
        (told,) = await entries.listed(holder)
        await refresh_all(holder)
    assert (told.readings, told.made_by, told.reason, told.done_at is not None) == (4, *("kim", SIGNED.why), True)
    assert [value for value, _ in rows(any_database)] == [2 * m for m in sorted([*days, days[0] + 1, days[3] - 1])]
    require_rollups(any_database)


async def test_a_kill_within_a_transaction_leaves_nothing_of_it(any_database: Database) -> None:
    await settle(any_database, batch(-20, -10, 0))
    await refresh(any_database)
    number = await enter(any_database, calibration(-60, 0.0, 2.0))
    async with connected(any_database) as holder, connected(any_database) as connection:
        async with transaction(holder):
            # The last that it does before its COMMIT.
            await holder.execute("SELECT FROM iot_service.series_latest FOR UPDATE")
            task = asyncio.create_task(carry_out(connection, number, undecoded))
            await until_waiting_for_a_lock(any_database)
            assert rows(any_database) == [(-20, None), (-10, None), (0, None)]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert rows(any_database) == [(-20, None), (-10, None), (0, None)]
        require_rollups(any_database)
        assert await carry_out(holder, number, undecoded) == 3
    assert rows(any_database) == [(-40, -20), (-20, -10), (0, None)]
    require_rollups(any_database)


async def test_archived_months_stay_as_they_are(every_database: Database) -> None:
    october = -30 * 1440
    await settle(every_database, batch(october, 0))
    await refresh(every_database)
    every_database.query("UPDATE iot_service.raw_horizon SET begins = '2026-11-01+00'")
    assert await correct(every_database, calibration(october - 60, 7.0, 1.0)) == 1
    assert rows(every_database) == [(october, None), (7, 0)]
    minutes = every_database.query("SELECT total FROM iot_service.rollup_1m ORDER BY bucket")
    assert minutes == [(october,), (7,)]


@dataclass(frozen=True)
class Step:
    """One thing that happens: readings arrive, a rule is made, one is withdrawn, what is unfinished is carried out."""

    what: str
    minutes: tuple[int, ...] = ()
    profile: str = OLD
    from_min: int = 0
    to_min: int = 0
    coefficients: tuple[float, ...] = ()
    which: int = 0


_MINUTES = st.integers(-60, 0)
_WHOLE = st.integers(-3, 3).map(float)
_STEPS = st.lists(
    st.one_of(
        st.builds(
            Step,
            st.just("arrive"),
            st.lists(_MINUTES, min_size=1, max_size=4).map(tuple),
            st.sampled_from([OLD, NEW]),
        ),
        st.builds(
            Step,
            st.just("calibrate"),
            from_min=_MINUTES,
            coefficients=st.lists(_WHOLE, min_size=1, max_size=3).map(tuple),
        ),
        st.builds(
            Step,
            st.just("redecode"),
            from_min=_MINUTES,
            to_min=st.integers(1, 30),
            profile=st.sampled_from([OLD, NEW]),
            coefficients=st.tuples(st.sampled_from([0.5, 1.0, 2.0]), _WHOLE),
        ),
        st.builds(Step, st.just("withdraw"), which=st.integers(0, 5)),
        st.builds(Step, st.just("carry out")),
    ),
    max_size=14,
)


def expected(
    arrived: Sequence[tuple[int, float, str]], rules: Sequence[tuple[int, Step, bool]]
) -> list[tuple[int, float, float | None]]:
    """From scratch, one reading at a time, in plain arithmetic: (minute, value, raw value)."""
    found = []
    for minute, value, profile in arrived:
        decoders = [
            (n, s)
            for n, s, gone in rules
            if s.what == "redecode"
            and not gone
            and s.profile == profile
            and s.from_min <= minute < s.from_min + s.to_min
        ]
        calibrations = [
            (s.from_min, n, s) for n, s, gone in rules if s.what == "calibrate" and not gone and s.from_min <= minute
        ]
        now = value
        if decoders:
            scale, offset = max(decoders, key=lambda rule: rule[0])[1].coefficients
            now = now * scale + offset
        if calibrations:
            by = max(calibrations, key=lambda rule: rule[:2])[2]
            now = sum(c * now**n for n, c in enumerate(by.coefficients))
        found.append((minute, now, None if now == value else value))
    return sorted(found, key=str)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_any_history_of_rules_comes_to_what_is_computed_from_scratch(database: Database, steps: list[Step]) -> None:
    """Rules, withdrawals and arrivals in any order; carried out at any time."""
    database.query(
        "TRUNCATE iot_service.sensor_readings, iot_service.series_latest, iot_service.corrections,"
        " iot_service.correction_revisions, iot_service.ledger, iot_service.rollup_log, iot_service.rollup_1m,"
        " iot_service.rollup_1h, iot_service.rollup_1d, iot_service.rollup_site_day, iot_service.series_profiles"
    )
    asyncio.run(_require_what_is_computed_from_scratch(database, steps))


async def _require_what_is_computed_from_scratch(database: Database, steps: list[Step]) -> None:
    arrived: list[tuple[int, float, str]] = [(0, 8.0, OLD)]
    rules: list[tuple[int, Step, bool]] = []
    async with running_line(database) as line:
        # Before any rule, of one profile: of what is stored it is known whose it is.
        await line.settle(data(0, [measured(0, value=8.0)]))
        for seq, step in enumerate(steps, 1):
            if step.what == "arrive":
                series = replace(TEMPERATURE, profile=step.profile)
                if step.profile != OLD and not rules:
                    # Of two profiles, before there was any rule, it would not be known whose a reading is.
                    continue
                held = [measured(m, series, float(n + 2 * seq)) for n, m in enumerate(step.minutes)]
                await line.settle(data(seq, held, epoch=EPOCH + seq, before=0))
                arrived += [(m, float(n + 2 * seq), step.profile) for n, m in enumerate(step.minutes)]
            elif step.what == "calibrate":
                number = await enter(database, calibration(step.from_min, *step.coefficients))
                rules.append((number, step, False))
            elif step.what == "redecode":
                scale, offset = step.coefficients
                rule = decoder(
                    step.from_min, step.from_min + step.to_min, step.profile, THIRD, Affine(1.0, 0.0, scale, offset)
                )
                rules.append((await enter(database, rule), step, False))
            elif step.what == "withdraw":
                standing = [n for n, (_, _, gone) in enumerate(rules) if not gone]
                if standing:
                    chosen = standing[step.which % len(standing)]
                    number, rule_step, _ = rules[chosen]
                    async with connected(database) as connection:
                        await entries.withdraw(connection, number, SIGNED)
                    rules[chosen] = number, rule_step, True
            else:
                await _carry_out_all(database)
    await _carry_out_all(database)
    await refresh(database)
    found = database.query("SELECT recorded_at, value, raw_value FROM iot_service.sensor_readings")
    shown = [(round((moment - NOON).total_seconds() / 60), value, raw) for moment, value, raw in found]
    assert sorted(shown, key=str) == expected(arrived, rules)
    require_rollups(database)


async def _carry_out_all(database: Database) -> None:
    async with connected(database) as connection:
        for number in await entries.unfinished(connection):
            await carry_out(connection, number, undecoded)


@pytest.mark.parametrize("seed", range(2))
async def test_corrections_while_two_write(every_database: Database, seed: int) -> None:
    """Every reading that was sent is there once, and each follows the rules that stand at the end."""
    draw = np.random.default_rng(seed)
    correcting, known = asyncio.Event(), asyncio.Barrier(3)
    sent: list[tuple[float, str]] = []

    async def write(name: str, profile: str) -> None:
        own = np.random.default_rng([seed, len(name)])
        series = replace(TEMPERATURE, profile=profile)
        seq, epoch = 0, EPOCH + len(name)
        async with running_line(every_database, group=3) as line:
            last = False
            while not last:
                last = seq >= 12 and correcting.is_set()
                payloads = []
                for _ in range(3):
                    minutes = own.integers(-240, 0, 20) / 4
                    payloads.append(
                        data(seq, [measured(m, series) for m in minutes.tolist()], before=20 * seq, epoch=epoch)
                    )
                    sent.extend((m, profile) for m in minutes.tolist())
                    seq += 1
                await line.settle(*payloads)
                if seq == 3:
                    await known.wait()

    async def correct_all() -> None:
        await known.wait()
        try:
            await correct(every_database, decoder(-30, 60))
            await correct(every_database, calibration(-45, 1.0, 2.0))
            await correct(every_database, calibration(float(draw.integers(-15, -5)), 3.0, 1.0))
            await withdraw(every_database, 2)
        finally:
            correcting.set()

    # The first two batches are of one profile: of two without a rule it would not be known whose a reading is.
    await asyncio.gather(write("a", OLD), write("bb", OLD), correct_all())
    (third,) = every_database.query(
        "SELECT (extract(epoch FROM from_at - %s) / 60)::float8 FROM iot_service.corrections WHERE number = 3", NOON
    )

    def comes_to(minute: float) -> float:
        decoded = minute / 2 if minute >= -30 else minute
        return decoded + 3 if minute >= third[0] else decoded

    assert sorted(value for value, _ in rows(every_database)) == sorted(comes_to(m) for m, _ in sent)
    assert (await books_of(every_database)).balanced
    await refresh(every_database)
    ids = [row[0] for row in every_database.query("SELECT series_id FROM iot_service.series ORDER BY 1")]
    found, wanted = stored(every_database, ids), brute_force(every_database, ids, "UTC")
    assert {k: (b.readings, b.minimum, b.maximum, b.total) for k, b in found.minutes.items()} == {
        k: (b.readings, b.minimum, b.maximum, b.total) for k, b in wanted.minutes.items()
    }


async def test_readers_see_one_or_the_other(any_database: Database) -> None:
    """In every snapshot a bucket's sum, and its raw readings, are all as they were or all as they shall be."""
    minutes = [-n / 8 for n in range(8 * 180)]
    await settle(any_database, batch(*minutes))
    await refresh(any_database)
    ended = asyncio.Event()
    seen: set[tuple[str, int]] = set()
    mixed = (
        "WITH raw AS (SELECT date_bin('1 hour', recorded_at, 'epoch') AS hour, sum(value) AS total, count(*) AS n,"
        " sum(COALESCE(raw_value, value)) AS arrived FROM iot_service.sensor_readings GROUP BY 1)"
        " SELECT raw.total = arrived, raw.total = 2 * arrived + n, h.total = raw.total, d.total ="
        " (SELECT sum(total) FROM raw) FROM raw JOIN iot_service.rollup_1h h ON h.bucket = raw.hour"
        " CROSS JOIN (SELECT sum(total) AS total FROM iot_service.rollup_1d) d"
    )

    async def watch() -> None:
        async with connected(any_database) as connection:
            last = False
            while not last:
                last = ended.is_set()
                cursor = await connection.execute(mixed.encode())
                found = await cursor.fetchall()
                assert len({row[:2] for row in found}) == 1, "one hour is as it was, another as it shall be"
                assert all(was != now and hour and day for was, now, hour, day in found), found
                seen.add(("as it was" if found[0][0] else "corrected", len(found)))

    async def change() -> None:
        try:
            number = await enter(any_database, calibration(-600, 1.0, 2.0))
            # In several pieces of memory, in one transaction.
            assert await carry(any_database, number, chunk_readings=100) == len(minutes)
        finally:
            ended.set()

    await asyncio.gather(watch(), change())
    assert {what for what, _ in seen} == {"as it was", "corrected"}


async def test_what_cannot_be_summed_up_stays_as_it_arrived(database: Database) -> None:
    """A rule that nobody could carry out would stop the rollups of every device, and the corrections after it."""
    await settle(database, batch(-2, -1.5, -1, 0))
    assert await correct(database, calibration(-60, 0.0, 1e308)) == 4
    await settle(database, batch(-1.75, -1.25, epoch=EPOCH + 1))
    assert [value for value, _ in rows(database)] == [-2, -1.75, -1.5, -1.25, -1, 0]
    assert await correct(database, calibration(-60, 0.0, 5e-324)) == 6
    await refresh(database)
    require_rollups(database)
