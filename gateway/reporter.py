"""Puts the health report together from every stage, writes it to its file and to the log."""

import asyncio
import logging
import os
import threading
import time

from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.collector import Collector
from gateway.config import GatewayConfig
from gateway.conversation import VERSION
from gateway.daemon import notify
from gateway.health import (
    ClockReport,
    HealthReport,
    LineLoads,
    Rates,
    SpoolReport,
    UplinkReport,
    age_s,
    driver_report,
    health_file,
    write_report,
)
from gateway.sealer import Sealer
from gateway.spool.errors import SpoolUnavailable
from gateway.spool.thread import SpoolThread
from gateway.uplink import Uplink

log = logging.getLogger(__name__)


class Reporter:
    """The stages are only read, never called back."""

    def __init__(
        self,
        config: GatewayConfig,
        clock: Clock,
        spool: SpoolThread,
        collector: Collector,
        batcher: Batcher,
        sealer: Sealer,
        uplink: Uplink,
    ) -> None:
        self._config = config
        self._clock = clock
        self._spool = spool
        self._collector = collector
        self._batcher = batcher
        self._sealer = sealer
        self._uplink = uplink
        self._began_s = clock.now_s()
        self._rates = Rates(self._began_s)
        self._loads = LineLoads(self._began_s)
        self._path = health_file(config)
        self._told = ""
        self._writing = threading.Lock()

    async def run(self) -> None:
        """For ever: a file every few seconds, a line now and then."""
        options = self._config.health
        logged_s = self._clock.now_s()
        while True:
            await asyncio.sleep(options.write_s)
            try:
                report = await self.write()
            except SpoolUnavailable as error:
                log.warning("no health report: %s", error)
                continue
            notify(f"STATUS={report.line()}")
            if self._clock.now_s() - logged_s >= options.log_s:
                logged_s = self._clock.now_s()
                log.info("%s", report.line())

    async def write(self, *, stopped: bool = False) -> HealthReport:
        """The report as of now, written where `status` finds it. stopped: the last one."""
        report = await self._report(stopped)
        try:
            # A disk that is slow must not hold up the readings.
            await asyncio.to_thread(self._write, report)
            self._told = ""
        except OSError as error:
            if str(error) != self._told:
                log.warning("cannot write the health report: %s", error)
            self._told = str(error)
        return report

    def _write(self, report: HealthReport) -> None:
        # A stop cancels whoever waits for a write, not the write: the last report would mix with it, in one draft.
        with self._writing:
            write_report(self._path, report)

    async def _report(self, stopped: bool) -> HealthReport:
        usage, ledger = await self._spool.run(lambda s: (s.usage(), s.pinned_ledger))
        now_s, anchor = self._clock.now_s(), self._clock.read_anchor()
        state, sealer = self._uplink.state, self._sealer.state
        since_us = self._batcher.thinning.since_us
        devices = self._rates.devices(self._collector.devices, now_s)
        drivers = self._collector.drivers
        loads = self._loads.of(drivers, now_s)
        counted = usage.whole_file
        return HealthReport(
            gateway=self._config.identity,
            state_dir=str(self._config.gateway.state_dir),
            pid=os.getpid(),
            version=VERSION,
            written_at_s=time.time(),
            uptime_s=round(now_s - self._began_s, 3),
            stopped=stopped,
            readings=sealer.taken,
            readings_per_s=round(sum(device.readings_per_s for device in devices), 3),
            waiting=self._batcher.waiting(),
            refused=sealer.refused,
            no_room=sealer.no_room,
            thinning_age_s=age_s(None if since_us is None else since_us / 1e6, now_s),
            clock=ClockReport(
                source=None if anchor is None else anchor.source.name.lower(),
                uncertainty_us=None if anchor is None else anchor.uncertainty_us,
            ),
            spool=SpoolReport(
                held_batches=usage.batches,
                held_readings=usage.readings,
                held_bytes=usage.bytes,
                bound_bytes=usage.bound_bytes,
                file_bytes=usage.file_bytes,
                fill=round(usage.fill, 3),
                reserve=usage.reserve,
                sealed=counted.sealed_readings,
                settled=counted.settled_readings,
                dropped=dict(counted.dropped),
                unsealed_lost=dict(counted.unsealed),
                ledger=ledger,
            ),
            uplink=UplinkReport(
                session=state.session,
                connected=state.connected,
                server_online=state.server_online,
                sessions=state.sessions,
                sent=state.sent,
                resent=state.resent,
                taken_back=state.taken_back,
                too_large=state.too_large,
                receipts=state.receipts,
                foreign_receipts=state.foreign_receipts,
                bad_messages=state.bad_messages,
                live_under_way=state.live,
                backlog_under_way=state.backlog,
                drain_bytes_s=state.drain_bytes_s,
                last_receipt_age_s=age_s(state.last_receipt_s, now_s),
            ),
            drivers=tuple(driver_report(health, now_s, loads.get(health.name)) for health in drivers),
            devices=devices,
        )
