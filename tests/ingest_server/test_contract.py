"""What the platform's services and Grafana read: names, types and meaning of columns."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from device_drivers.reading import Causes, Reading, Series
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from ingest_server.storage.connection import connect
from ingest_server.storage.keeping.rollups import refresh_all
from ingest_server.storage.registry import places
from ingest_server.storage.registry.profiles import publish
from tests.ingest_server.line import NOW_US, SECOND, data, open_writer, reading, settle
from tests.peers.postgres import Database

SITE = "seoul-1"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
assert NOON.timestamp() * 1_000_000 == NOW_US

CONTRACT = {
    "iot_devices": "device_id integer, site text, device text, home_gateway_id integer,"
    " home_since timestamp with time zone, serial_number text, device_type text, location text, position text,"
    " manufacturer text, model text, firmware_version text, status text, last_heartbeat_at timestamp with time zone,"
    " battery_level double precision, signal_strength double precision, sampling_interval_s double precision,"
    " alert_thresholds jsonb, registered_at timestamp with time zone",
    "readings": "device_id integer, reading_type text, value double precision, unit text, accuracy text,"
    " reliability_score double precision, ambient_conditions jsonb, user_presence boolean,"
    " recorded_at timestamp with time zone, created_at timestamp with time zone, channel text, series_id integer,"
    " causes integer, revision smallint, raw_value double precision",
    "device_history": "device_id integer, member_id integer, reading_type text, value double precision, unit text,"
    " reliability_score double precision, recorded_at timestamp with time zone, channel text, series_id integer,"
    " causes integer, raw_value double precision, revision smallint",
    "zone_history": "location_id integer, site text, zone text, position text, device_id integer, reading_type text,"
    " value double precision, unit text, reliability_score double precision, recorded_at timestamp with time zone,"
    " channel text, series_id integer, causes integer, raw_value double precision, revision smallint",
    "reading_corrections": "device_id integer, series_id integer, recorded_at timestamp with time zone,"
    " value double precision, raw_value double precision, revision smallint, decoded_by text, decoder bigint,"
    " calibration bigint",
    "latest_readings": "device_id integer, reading_type text, value double precision, unit text,"
    " reliability_score double precision, recorded_at timestamp with time zone, channel text, series_id integer,"
    " causes integer",
    "hourly_sensor_averages": "device_id integer, reading_type text, hour timestamp with time zone,"
    " avg_value double precision, min_value double precision, max_value double precision, reading_count bigint,"
    " channel text, unit text, series_id integer",
    "fact_sensor_daily": "device_id integer, reading_date date, reading_type text, avg_value double precision,"
    " min_value double precision, max_value double precision, reading_count bigint, channel text, unit text,"
    " series_id integer",
    "device_locations": "device_id integer, location_id integer, site text, zone text, position text,"
    " valid_from timestamp with time zone, valid_to timestamp with time zone",
    "device_lineage": "device_id integer, member_id integer, valid_from timestamp with time zone,"
    " valid_to timestamp with time zone",
    "user_behavior_patterns": "pattern_id bigint, user_id uuid, location_id integer, visit_date date, time_slot text,"
    " dwell_time_minutes integer, interaction_points integer, movement_pattern text, preference_indicators jsonb,"
    " comfort_level smallint, environmental_preferences jsonb, computed_at timestamp with time zone",
}


def test_names_order_and_types_of_columns(every_database: Database) -> None:
    """A released column is never renamed, moved or retyped: others are added at the end."""
    for relation, columns in CONTRACT.items():
        found = every_database.one(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            f"iot_service.{relation}",
        )
        assert found == columns, relation


def series(device: str, quantity: str, unit: str = "", profile: str = "maker-model/1", channel: str = "") -> Series:
    return Series(device, channel or quantity, quantity, unit, profile, "1")


WARM, DAMP = series("air", "temperature", "°C"), series("air", "humidity", "%")
SEES, LIGHT = series("radar", "presence"), series("lamp", "illuminance", "lx")


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def measured(of: Series, value: float, minutes: float) -> Reading:
    return reading(value, NOW_US + int(minutes * 60 * SECOND), of)


async def place(database: Database, device: str, zone: str | None, minutes: float, position: str | None = None) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        await places.place(connection, SITE, device, zone, position, at(minutes))
    finally:
        await connection.close()


async def replace(database: Database, old: str, new: str, minutes: float) -> None:
    connection = await connect(database.dsn, "test", 30)
    try:
        await places.replace(connection, SITE, old, new, at(minutes))
    finally:
        await connection.close()


def ids(database: Database) -> dict[str, int]:
    return {
        str(device): number
        for device, number in database.query("SELECT device, device_id FROM iot_service.iot_devices")
    }


def ambient(database: Database, of: Series, minutes: float) -> tuple[Any, Any]:
    ((conditions, presence),) = database.query(
        "SELECT ambient_conditions, user_presence FROM iot_service.readings"
        " WHERE device_id = %s AND reading_type = %s AND recorded_at = %s",
        ids(database)[of.device],
        of.quantity,
        at(minutes),
    )
    return conditions, presence


async def test_ambient_conditions_and_presence_are_of_the_room_at_that_time(every_database: Database) -> None:
    readings = [
        measured(LIGHT, 300, -20),
        measured(WARM, 20, -10),
        measured(SEES, 1, -9),
        measured(DAMP, 40, -5),
        measured(LIGHT, 500, -4),
        measured(SEES, 0, -2),
        measured(WARM, 22, 0),
        measured(LIGHT, 100, 1),
    ]
    await settle(every_database, data(0, readings))
    # Alone in the world as long as nobody says where they are: a device's own other channels.
    assert ambient(every_database, WARM, 0) == ({"humidity": {"value": 40, "unit": "%"}}, None)
    for device in ("air", "radar", "lamp"):
        await place(every_database, device, "hall", -60)
    assert ambient(every_database, WARM, 0) == (
        {"humidity": {"value": 40, "unit": "%"}, "illuminance": {"value": 500, "unit": "lx"}},
        False,
    )
    assert ambient(every_database, DAMP, -5)[1] is True
    # 300 lx are 15 minutes old: not older than that is less than that.
    assert ambient(every_database, DAMP, -5)[0] == {"temperature": {"value": 20, "unit": "°C"}}
    assert ambient(every_database, LIGHT, -20) == (None, None)
    # Elsewhere for five minutes.
    await place(every_database, "radar", "attic", -3)
    await place(every_database, "radar", "hall", 0.5)
    assert ambient(every_database, WARM, 0)[1] is None
    assert ambient(every_database, LIGHT, 1)[1] is False


@pytest.mark.parametrize("column", ["accuracy", "ambient_conditions", "user_presence"])
async def test_what_looks_elsewhere_costs_nothing_where_it_is_not_selected(
    every_database: Database, column: str
) -> None:
    await settle(every_database, data(0))

    def plan(columns: str) -> str:
        rows = every_database.query(f"EXPLAIN (VERBOSE) SELECT {columns} FROM iot_service.readings")
        return "\n".join(row[0] for row in rows)

    assert f"{column}(" in plan(f"device_id, {column}")
    others = [
        "device_id", "reading_type", "value", "unit", "accuracy", "reliability_score", "ambient_conditions",
        "user_presence", "recorded_at", "created_at", "channel", "series_id", "causes", "revision",
    ]  # fmt: skip
    others.remove(column)
    assert f"{column}(" not in plan(", ".join(others))
    assert f"{column}(" not in plan("count(*)")


def profile(name: str, **channels: float | str | None) -> tuple[str, FirmwareProfile]:
    content = {
        "name": name,
        "models": [f"model-{name}"],
        "manufacturer": "Maker",
        "driver": "ble",
        "sources": {"test": {"title": "made up", "document": "this test"}},
        "channels": {
            key: {
                "quantity": key,
                "unit": "%" if key == "humidity" else "Cel",
                "minimum": 0,
                "maximum": 50,
                "accuracy": accuracy,
            }
            for key, accuracy in channels.items()
        },
    }
    return name, FirmwareProfile.model_validate(content)


async def published(database: Database, *profiles: tuple[str, FirmwareProfile]) -> list[tuple[Any, ...]]:
    connection = await connect(database.dsn, "test", 30)
    try:
        await publish(connection, ProfileSet(profiles))
    finally:
        await connection.close()
    return database.query(
        "SELECT profile, channel, accuracy, minimum, maximum FROM iot_service.profile_channels ORDER BY 1, 2"
    )


async def test_accuracy_is_that_of_the_profile_when_the_reading_was_written(every_database: Database) -> None:
    worse, better = (series("air", "temperature", "°C", f"maker-model/{n}") for n in (1, 2))
    await settle(every_database, data(0, [measured(worse, 20, -5), measured(DAMP, 50, -5)]))
    await settle(every_database, data(1, [measured(better, 21, -4)], before=2))
    await published(
        every_database, profile("maker-model/1", temperature=0.5), profile("maker-model/2", temperature="±1 %")
    )
    found = every_database.query("SELECT reading_type, value, accuracy FROM iot_service.readings ORDER BY value")
    assert found == [("temperature", 20, "0.5"), ("temperature", 21, "±1 %"), ("humidity", 50, None)]


async def test_profiles_are_published_and_kept_where_a_series_names_them(every_database: Database) -> None:
    await settle(every_database, data(0, [measured(WARM, 20, 0)]))
    used, unused = profile("maker-model/1", temperature=0.5, humidity=None), profile("maker-model/2", temperature=1)
    rows = await published(every_database, used, unused)
    assert rows == [
        ("maker-model/1", "humidity", None, 0, 50),
        ("maker-model/1", "temperature", "0.5", 0, 50),
        ("maker-model/2", "temperature", "1.0", 0, 50),
    ]
    version = "SELECT xmin::text FROM iot_service.profile_channels ORDER BY profile, channel"
    before = every_database.query(version)
    assert await published(every_database, used, unused) == rows
    assert every_database.query(version) == before
    # Another server's, which knows less.
    assert await published(every_database) == rows[:2]
    assert await published(every_database, profile("maker-model/1", temperature=0.25)) == [
        rows[0],
        ("maker-model/1", "temperature", "0.25", 0, 50),
    ]
    connection = await connect(every_database.dsn, "test", 30)
    try:
        await publish(connection, ProfileSet.load())
    finally:
        await connection.close()
    for known in ProfileSet.load():
        for key, channel in known.channels.items():
            accuracy = every_database.one(
                "SELECT accuracy FROM iot_service.profile_channels WHERE profile = %s AND channel = %s", known.name, key
            )
            assert accuracy == (None if channel.accuracy is None else str(channel.accuracy))


def history(database: Database, view: str, column: str, value: object) -> list[tuple[Any, ...]]:
    return [
        (device, round((recorded_at - NOON) / timedelta(minutes=1)), measured)
        for device, recorded_at, measured in database.query(
            f"SELECT d.device, h.recorded_at, h.value FROM iot_service.{view} h JOIN iot_service.iot_devices d"
            f" ON d.device_id = h.{'member_id' if view == 'device_history' else 'device_id'}"
            f" WHERE h.{column} = %s ORDER BY h.recorded_at, d.device",
            value,
        )
    ]


def numbered(of: Sequence[Series], minutes: Sequence[int]) -> list[Reading]:
    return [measured(s, m, m) for s in of for m in minutes]


async def test_a_zones_history_is_of_those_that_were_there(every_database: Database) -> None:
    minutes = [-40, -30, -20, -10, 0]
    await settle(every_database, data(0, numbered([WARM, LIGHT], minutes)))
    assert history(every_database, "zone_history", "zone", "hall") == []
    await place(every_database, "air", "hall", -30)  # its own first moment counts, its end does not
    await place(every_database, "air", "attic", -10)
    await place(every_database, "lamp", "hall", -20)
    await place(every_database, "lamp", None, -5)
    assert history(every_database, "zone_history", "zone", "hall") == [
        ("air", -30, -30), ("air", -20, -20), ("lamp", -20, -20), ("lamp", -10, -10),
    ]  # fmt: skip
    assert history(every_database, "zone_history", "zone", "attic") == [("air", -10, -10), ("air", 0, 0)]
    assert every_database.query(
        "SELECT d.device, l.zone, l.valid_from, NULLIF(l.valid_to, 'infinity') FROM iot_service.device_locations l"
        " JOIN iot_service.iot_devices d USING (device_id) ORDER BY 1, 3"
    ) == [
        ("air", "hall", at(-30), at(-10)),
        ("air", "attic", at(-10), None),
        ("lamp", "hall", at(-20), at(-5)),
    ]
    # A placement is corrected: said again of the same moment.
    await place(every_database, "air", "cellar", -30)
    assert history(every_database, "zone_history", "zone", "cellar") == [("air", -30, -30), ("air", -20, -20)]


async def test_a_replaced_devices_history_goes_on(every_database: Database) -> None:
    minutes = [-40, -30, -20, -10, 0]
    one, two, three = (series(name, "temperature", "°C") for name in ("one", "two", "three"))
    await settle(every_database, data(0, numbered([one, two, three], minutes)))
    await place(every_database, "one", "hall", -60, "door")
    await replace(every_database, "one", "two", -30)
    await replace(every_database, "two", "three", -10)
    known = ids(every_database)
    assert history(every_database, "device_history", "device_id", known["three"]) == [
        ("one", -40, -40), ("two", -30, -30), ("two", -20, -20), ("three", -10, -10), ("three", 0, 0),
    ]  # fmt: skip
    # A predecessor's own history is whole, also what it measured on somebody's desk afterwards.
    assert [d for d, _, _ in history(every_database, "device_history", "device_id", known["one"])] == ["one"] * 5
    assert [d for d, _, _ in history(every_database, "zone_history", "zone", "hall")] == [
        "one",
        "two",
        "two",
        "three",
        "three",
    ]
    placed = every_database.query("SELECT DISTINCT zone, position FROM iot_service.device_locations")
    assert placed == [("hall", "door")]
    assert every_database.query(
        "SELECT member_id, valid_from = '-infinity', valid_to = 'infinity' FROM iot_service.device_lineage"
        " WHERE device_id = %s ORDER BY valid_from",
        known["three"],
    ) == [(known["one"], True, False), (known["two"], False, False), (known["three"], False, True)]


@pytest.mark.parametrize(
    ("old", "new", "minutes", "why"),
    [
        ("one", "one", -5, "the same device"),
        ("one", "three", -5, "two has already taken the place of one"),
        ("two", "one", -5, "itself among its predecessors"),
        ("two", "three", -45, "took over its place only later"),
        ("nine", "three", -5, "no device nine at site seoul-1"),
    ],
)
async def test_a_succession_without_sense_is_refused(
    every_database: Database, old: str, new: str, minutes: float, why: str
) -> None:
    await settle(every_database, data(0, [measured(series(d, "temperature"), 1, 0) for d in ("one", "two", "three")]))
    await replace(every_database, "one", "two", -40)
    with pytest.raises(places.NoSuchThing, match=why):
        await replace(every_database, old, new, minutes)
    assert every_database.one("SELECT count(*) FROM iot_service.device_successions") == 1


async def test_latest_readings_hours_and_days(every_database: Database) -> None:
    second = series("air", "temperature", "°C", channel="probe")
    # 15:00 UTC is midnight in Seoul.
    found = [(WARM, 20.0, 0), (WARM, 22.0, 4), (WARM, 30.0, -180), (second, 7.0, 3), (WARM, 26.0, -1261)]
    await settle(every_database, data(0, [measured(*one) for one in found]))
    async with open_writer(every_database) as writer:
        await places.set_time_zone(writer.connection, SITE, "Asia/Seoul")
        await refresh_all(writer.connection)
    (air,) = ids(every_database).values()
    columns = "device_id, reading_type, value, unit, reliability_score, recorded_at, channel"
    assert every_database.query(f"SELECT {columns} FROM iot_service.latest_readings ORDER BY channel") == [
        (air, "temperature", 7, "°C", 1, at(3), "probe"),
        (air, "temperature", 22, "°C", 1, at(4), "temperature"),
    ]
    columns = "device_id, reading_type, hour, avg_value, min_value, max_value, reading_count, channel, unit"
    hours = every_database.query(f"SELECT {columns} FROM iot_service.hourly_sensor_averages ORDER BY channel, hour")
    assert hours == [
        (air, "temperature", at(0), 7, 7, 7, 1, "probe", "°C"),
        (air, "temperature", at(-1320), 26, 26, 26, 1, "temperature", "°C"),
        (air, "temperature", at(-180), 30, 30, 30, 1, "temperature", "°C"),
        (air, "temperature", at(0), 21, 20, 22, 2, "temperature", "°C"),
    ]
    columns = "device_id, reading_date, reading_type, avg_value, min_value, max_value, reading_count, channel, unit"
    days = every_database.query(f"SELECT {columns} FROM iot_service.fact_sensor_daily ORDER BY channel, reading_date")
    day = NOON.date()
    assert days == [
        (air, day, "temperature", 7, 7, 7, 1, "probe", "°C"),
        (air, day - timedelta(days=1), "temperature", 26, 26, 26, 1, "temperature", "°C"),
        (air, day, "temperature", 24, 20, 30, 3, "temperature", "°C"),
    ]


def test_sql_names_causes_as_the_code_does(every_database: Database) -> None:
    bits = [0, *(1 << n for n in range(32)), 1 | 64, int(sum(Causes)), 2**31 - 1]
    # A column of int4: the highest bit is its sign.
    signed = [b - 2**32 if b >= 2**31 else b for b in bits]
    named = every_database.query(
        "SELECT iot_service.cause_names(b) FROM unnest(%s::int[]) WITH ORDINALITY AS u (b, n) ORDER BY n", signed
    )
    assert [names for (names,) in named] == [Causes.names(b) for b in bits]
