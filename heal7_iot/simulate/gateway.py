"""One simulated gateway: simulated sensors, then the real batcher, spool and uplink."""

import asyncio
from collections.abc import Sequence

from gateway.batcher import Batcher, Sealed
from gateway.clock import Clock
from gateway.config import BatchOptions, UplinkOptions
from gateway.link.broker import BrokerOptions
from gateway.uplink import Uplink
from gateway.waiting import either
from heal7_iot.simulate.course import Course
from heal7_iot.simulate.latency import Latencies
from heal7_iot.simulate.link import Link
from heal7_iot.simulate.memory_spool import MemorySpool
from heal7_iot.simulate.plan import Plan
from heal7_iot.simulate.sensors import Sensors

_SHORTEST_S = 0.05
"""Between two looks at the sensors: a thousand gateways that are woken for each reading do nothing else."""


class SimulatedGateway:
    """number: from 0. `read` and `uplink.run` are a task each. To be closed."""

    def __init__(
        self,
        number: int,
        plan: Plan,
        course: Course,
        broker: BrokerOptions,
        batch: BatchOptions,
        uplink: UplinkOptions,
        clock: Clock,
        began_us: int,
        every: Latencies,
        live: Latencies,
    ) -> None:
        self.name = plan.gateway(number)
        self.sensors = Sensors(plan, course, number, began_us)
        self.link = Link()
        self.spool = MemorySpool(clock, every, live, self._presence)
        self._clock = clock
        self._online = False
        self._lost = 0  # how often the server went while the connection stayed
        self._batcher = Batcher(batch.linger_s, batch.max_readings)
        self.uplink = Uplink(
            self.name,
            broker,
            uplink,
            self.spool,
            clock,
            body_limit_changed=self._batcher.limit_body,
            open_session=self.link.open,
        )

    async def read(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what was read is sealed, what would have come late included."""
        while not stop.is_set():
            now_s = self._clock.now_s()
            sealed = self._batcher.add(self.sensors.until(self._clock.now_us()), now_s)
            if self._batcher.due_s() <= now_s:
                sealed += self._batcher.seal()
            self._store(sealed)
            due_s = min(self.sensors.next_us() / 1e6, self._batcher.due_s())
            await either(stop, max(_SHORTEST_S, due_s - self._clock.now_s()))
        self._store([*self._batcher.add(self.sensors.rest(), self._clock.now_s()), *self._batcher.seal()])

    def _store(self, sealed: Sequence[Sealed]) -> None:
        if sealed:
            self.spool.seal(sealed)
            self.uplink.wake()

    def notice(self) -> None:
        """Whether the server has gone; to be called often."""
        online = self.uplink.state.server_online
        self._lost += self._online and not online
        self._online = online

    def _presence(self) -> tuple[int, int] | None:
        state = self.uplink.state
        return (state.sessions, self._lost) if state.server_online else None

    def close(self) -> None:
        self.spool.close()
