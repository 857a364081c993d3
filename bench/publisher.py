"""A fleet that is as fast as it may be: sealed batches through the real wire format, receipts free its window.

Run as a process of its own by `bench.line`. Bodies are made before the clock starts: what is measured is the line
from publish to receipt, not the making of readings.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

from device_drivers.reading import Reading, Series
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.broker import BrokerOptions
from gateway.link.manual_ack_session import Incoming, ManualAckSession
from gateway.link.ranges import RangeSet
from gateway.link.receipts import Receipt
from gateway.link.status import parse
from gateway.link.topics import Topics
from gateway.link.wire import Batch, Body, Envelope, Kind, encode, encode_data

_DISTINCT = 64  # bodies that are made beforehand, with values that repeat as little as a room's do
_SERIES = 1_000


@dataclass(slots=True)
class Fleet:
    """One gateway's sending side."""

    gateway: str
    epoch: int
    bodies: list[Body]
    offset_us: int
    total: int
    window: int
    size: int
    sent: int = 0
    settled: RangeSet = field(default_factory=RangeSet)

    def next_batch(self) -> bytes:
        envelope = Envelope(
            Kind.DATA,
            self.gateway,
            self.epoch,
            self.sent,
            self.size,
            self.sent * self.size,
            # Each round of the same bodies is moved in time, as later readings would be.
            Anchor(self.offset_us + (self.sent // _DISTINCT) * 1_000_000, 1000, ClockSource.KERNEL),
            1,
        )
        payload = encode(Batch(envelope, self.bodies[self.sent % _DISTINCT]))
        self.sent += 1
        return payload


def make_bodies(size: int, gateway: int) -> list[Body]:
    """Bodies of `size` readings of the 1,000 series that one gateway has, with a sensor's resolution of 0.01."""
    series = [
        Series(f"sensor{gateway}-{n // 8}", f"temperature_{n % 8}", "temperature", "°C", "bthome-v2/1", "2")
        for n in range(_SERIES)
    ]
    state = gateway
    bodies = []
    for body in range(_DISTINCT):
        readings = []
        for n in range(size):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            value = round(20 + (state >> 33) % 500 / 100, 2)
            number = (body * size + n) % _SERIES
            readings.append(Reading(series[number], value, body * 1_000_000 // _DISTINCT + n * 15))
        bodies.append(encode_data(readings))
    return bodies


async def publish(port: int, size: int, seconds: float, gateways: int, window: int) -> dict[str, float]:
    """Publishes for so long, then waits until every batch is settled; the figures."""
    topics = Topics()
    now_us = time.time_ns() // 1000
    fleet = {
        f"bench/g{n}": Fleet(
            f"bench/g{n}", time.time_ns() % 2**62 + n, make_bodies(size, n), now_us - 3_600_000_000, 0, window, size
        )
        for n in range(gateways)
    }
    arrived = asyncio.Event()

    def on_message(message: Incoming) -> None:
        message.ack()
        gateway = topics.gateway_of(message.topic)
        if gateway in fleet:
            for epoch in parse(Receipt, message.payload).epochs:
                if epoch.epoch == fleet[gateway].epoch:
                    fleet[gateway].settled |= epoch.settled
            arrived.set()

    session = ManualAckSession(BrokerOptions(port=port), "bench-publisher", ("bench/will", b""), True, 1000, on_message)
    wire_bytes = 0
    async with session:
        await session.subscribe([topics.receipt(g) for g in fleet])
        began = time.monotonic()
        while time.monotonic() - began < seconds or any(f.settled.count() < f.sent for f in fleet.values()):
            sending = time.monotonic() - began < seconds
            sent = 0
            for gateway in fleet.values() if sending else ():
                for _ in range(min(8, gateway.window - (gateway.sent - gateway.settled.count()))):
                    payload = gateway.next_batch()
                    wire_bytes += len(payload)
                    session.publish(topics.batch(gateway.gateway), payload)
                    sent += 1
            if sent:
                await asyncio.sleep(0)
                continue
            arrived.clear()
            async with asyncio.timeout(60):
                await arrived.wait()
        elapsed = time.monotonic() - began
    readings = sum(f.sent for f in fleet.values()) * size
    return {
        "readings": readings,
        "seconds": elapsed,
        "readings_per_s": readings / elapsed,
        "bytes_per_reading_wire": wire_bytes / readings,
    }


if __name__ == "__main__":
    port, size, seconds, gateways, window = sys.argv[1:]
    print(json.dumps(asyncio.run(publish(int(port), int(size), float(seconds), int(gateways), int(window)))))
