"""Whether there is room, told before hours of work, where what is needed and what is free can be known.

A backup is refused that would have failed. What is not refused may fail all the same, late; nothing of it stays then,
either. A database is to leave room besides: PostgreSQL ends where its disk is full, and is not ours alone.
"""

import shutil
from pathlib import Path

from ingest_server.storage.backup.errors import BackupError, NotWritten, TargetRefused
from ingest_server.storage.backup.folder import newest
from ingest_server.storage.backup.manifest import Manifest, read_manifest
from ingest_server.storage.connection import Connection
from ingest_server.storage.disk import disk_of_server

LEAST_IN_BACKUP = 2
"""Bytes of a reading in a backup, compressed: 6.3 where values go by steps of 1/100 (docs/performance.md)."""

IN_DATABASE = 120
"""Bytes of a reading in a restored database: 68 of its row, some 30 in the index, and what making that takes."""

_TELLING = 10_000
"""Readings of a backup that say how those of the next one are compressed."""


def require_for_backup(directory: Path, readings: int) -> None:
    """Raises NotWritten where so many readings (PostgreSQL's estimate) do not fit into the folder's file system."""
    each, as_in = _each(directory)
    needed, free = int(readings * each), shutil.disk_usage(directory).free
    if needed > free:
        raise NotWritten(
            f"{directory}: some {readings:,} readings take {_mb(needed)} at {each:.1f} bytes each{as_in}, and"
            f" {_mb(free)} are free: make room, or name a folder elsewhere"
        )


def _each(directory: Path) -> tuple[float, str]:
    try:
        before = newest(directory)
        files = [f for f in read_manifest(before).files if f.table == "iot_service.sensor_readings"]
    except BackupError:
        return LEAST_IN_BACKUP, " at the least"
    readings = sum(f.rows for f in files)
    if readings < _TELLING:
        return LEAST_IN_BACKUP, " at the least"
    return sum(f.bytes for f in files) / readings, f", as in {before.name}"


async def require_for_database(connection: Connection, manifest: Manifest) -> None:
    """Raises TargetRefused where a database made of the backup does not fit onto the server's disk."""
    needed, disk = needed_for_database(manifest), await disk_of_server(connection)
    if disk is not None and needed > disk.free:
        raise TargetRefused(
            f"a database of {manifest.readings:,} readings needs some {_mb(needed)}, and {_mb(disk.free)} are free"
            " where this server keeps its data: make room, or name another server"
        )


def needed_for_database(manifest: Manifest) -> int:
    """Bytes that making a database of a backup takes."""
    return manifest.readings * IN_DATABASE


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
