"""A simulated gateway's spool at its bound: what was dropped is not counted as settled."""

from gateway.batcher import Sealed
from gateway.clock import RELEASED_S, Clock
from gateway.link.ranges import RangeSet
from heal7_iot.simulate.latency import Latencies
from heal7_iot.simulate.memory_spool import BOUND_BYTES, MemorySpool
from tests.gateway.spool.support import LEDGER, WALL_S, body

SIZE = 1_000_000


async def test_what_was_dropped_at_the_bound_never_counts_as_settled() -> None:
    clock = Clock("system", monotonic_ns=lambda: 10**9, wall_ns=lambda: (RELEASED_S + 1) * 10**9)
    every, live = Latencies(), Latencies()
    spool = MemorySpool(clock, every, live, lambda: (1, 0))
    try:
        count = BOUND_BYTES // SIZE + 10
        for n in range(count):
            spool.seal([Sealed(body(SIZE, n), 3, n, n)])
        spool.tidy()
        whole = spool.counted()
        assert whole.dropped["bound"] >= 30
        (epoch,) = await spool.run(lambda s: [b.epoch for b in s.books().epochs])
        await spool.run(lambda s: s.apply_receipt(LEDGER, {epoch: RangeSet.below(2 * count)}, WALL_S))
        assert spool.held_readings == 0
        assert spool.settled_readings == spool.counted().settled_readings == 3 * count - whole.dropped["bound"]
    finally:
        spool.close()
