"""A process that writes at a steady rate through the server's storage code, jobs and all, until it is terminated.

Groups of 2,000 readings, which is what the server gathers of 10,000/s in `ingest.gather_ms`, committed with their
ledger entry; the schedule runs beside it, so that rollups are refreshed, months made, months archived. Says `READY`,
and at the end one JSON line.
"""

import argparse
import asyncio
import json
import secrets
import signal
import time

import numpy as np

from device_drivers.reading import Series
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import Envelope, Kind
from ingest_server.config import DatabaseOptions, IngestConfig, pools_of
from ingest_server.jobs.context import Context
from ingest_server.jobs.schedule import Schedule
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.line.catalogue import CatalogueLimits
from ingest_server.storage.line.group import Entry, write_group
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.writer import Writer, WriterOptions

GROUP = 2_000
_SERIES = 1_000
_GATEWAY = "bench/steady"


async def write(dsn: str, rate: float, stop: asyncio.Event) -> dict[str, float]:
    """rate: readings a second. What was written, and the longest that a reading waited for its commit, in seconds."""
    config = IngestConfig(database=DatabaseOptions.model_validate({"dsn": dsn}))
    pools = pools_of(config.database)
    writer = await Writer.open(
        WriterOptions(pools.write, CatalogueLimits(2_000, 10_000), lambda _: (None, None), QuarantineBound(), 1_000)
    )
    series = [Series(f"d-{n // 4}", f"c{n % 4}", "temperature", "°C", "p/1", "1") for n in range(_SERIES)]
    ids = (await writer.catalogue.table(_GATEWAY, series, 0.0)).ids
    gateway_id = await writer.catalogue.gateway_id(_GATEWAY)
    epoch, rng = secrets.randbits(62) | 1, np.random.default_rng(7)
    schedule = asyncio.create_task(Schedule(Context.of(config, pools, Flavour.NATIVE)).run())
    print("READY", flush=True)
    written, longest_s, began = 0, 0.0, time.monotonic()
    while not stop.is_set():
        due_s = began + written / rate
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        n = np.arange(written, written + GROUP)
        now_us = time.time_ns() // 1000
        rows = Rows(
            now_us + np.arange(GROUP, dtype=np.int64),
            ids[n % _SERIES],
            np.round(20 + rng.random(GROUP) * 5, 2),
            np.full(GROUP, 100, np.int32),
            np.zeros(GROUP, np.int32),
        )
        envelope = Envelope(
            Kind.DATA, _GATEWAY, epoch, written // GROUP, GROUP, written, Anchor(0, 0, ClockSource.KERNEL), 1
        )
        await write_group(
            writer.connection, writer.partitions, [Entry(gateway_id, envelope, b"", rows)], QuarantineBound()
        )
        written += GROUP
        longest_s = max(longest_s, time.monotonic() - due_s)
    took_s = time.monotonic() - began
    schedule.cancel()
    await asyncio.gather(schedule, return_exceptions=True)
    await writer.close()
    await pools.end()
    return {"readings": written, "readings_per_s": written / took_s, "longest_wait_s": longest_s}


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("rate", type=float)
    arguments = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps(await write(arguments.dsn, arguments.rate, stop)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
