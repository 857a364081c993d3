"""Names become numbers: on first sight, for their home only, and not without bound."""

import msgpack
import pytest

from device_drivers.reading import Series
from ingest_server.storage.line.catalogue import REFUSED, CatalogueLimits, Refusal, Table
from ingest_server.storage.line.writer import Writer
from tests.golden.wire import independent
from tests.ingest_server.line import GATEWAY, open_writer
from tests.peers.postgres import Database

ATTIC = "seoul-1/attic"
PROFILED = ("t", "temperature", "°C", "p", "1")


def packed(*series: Series) -> bytes:
    table: bytes = msgpack.packb([[s.device, s.channel, s.quantity, s.unit, s.profile, s.firmware] for s in series])
    return table


def devices(*names: str) -> bytes:
    return packed(*(Series(name, *PROFILED) for name in names))


async def table(writer: Writer, gateway: str, content: bytes, now_s: float = 0.0) -> Table:
    found = (await writer.catalogue.tables([(gateway, content)], now_s))[gateway, content]
    assert isinstance(found, Table)
    return found


def reasons(found: Table) -> dict[int, str]:
    return {n: refusal.reason for n, refusal in found.refusals.items()}


async def test_a_series_gets_one_number_for_all_time(database: Database) -> None:
    async with open_writer(database) as writer:
        first = await table(writer, GATEWAY, devices("a", "b"))
        assert (await table(writer, GATEWAY, devices("b", "a"))).ids.tolist() == first.ids.tolist()[::-1]
    async with open_writer(database) as writer:
        assert (await table(writer, GATEWAY, devices("a", "b"))).ids.tolist() == first.ids.tolist()
    assert database.one("SELECT count(*) FROM iot_service.series") == 2


async def test_what_distinguishes_series(database: Database) -> None:
    base = Series("d", "t", "temperature", "°C", "p", "1")
    others = [
        Series("d", "t2", "temperature", "°C", "p", "1"),
        Series("d", "t", "temperature", "K", "p", "1"),
        Series("e", "t", "temperature", "°C", "p", "1"),
    ]
    same = [Series("d", "t", "temperature", "°C", "p2", "1"), Series("d", "t", "temperature", "°C", "p", "2"), base]
    async with open_writer(database) as writer:
        ids = (await table(writer, GATEWAY, packed(base, *others, *same))).ids.tolist()
    assert len(set(ids[:4])) == 4
    assert ids[4:] == [ids[0]] * 3
    assert database.one("SELECT count(*) FROM iot_service.series_profiles WHERE series_id = %s", ids[0]) == 3


async def test_a_device_is_described_by_its_profile_and_its_firmware_follows(database: Database) -> None:
    async with open_writer(database) as writer:
        await table(writer, GATEWAY, packed(Series("d", "t", "temperature", "°C", "p", "1")))
        await table(writer, GATEWAY, packed(Series("d", "t", "temperature", "°C", "p", "2")))
    assert database.query("SELECT site, manufacturer, model, firmware_version FROM iot_service.iot_devices") == [
        ("seoul-1", "Maker", "Model", "2")
    ]


async def test_a_device_has_one_home(database: Database) -> None:
    async with open_writer(database) as writer:
        await table(writer, GATEWAY, devices("a"))
        refused = await table(writer, ATTIC, devices("a", "b"))
        assert reasons(refused) == {0: "device_elsewhere"}
        assert refused.ids[0] == REFUSED
        assert refused.refusals[0].detail.startswith("a belongs to seoul-1/lobby, which speaks")
        # In another site the name is another device.
        assert not (await table(writer, "busan-1/lobby", devices("a"))).refusals
    assert database.query(
        "SELECT device, name FROM iot_service.iot_devices JOIN iot_service.gateways"
        " ON gateway_id = home_gateway_id ORDER BY 2, 1"
    ) == [("a", "busan-1/lobby"), ("b", ATTIC), ("a", GATEWAY)]


async def test_two_gateways_that_claim_a_new_device_in_one_group_do_not_both_get_it(database: Database) -> None:
    async with open_writer(database) as writer:
        found = await writer.catalogue.tables([(GATEWAY, devices("a")), (ATTIC, devices("a"))], 0.0)
    refused = [bool(t.refusals) for t in found.values() if isinstance(t, Table)]
    assert sorted(refused) == [False, True]


async def test_a_device_is_handed_over_when_its_home_has_been_silent(database: Database) -> None:
    async with open_writer(database, CatalogueLimits(handover_silence_s=900)) as writer:
        mine = await table(writer, GATEWAY, devices("a"))
        assert reasons(await table(writer, ATTIC, devices("a"), now_s=0)) == {0: "device_elsewhere"}
        database.query(
            "UPDATE iot_service.gateways SET first_seen_at = now() - interval '901 s' WHERE name = %s", GATEWAY
        )
        database.query("UPDATE iot_service.iot_devices SET home_since = now() - interval '901 s'")
        # A refusal is remembered for a little while, then asked again.
        assert reasons(await table(writer, ATTIC, devices("a"), now_s=29.9)) == {0: "device_elsewhere"}
        moved = await table(writer, ATTIC, devices("a"), now_s=30.1)
        assert moved.ids.tolist() == mine.ids.tolist(), "its series goes with it"
    async with open_writer(database) as writer:
        # The old home does not get it back by speaking: the new one speaks, too.
        assert reasons(await table(writer, GATEWAY, devices("a"))) == {0: "device_elsewhere"}


@pytest.mark.parametrize(
    "sign",
    [
        "UPDATE iot_service.gateways SET last_heartbeat_at = now()",
        (
            "INSERT INTO iot_service.ledger (gateway_id, epoch, last_batch_at)"
            " SELECT gateway_id, 1, now() FROM iot_service.gateways"
        ),
        "UPDATE iot_service.iot_devices SET home_since = now()",
    ],
)
async def test_any_sign_of_life_keeps_a_device_at_home(database: Database, sign: str) -> None:
    async with open_writer(database, CatalogueLimits(handover_silence_s=900)) as writer:
        await table(writer, GATEWAY, devices("a"))
        database.query("UPDATE iot_service.gateways SET first_seen_at = now() - interval '1 day'")
        database.query("UPDATE iot_service.iot_devices SET home_since = now() - interval '1 day'")
        database.query(sign)
        assert reasons(await table(writer, ATTIC, devices("a"))) == {0: "device_elsewhere"}


async def test_new_devices_and_series_are_bounded_by_the_hour(database: Database) -> None:
    limits = CatalogueLimits(new_devices_per_hour=3, new_series_per_hour=5)
    async with open_writer(database, limits) as writer:
        found = await table(writer, GATEWAY, devices("a", "b", "c", "d", "e"))
        assert reasons(found) == {3: "too_many_devices", 4: "too_many_devices"}
        channels = packed(*(Series("a", f"t{n}", "temperature", "°C", "p", "1") for n in range(4)))
        assert list(reasons(await table(writer, GATEWAY, channels)).values()) == ["too_many_series"] * 2
        # Another gateway has an hour of its own, and what is known goes on.
        assert not (await table(writer, ATTIC, devices("x"))).refusals
        assert not (await table(writer, GATEWAY, devices("a", "b"))).refusals
        database.query("UPDATE iot_service.iot_devices SET registered_at = now() - interval '61 min'")
        database.query("UPDATE iot_service.series_profiles SET first_seen_at = now() - interval '61 min'")
        assert not (await table(writer, GATEWAY, devices("d", "e"), now_s=31)).refusals


async def test_a_gateway_that_invents_firmware_cannot_fill_the_database(database: Database) -> None:
    """A profile of a series is a row, too: it counts against the same bound."""
    limits = CatalogueLimits(new_series_per_hour=20)
    async with open_writer(database, limits) as writer:
        for n in range(6):
            invented = packed(*(Series("a", "t", "temperature", "°C", "p", f"{n}.{m}") for m in range(10)))
            await table(writer, GATEWAY, invented, now_s=31.0 * n)
    assert database.one("SELECT count(*) FROM iot_service.series_profiles") <= 20


async def test_firmware_that_no_profile_knows_registers_the_device_and_no_series(database: Database) -> None:
    async with open_writer(database) as writer:
        found = await table(writer, GATEWAY, packed(Series("a", "frame", "frame", "", "", "9.9")))
        assert found.refusals == {0: Refusal("unknown_firmware", "a runs firmware 9.9, which no profile knows")}
    assert database.query("SELECT device, firmware_version FROM iot_service.iot_devices") == [("a", "9.9")]
    assert database.one("SELECT count(*) FROM iot_service.series") == 0


@pytest.mark.parametrize("name", ["가" * 42, "'; DROP TABLE x; --", "%s %(x)s", "{}", "a,b", '"', "\\", "😀", "NULL"])
async def test_odd_names_are_only_names(database: Database, name: str) -> None:
    async with open_writer(database) as writer:
        series = Series(name, name, name, name, name, name)
        assert not (await table(writer, GATEWAY, packed(series))).refusals
        assert not (await table(writer, GATEWAY, packed(series))).refusals
    assert database.query(
        "SELECT device, channel, unit FROM iot_service.series JOIN iot_service.iot_devices USING (device_id)"
    ) == [(name, name, name)]


async def test_a_table_that_cannot_be_read_harms_no_other(database: Database) -> None:
    good, bad = devices("a"), independent.gap_body([])
    async with open_writer(database) as writer:
        found = await writer.catalogue.tables([(GATEWAY, bad), (GATEWAY, good)], 0.0)
    assert isinstance(found[GATEWAY, good], Table)
    assert isinstance(found[GATEWAY, bad], Exception)


async def test_a_series_is_found_by_its_device_however_many_others_measure_the_same(database: Database) -> None:
    """A fleet's sensors are of a kind. Joined by channel, quantity and unit first, as the planner chose once it had
    statistics, thirty series among two thousand took seconds of each group."""

    async def rows_read(writer: Writer) -> int:
        await writer.connection.execute("SELECT pg_stat_force_next_flush()")
        return int(
            database.one(
                "SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
                " WHERE relname IN ('iot_devices', 'series', 'series_profiles')"
            )
        )

    names = [f"d{n}" for n in range(2000)]
    async with open_writer(database, CatalogueLimits(new_devices_per_hour=len(names))) as writer:
        await table(writer, GATEWAY, devices(*names))
        await writer.connection.execute("ANALYZE")
        for first in range(0, 300, 30):  # more often than a driver plans the same statement anew
            writer.catalogue.forget_devices()
            before = await rows_read(writer)
            found = await table(writer, GATEWAY, devices(*names[first : first + 30]))
            assert found.refusals == {}
            # Three a series, or each table once.
            assert await rows_read(writer) - before <= 3 * len(names) + 1000
