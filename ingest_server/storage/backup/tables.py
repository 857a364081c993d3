"""Which tables a backup holds, and how it finds out about those of a given database.

Every table of the schema is in one of these lists; a test compares them with the newest schema, so that whoever adds
a table decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KEPT = (
    "ledger_identity",
    "gateways",
    "gateway_instances",
    "iot_devices",
    "series",
    "series_profiles",
    "sites",
    "zones",
    "device_placements",
    "device_successions",
    "profile_channels",
    "ledger",
    "ledger_archive",
    "data_gaps",
    "quarantine",
    "raw_horizon",
    "erasures",
    "erased_intervals",
    "corrections",
    "correction_revisions",
    "raw_frames",
    "user_behavior_patterns",
    "series_latest",
    "latest_readings",
    "sensor_readings",
)
"""Whole, in this order: what is referred to comes first. latest_readings: the name of series_latest in version 2."""

BEFORE_HORIZON = ("rollup_1m", "rollup_1h", "rollup_1d", "rollup_site_day")
"""Only what no reading in the table can make again."""

DERIVED = frozenset({"rollup_log", "changed_days", "job_runs", "schema_migrations", "schema_objects"})
"""Not at all: the next refresh makes it, a migration writes it, or it tells of a server that is gone."""

FILLED_BY_MIGRATION = frozenset({"ledger_identity", "raw_horizon", "profile_channels"})
"""Have rows in a database that is as good as empty: migrations and a server's start put them there."""

READINGS = "sensor_readings"

CONDITIONS = {
    "rollup_1m": "bucket < (SELECT begins FROM iot_service.raw_horizon)",
    "rollup_1h": "bucket < (SELECT begins FROM iot_service.raw_horizon)",
    "rollup_1d": "bucket < (SELECT begins FROM iot_service.raw_horizon)",
    "rollup_site_day": (
        "reading_date::timestamp AT TIME ZONE COALESCE((SELECT t.time_zone FROM iot_service.series s"
        " JOIN iot_service.iot_devices v USING (device_id) JOIN iot_service.sites t USING (site)"
        " WHERE s.series_id = rollup_site_day.series_id), 'UTC') < (SELECT begins FROM iot_service.raw_horizon)"
    ),
}
"""Of BEFORE_HORIZON: as a refresh of the rollups has it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One of the schema's. kind: pg_class.relkind. columns: what COPY takes, in order. rows: an estimate."""

    name: str
    kind: str
    columns: tuple[str, ...]
    rows: int

    @property
    def is_view(self) -> bool:
        return self.kind not in ("r", "p")


def tables_of(rows: list[tuple[Any, ...]]) -> dict[str, Table]:
    """What the statement `backup_tables` found, by name."""
    return {name: Table(name, kind, tuple(columns), int(estimate)) for name, kind, columns, estimate in rows}


def chosen(tables: dict[str, Table], names: tuple[str, ...], *, views: bool = False) -> list[Table]:
    """Those of the names that this database has, in the order of the names."""
    fits: Callable[[Table], bool] = (lambda _table: True) if views else (lambda table: not table.is_view)
    return [tables[name] for name in names if name in tables and fits(tables[name])]


def unknown(tables: dict[str, Table]) -> list[str]:
    """Tables in the schema that are not ours: nobody has decided about them."""
    known = {*KEPT, *BEFORE_HORIZON, *DERIVED}
    return sorted(table.name for table in tables.values() if not table.is_view and table.name not in known)
