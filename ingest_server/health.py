"""What the server knows of itself: fed to systemd's watchdog, written as JSON, logged now and then."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path

from gateway.daemon import Watchdog
from ingest_server.counters import COUNTED, Counters
from ingest_server.errors import StorageError
from ingest_server.source import MqttSource
from ingest_server.storage.connection import sql, translated
from ingest_server.storage.pools import Pool

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_LOG_EVERY_S = 60.0
_STALL_S = 120.0
_STORAGE_EVERY_S = 15.0
_UNKNOWN: dict[str, object] = {"rollup_log_entries": None, "failed_jobs": None}


async def report(path: Path | None, source: MqttSource, counters: Counters, read: Pool) -> None:
    """Until cancelled. path: where the JSON goes, if anywhere."""
    storage = dict(_UNKNOWN)
    # Beside it: a database that is away must not hold up what is said of the line.
    watching = asyncio.create_task(_watch_storage(read, storage), name="storage health")
    try:
        await _report(path, source, counters, storage)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _report(path: Path | None, source: MqttSource, counters: Counters, storage: dict[str, object]) -> None:
    watchdog = Watchdog({"groups": _STALL_S}, time.monotonic())
    moved, logged_s, told = 0, time.monotonic(), ""
    while True:
        now = time.monotonic()
        # Only work that waits and does not move is a stall: without batches there is no progress to make, and an
        # attempt at a database that is away is one (a restart would not bring it back).
        if counters.moves() != moved or not source.waiting:
            moved = counters.moves()
            watchdog.progress("groups", now)
        for stalled in watchdog.feed(now):
            log.error("no progress in %s for %d s", stalled, _STALL_S)
        snapshot = health(source, counters) | storage
        if path is not None:
            try:
                await asyncio.to_thread(_write_atomically, path, json.dumps(snapshot))
                told = ""
            except OSError as error:
                # Whoever looks at the file sees that it is old; the line itself must not stop for it.
                if str(error) != told:
                    log.error("cannot write the health file: %s", error)
                told = str(error)
        if now - logged_s >= _LOG_EVERY_S:
            logged_s = now
            log.info("%s", " ".join(f"{key}={value}" for key, value in snapshot.items()))
        await asyncio.sleep(_EVERY_S)


def health(source: MqttSource, counters: Counters) -> dict[str, object]:
    """Batches and readings by fate since the start; commit latency from arrival to COMMIT, milliseconds."""
    p50, p99 = counters.latency_ms(0.5), counters.latency_ms(0.99)
    return {
        "connected": source.connected,
        "waiting": source.waiting,
        "alien": source.alien,
        **{name: getattr(counters, name) for name in COUNTED},
        "commit_latency_ms_p50": None if p50 is None else round(p50, 3),
        "commit_latency_ms_p99": None if p99 is None else round(p99, 3),
    }


async def _watch_storage(read: Pool, storage: dict[str, object]) -> None:
    while True:
        storage.update(await _storage(read))
        await asyncio.sleep(_STORAGE_EVERY_S)


async def _storage(read: Pool) -> dict[str, object]:
    """How far rollups are behind, in entries of their log; jobs whose latest run failed. None: not known now."""
    try:
        async with asyncio.timeout(_STORAGE_EVERY_S), read.connection() as connection:
            with translated():
                cursor = await connection.execute(sql("storage_health"))
                row = await cursor.fetchone()
    except (StorageError, TimeoutError):
        return _UNKNOWN
    assert row is not None
    return {"rollup_log_entries": row[0], "failed_jobs": row[1]}


def _write_atomically(path: Path, text: str) -> None:
    # A reader must never see half a file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
