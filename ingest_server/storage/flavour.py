"""Which of the two ways this database keeps readings: chosen once, by its first migration that differs."""

from enum import StrEnum

from ingest_server.errors import SchemaError
from ingest_server.storage.connection import Connection, sql, translated

OLDEST_POSTGRESQL = 15
OLDEST_TIMESCALEDB = (2, 23)


class Flavour(StrEnum):
    """native: PostgreSQL's own partitions, rollups in tables. timescaledb: hypertable, continuous aggregates."""

    NATIVE = "native"
    TIMESCALEDB = "timescaledb"


class Wanted(StrEnum):
    """What an operator may insist on."""

    AUTO = "auto"
    NATIVE = "native"
    TIMESCALEDB = "timescaledb"


async def recorded(connection: Connection) -> Flavour | None:
    """The flavour of this database's schema; None before the migration that decides it."""
    with translated():
        cursor = await connection.execute("SELECT to_regclass('iot_service.schema_migrations') IS NOT NULL")
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return None
        cursor = await connection.execute(sql("recorded_flavour"))
        row = await cursor.fetchone()
    return None if row is None else Flavour(row[0])


async def choose(connection: Connection, wanted: Wanted) -> Flavour:
    """What a migration shall make. Raises SchemaError where that is not to be had, naming what would be right."""
    made = await recorded(connection)
    if made is not None:
        if wanted not in (Wanted.AUTO, Wanted(made)):
            raise SchemaError(
                f"this database is {made}, and {wanted} is asked for: see docs/operation.md, Changing the flavour"
            )
        return made
    if wanted is Wanted.NATIVE:
        return Flavour.NATIVE
    with translated():
        cursor = await connection.execute(sql("offered_timescaledb"))
        row = await cursor.fetchone()
    assert row is not None
    installed, available, licence = row
    if installed is None:
        if wanted is Wanted.AUTO and available is None:
            return Flavour.NATIVE
        if available is None:
            raise SchemaError("timescaledb is asked for, and this server does not have it: install it, or say native")
        raise SchemaError(
            "this server offers TimescaleDB, which this database does not have yet: as a superuser, CREATE EXTENSION"
            " timescaledb; or say `--flavour native`"
        )
    if tuple(int(part) for part in installed.split("-")[0].split(".")[:2]) < OLDEST_TIMESCALEDB:
        oldest = ".".join(map(str, OLDEST_TIMESCALEDB))
        raise SchemaError(f"TimescaleDB {installed} is too old: {oldest} or newer is needed; or say `--flavour native`")
    if licence == "apache":
        raise SchemaError(
            "this TimescaleDB is the Apache edition, without columnstore and continuous aggregates: install the"
            " community edition, or say `--flavour native`"
        )
    return Flavour.TIMESCALEDB


async def require_server(connection: Connection) -> None:
    """Raises SchemaError for a server that is too old, or cannot hold every name."""
    with translated():
        cursor = await connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
            " current_setting('server_encoding')"
        )
        row = await cursor.fetchone()
    assert row is not None
    if row[0] < OLDEST_POSTGRESQL * 10_000:
        raise SchemaError(f"PostgreSQL {row[1]} is too old: {OLDEST_POSTGRESQL} or newer is needed")
    # Names of devices are written in every alphabet: another encoding would refuse them one by one.
    if row[2] != "UTF8":
        raise SchemaError(f"the database's encoding is {row[2]}: make one with ENCODING 'UTF8'")
