"""More than a spool may hold, in a moment: batches that are mostly padding, sealed by the spool itself."""

import struct
from random import Random
from zlib import crc32

import msgpack

from gateway.clock import Clock, read_boot_id
from gateway.link import wire
from gateway.link.wire import Body, Encoding
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from tests.faults.center import SENSORS_OF_ONE_LINE, SMALL_BOUND_BYTES, Center, Gateway
from tests.faults.signal_frames import CHANNELS, frame

PADDING_BYTES = 60_000


def overfill(center: Center, gateway: Gateway, size_bytes: int, rng: Random) -> None:
    """Seals so much as a sensor of the gateway's own; the oracle is told. The gateway must not be running."""
    clock = Clock("system")
    options = SpoolOptions(SMALL_BOUND_BYTES, center.pace.replay_window_s)
    spool = Spool.open(gateway.spool, options, Boot(read_boot_id(), clock.now_us()), clock.wall_s())
    try:
        spool.set_anchor(clock.read_anchor())
        for _ in range(size_bytes // PADDING_BYTES):
            now_us = clock.now_us()
            gateway.padded += 1
            identity = spool.append(_body(gateway.number, gateway.padded, now_us, rng), len(CHANNELS), now_us, now_us)
            assert identity is not None
            batch = spool.load(identity, gateway.identity, 1)
            assert batch is not None
            center.oracle.heard(f"heal7/v1/{gateway.identity}/batch", wire.encode(batch))
    finally:
        spool.close()


def _body(gateway: int, number: int, now_us: int, rng: Random) -> Body:
    """One frame as WIRE.md §2 has it, and a key that a reader ignores."""
    one, count = frame(number), len(CHANNELS)
    device = f"air-{gateway}-{SENSORS_OF_ONE_LINE}"
    content = msgpack.packb(
        {
            "series": msgpack.packb([(device, channel, "count", "1", "padding", "1") for channel in CHANNELS]),
            "t": struct.pack(f"<{count}q", now_us, *[0] * (count - 1)),
            "s": struct.pack(f"<{count}H", *range(count)),
            "v": struct.pack(f"<{count}d", *(getattr(one, channel) for channel in CHANNELS)),
            "q": bytes([100] * count),
            "padding": rng.randbytes(PADDING_BYTES),
        }
    )
    return Body(Encoding.PLAIN, content, len(content), crc32(content))
