"""What TimescaleDB does by itself, as the configuration wants it: columnstore, continuous aggregates, retention.

Nothing outside of raw retention is ever refreshed: an aggregate that looks at dropped chunks forgets what it knew.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ingest_server.errors import SchemaError
from ingest_server.storage.connection import Connection, sql, transaction, translated

# Enforces CHECK and NOT NULL from there on, after a data-loss fix in 2.26 (TimescaleDB's changelog).
_DIRECT_COMPRESS = (2, 28, 1)

_MOST_WINDOWS = 50


@dataclass(frozen=True, slots=True)
class TimescaleOptions:
    """chunk_days: width of new chunks. columnstore_after_days: age at which a chunk becomes columns. keep_days: at
    which readings are dropped."""

    chunk_days: int = 1
    columnstore_after_days: int = 7
    keep_days: int = 1_095


@dataclass(frozen=True, slots=True)
class _Policy:
    """One background job: on which relation, of which kind, the key of its configuration that must be so many days."""

    relation: str
    kind: str
    key: str
    days: Callable[[TimescaleOptions], int]
    add: str
    remove: str

    def interval(self, options: TimescaleOptions) -> str:
        return f"{self.days(options)} days"


def _retention(relation: str) -> _Policy:
    return _Policy(
        f"iot_service.{relation}",
        "policy_retention",
        "drop_after",
        lambda options: options.keep_days,
        # Not at once: jobs that are added together start together, and chunks would go before anything has read them.
        "SELECT add_retention_policy(%(relation)s::regclass, drop_after => %(wanted)s::interval,"
        " schedule_interval => interval '1 day', initial_start => now() + interval '1 day')",
        "SELECT remove_retention_policy(%(relation)s::regclass, if_exists => true)",
    )


# None refreshes: the log tells of every change, and refreshes that overlap have failed, or made a bucket twice, on
# several versions (TimescaleDB's issues 9221, 9571, 10219).
_POLICIES = (
    _Policy(
        "iot_service.sensor_readings",
        "policy_compression",
        "compress_after",
        lambda options: options.columnstore_after_days,
        "CALL add_columnstore_policy(%(relation)s::regclass, after => %(wanted)s::interval)",
        "CALL remove_columnstore_policy(%(relation)s::regclass, if_exists => true)",
    ),
    _retention("sensor_readings"),
    _retention("rollup_1m"),
)


async def require_direct_compress(connection: Connection) -> None:
    """Raises SchemaError where COPY straight into columns could lose or falsify readings."""
    with translated():
        cursor = await connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        row = await cursor.fetchone()
    version = "0" if row is None else str(row[0])
    if tuple(int(part) for part in version.split("-")[0].split(".")) < _DIRECT_COMPRESS:
        oldest = ".".join(map(str, _DIRECT_COMPRESS))
        raise SchemaError(
            f"storage.timescaledb.direct_compress needs TimescaleDB {oldest} or newer, this is {version}: turn it off"
        )


async def apply_policies(connection: Connection, options: TimescaleOptions) -> list[str]:
    """Brings TimescaleDB's own jobs to what the options say; what was changed. May be repeated."""
    changed = []
    async with transaction(connection):
        await connection.execute(sql("find_timescaledb"))
        cursor = await connection.execute(sql("keeping/set_chunk_interval"), {"chunk_days": options.chunk_days})
        if cursor.rowcount:
            changed.append("chunk interval")
        for policy in _POLICIES:
            values = {"relation": policy.relation, "wanted": policy.interval(options)}
            cursor = await connection.execute(
                sql("keeping/policy_stands"),
                {**values, "kind": policy.kind, "key": policy.key},
            )
            if cursor.rowcount:
                continue
            await connection.execute(policy.remove, {"relation": policy.relation})
            await connection.execute(policy.add, values)
            changed.append(f"{policy.kind} of {policy.relation}")
    return changed


async def refresh_aggregates(connection: Connection, entries: list[int]) -> None:
    """Refreshes what entries of the log tell of, level by level. Not within a transaction: TimescaleDB forbids it."""
    with translated():
        cursor = await connection.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb'"
        )
        row = await cursor.fetchone()
        assert row is not None
        cursor = await connection.execute(sql("keeping/rollups_windows"), {"entries": entries})
        windows = await cursor.fetchall()
        if len(windows) > _MOST_WINDOWS:
            # TimescaleDB looks only at what it knows to have changed: one wide window costs little more.
            windows = [(min(w[0] for w in windows), max(w[1] for w in windows))]
        for level in ("rollup_1m", "rollup_1h", "rollup_1d"):
            for from_at, to_at in windows:
                await connection.execute(
                    f"CALL {row[0]}.refresh_continuous_aggregate('iot_service.{level}', %s, %s)".encode(),
                    (from_at, to_at),
                )


async def failed_jobs(connection: Connection) -> list[str]:
    """What TimescaleDB's own jobs failed at within a day, one line each."""
    with translated():
        cursor = await connection.execute(sql("keeping/timescaledb_job_errors"))
        return [f"{name}: {times} times, last: {said}" for name, times, said in await cursor.fetchall()]


async def advance_horizon(connection: Connection, now_us: int, keep_days: int) -> str:
    """What retention may drop soon is not refreshed any more; the day from which on everything is."""
    async with transaction(connection):
        cursor = await connection.execute(sql("keeping/advance_horizon"), {"now_us": now_us, "keep_days": keep_days})
        row = await cursor.fetchone()
    assert row is not None
    return str(row[0])
