"""The edge daemon, put together: drivers → queue → sealer → spool → uplink, in one TaskGroup.

Invariant 7: reloading the configuration never touches the spool.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from device_drivers.driver import Driver
from device_drivers.registry import DRIVER_KINDS
from firmware_profiles.selection import ProfileSet
from gateway.batcher import Batcher
from gateway.clock import BOOT_ID, Clock, read_boot_id
from gateway.collector import Collector, ReadingQueue
from gateway.config import GatewayConfig, Kinds
from gateway.conversation import VERSION
from gateway.daemon import Watchdog, notify
from gateway.housekeeping import keep_house
from gateway.link.config_file import ConfigError
from gateway.reporter import Reporter
from gateway.sealer import Sealer
from gateway.spool.errors import SpoolError, SpoolUnavailable
from gateway.spool.thread import SpoolThread
from gateway.spool.values import Boot, SpoolOptions
from gateway.state_owner import claim
from gateway.uplink import Uplink

log = logging.getLogger(__name__)

_FEED_S = 10.0

# The slowest commit that was seen on a worn SD card took 8 s; several of them may follow each other.
_DISK_PATIENCE_S = 60.0

# What is left of a stop when the uplink has had its `drain_s`: the farewell to the broker.
_FAREWELL_S = 2.0


class CannotStart(Exception):
    """Something outside of the configuration keeps the daemon from starting: says what to do about it."""


class Gateway:
    """One run of the daemon. load: reads configuration and profiles again, for a reload; raises ConfigError."""

    def __init__(
        self,
        config: GatewayConfig,
        profiles: ProfileSet,
        *,
        load: Callable[[], tuple[GatewayConfig, ProfileSet]],
        kinds: Kinds = DRIVER_KINDS,
        boot_id_path: Path = BOOT_ID,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._profiles = profiles
        self._load = load
        self._kinds = kinds
        self._clock = clock or Clock(config.clock.trust)
        self._boot_id_path = boot_id_path
        self._reload = asyncio.Event()

    def reload(self) -> None:
        """Read configuration and profiles again and restart the drivers that changed; what SIGHUP does.

        Where a profile changed, every driver is restarted: none goes on with what it said before.
        """
        self._reload.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and the line is drained. Raises CannotStart."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            async with AsyncExitStack() as stack:
                await self._run(await self._open_spool(stack), stop)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    async def _open_spool(self, stack: AsyncExitStack) -> SpoolThread:
        config = self._config
        try:
            config.gateway.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
            fault = claim(config.gateway.state_dir, config.identity)
            if fault is not None:
                raise CannotStart(fault)
            boot = Boot(read_boot_id(self._boot_id_path), self._clock.now_us())
            options = SpoolOptions(
                config.spool.bound_bytes, config.spool.replay_window_s, when_full=config.spool.when_full
            )
            return await stack.enter_async_context(
                SpoolThread.open(config.spool_path, options, boot, self._clock.wall_s())
            )
        except SpoolError as error:
            raise CannotStart(str(error)) from error
        except OSError as error:
            raise CannotStart(
                f"{config.gateway.state_dir}: {error.strerror or error}; make the folder and give it to this user"
            ) from error

    async def _run(self, spool: SpoolThread, stop: asyncio.Event) -> None:
        config, clock = self._config, self._clock
        patience = {
            "sealer": _DISK_PATIENCE_S,
            "spool": _DISK_PATIENCE_S,
            "uplink": _DISK_PATIENCE_S
            + config.uplink.heartbeat_s
            + config.uplink.reconnect_longest_s
            + 3 * config.mqtt.connect_timeout_s,
        }
        watchdog = Watchdog(patience, clock.now_s())

        def progress(source: str) -> None:
            watchdog.progress(source, clock.now_s())

        queue = ReadingQueue()
        batcher = Batcher(config.batch.linger_s, config.batch.max_readings)
        uplink = Uplink(
            config.identity,
            config.mqtt,
            config.uplink,
            spool,
            clock,
            body_limit_changed=batcher.limit_body,
            progress=partial(progress, "uplink"),
        )
        sealer = Sealer(
            queue,
            batcher,
            spool,
            clock,
            thin=config.spool.thin,
            sealed=uplink.wake,
            progress=partial(progress, "sealer"),
        )
        async with asyncio.TaskGroup() as tasks:
            collector = Collector(tasks, queue, self._open_driver, now_s=clock.now_s)
            report = Reporter(config, clock, spool, collector, batcher, sealer, uplink)
            seal = tasks.create_task(sealer.run(), name="seal")
            send = tasks.create_task(uplink.run(), name="uplink")
            house = keep_house(
                spool,
                clock,
                config.gateway.state_dir,
                changed=uplink.wake,
                trusted=uplink.ask,
                progress=partial(progress, "spool"),
            )
            background = [
                tasks.create_task(house, name="housekeeping"),
                tasks.create_task(report.run(), name="health"),
                tasks.create_task(self._feed(watchdog), name="watchdog"),
            ]
            reloads = tasks.create_task(self._reloads(collector), name="reload")
            await collector.apply(config.driver)
            log.info("gateway %s %s with %d drivers, spool %s", config.identity, VERSION, *self._said())
            notify("READY=1")
            await stop.wait()
            # From the source to the sink: what each stage holds goes into the next before that one is stopped.
            log.info("stopping: drivers first, then what they gave is sealed")
            reloads.cancel()
            await asyncio.wait([reloads])
            await collector.stop()
            await seal
            uplink.finish()
            await asyncio.wait([send], timeout=config.uplink.drain_s + _FAREWELL_S if uplink.state.connected else 0)
            send.cancel()
            for task in background:
                task.cancel()
            await asyncio.wait([send, *background])
            try:
                log.info("stopped; %s", (await report.write(stopped=True)).line())
            except (SpoolUnavailable, OSError) as error:
                # All is sealed, or told as lost: a stop that raised would say otherwise.
                log.warning("stopped; no last health report: %s", error)

    def _said(self) -> tuple[int, Path]:
        return len(self._config.driver), self._config.spool_path

    def _open_driver(self, options: BaseModel) -> Driver:
        kind = self._kinds[str(getattr(options, "kind", ""))]
        return kind.open(options, self._profiles, self._clock.now_us)

    async def _reloads(self, collector: Collector) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                config, profiles = await asyncio.to_thread(self._load)
            except ConfigError as error:
                for line in str(error).splitlines():
                    log.error("%s", line)
                log.error("the new configuration is refused, the old one goes on")
                continue
            anew = profiles != self._profiles
            self._profiles = profiles
            stopped, started = await collector.apply(config.driver, anew=anew)
            log.info("configuration read again: %d drivers stopped, %d started", stopped, started)
            changed = config.changed(self._config)
            if changed:
                log.warning("changes of [%s] count from the next start", "], [".join(changed))

    async def _feed(self, watchdog: Watchdog) -> None:
        told: list[str] = []
        while True:
            stalled = watchdog.feed(self._clock.now_s())
            if stalled != told:
                log.error("no progress: %s", ", ".join(stalled) or "none any more")
            told = stalled
            await asyncio.sleep(_FEED_S)
