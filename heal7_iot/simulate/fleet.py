"""All gateways of a plan: started, interrupted, drained, counted."""

import asyncio
import contextlib
import heapq
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.config import BatchOptions, UplinkOptions
from gateway.link.broker import BrokerOptions
from heal7_iot.simulate.course import Course
from heal7_iot.simulate.gateway import SimulatedGateway
from heal7_iot.simulate.latency import Latencies
from heal7_iot.simulate.plan import Outage, Plan
from heal7_iot.simulate.steady_clock import SteadyClock

_STARTS_PER_S = 200
"""The fleet's first connections: what is to be seen is how it runs and comes back, not how this process starts."""
_TIDY_EVERY_S = 30.0
_LOOK_S = 0.1
_FAREWELL_S = 15.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The fleet at one moment. Readings and batches since the start. attempts: to connect. online: gateways that know
    of a server. live_…: seconds from sealing to the receipt of batches that had both while the server was there, in
    the last 5 s.
    """

    at_s: float
    reading: bool
    gateways: int
    connected: int
    online: int
    cut: int
    readings: int
    settled: int
    in_flight_readings: int
    in_flight_batches: int
    resent: int
    attempts: int
    reconnects: int
    live_p50_s: float | None
    live_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What it came to. Readings, but for batches and resent (batches). began_at_us: Unix µs at which the plan began.

    Seconds from sealing to the receipt: live_… of batches that had both while the server was there, every_… of all.
    """

    seconds: float
    began_at_us: int
    sealed: int
    settled: int
    dropped: int
    in_flight: int
    batches: int
    resent: int
    attempts: int
    reconnects: int
    live_p50_s: float | None
    live_p95_s: float | None
    every_p50_s: float | None
    every_p95_s: float | None
    every_longest_s: float | None

    @property
    def all_settled(self) -> bool:
        return self.in_flight == 0 and self.dropped == 0


class Fleet:
    """Made by `fleet`. `run` once."""

    def __init__(
        self, plan: Plan, broker: BrokerOptions, batch: BatchOptions, uplink: UplinkOptions, clock: SteadyClock
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._began_us = clock.now_us()
        self._reading = True
        self._every, self._live = Latencies(), Latencies()
        course = Course(plan)
        self.gateways = [
            SimulatedGateway(n, plan, course, broker, batch, uplink, clock, self._began_us, self._every, self._live)
            for n in range(plan.gateways)
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Reads until `stop`, then waits until all of it is settled, for `plan.patience_s` at most."""
        async with asyncio.TaskGroup() as tasks:
            uplinks = [
                tasks.create_task(self._start(gateway, number / _STARTS_PER_S), name=f"uplink {gateway.name}")
                for number, gateway in enumerate(self.gateways)
            ]
            reading = [tasks.create_task(gateway.read(stop), name=f"read {gateway.name}") for gateway in self.gateways]
            background = [
                tasks.create_task(self._tidy(), name="tidy"),
                tasks.create_task(self._notice(), name="notice"),
            ]
            outages = None
            if self._plan.outage is not None:
                outages = tasks.create_task(self._interrupt(self._plan.outage), name="outages")
            await asyncio.wait(reading)
            self._reading = False
            if outages is not None:
                outages.cancel()
            for gateway in self.gateways:
                gateway.link.mend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._plan.patience_s):
                    while any(gateway.spool.held_batches for gateway in self.gateways):  # noqa: ASYNC110
                        await asyncio.sleep(_LOOK_S)  # a thousand spools have no one event
            for gateway in self.gateways:
                gateway.uplink.finish()
            await asyncio.wait(uplinks, timeout=_FAREWELL_S)
            left = {task for task in (*uplinks, *background) if not task.done()}
            while left:
                for task in left:
                    task.cancel()
                # Told again after that: `asyncio.wait_for` of Python 3.11, in aiomqtt, may swallow a cancellation.
                _, left = await asyncio.wait(left, timeout=_FAREWELL_S)

    def progress(self) -> Progress:
        """As of now."""
        taken = sum(sum(gateway.sensors.taken) for gateway in self.gateways)
        held = sum(gateway.spool.held_readings for gateway in self.gateways)
        states = [gateway.uplink.state for gateway in self.gateways]
        p50_s, p95_s = self._live.recent_s(self._clock.now_s(), 0.5, 0.95)
        return Progress(
            at_s=(self._clock.now_us() - self._began_us) / 1e6,
            reading=self._reading,
            gateways=len(self.gateways),
            connected=sum(state.connected for state in states),
            online=sum(state.server_online for state in states),
            cut=sum(not gateway.link.up for gateway in self.gateways),
            readings=taken,
            settled=sum(gateway.spool.settled_readings for gateway in self.gateways),
            in_flight_readings=held,
            in_flight_batches=sum(gateway.spool.held_batches for gateway in self.gateways),
            resent=sum(state.resent for state in states),
            attempts=sum(gateway.link.attempts for gateway in self.gateways),
            reconnects=sum(max(0, state.sessions - 1) for state in states),
            live_p50_s=p50_s,
            live_p95_s=p95_s,
        )

    def outcome(self) -> Outcome:
        """After `run`, or where it was cancelled."""
        counted = [gateway.spool.counted() for gateway in self.gateways]
        states = [gateway.uplink.state for gateway in self.gateways]
        return Outcome(
            seconds=(self._clock.now_us() - self._began_us) / 1e6,
            began_at_us=self._began_us + self._clock.offset_us,
            sealed=sum(one.sealed_readings for one in counted),
            settled=sum(one.settled_readings for one in counted),
            dropped=sum(sum(one.dropped.values()) for one in counted),
            in_flight=sum(gateway.spool.held_readings for gateway in self.gateways),
            batches=sum(one.sealed_batches for one in counted),
            resent=sum(state.resent for state in states),
            attempts=sum(gateway.link.attempts for gateway in self.gateways),
            reconnects=sum(max(0, state.sessions - 1) for state in states),
            live_p50_s=self._live.quantile_s(0.5),
            live_p95_s=self._live.quantile_s(0.95),
            every_p50_s=self._every.quantile_s(0.5),
            every_p95_s=self._every.quantile_s(0.95),
            every_longest_s=self._every.longest_s or None,
        )

    async def _start(self, gateway: SimulatedGateway, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await gateway.uplink.run()

    async def _tidy(self) -> None:
        while True:
            for gateway in self.gateways:
                gateway.spool.tidy()
                # Each at a time of its own, or the whole fleet would pause for all of them.
                await asyncio.sleep(_TIDY_EVERY_S / len(self.gateways))

    async def _notice(self) -> None:
        while True:
            for gateway in self.gateways:
                gateway.notice()
            await asyncio.sleep(_LOOK_S)

    async def _interrupt(self, outage: Outage) -> None:
        dice = random.Random(f"outages {self._plan.seed}")
        changes: list[tuple[float, int, bool]] = []  # seconds since the start, gateway, whether it is cut
        for number in range(len(self.gateways)):
            first_s = outage.every_s if outage.together else dice.uniform(0, outage.every_s)
            heapq.heappush(changes, (first_s, number, True))
        began_s = self._began_us / 1e6
        while True:
            at_s, number, cut = changes[0]
            await asyncio.sleep(max(0.0, began_s + at_s - self._clock.now_s()))
            link = self.gateways[number].link
            if cut:
                link.cut()
            else:
                link.mend()
            after_s = outage.for_s if cut else outage.every_s - outage.for_s
            heapq.heapreplace(changes, (at_s + after_s, number, not cut))


@asynccontextmanager
async def fleet(
    plan: Plan,
    broker: BrokerOptions,
    batch: BatchOptions = BatchOptions(),  # noqa: B008 - frozen
    uplink: UplinkOptions = UplinkOptions(),  # noqa: B008 - frozen
) -> AsyncIterator[Fleet]:
    """The fleet, its spools opened; given back on leaving. Raises ValueError where the clock is not set."""
    made = Fleet(plan, broker, batch, uplink, SteadyClock())
    try:
        yield made
    finally:
        for gateway in made.gateways:
            gateway.close()
