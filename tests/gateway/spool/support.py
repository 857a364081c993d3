"""A server that is a few sets, and short ways to a spool."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from zlib import crc32

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.link.wire import MAX_PAYLOAD, Batch, Body, Gap, Kind, decode, decode_gaps, encode, unpack
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity, SpoolOptions

LEDGER = "0f8fad5b-d9cb-469f-a165-70867728950e"
WALL_S = 1_795_255_200.0
ANCHOR = Anchor(int(WALL_S * 1e6), 1_000, ClockSource.KERNEL)
WINDOW_S = 72 * 3600.0
SMALL = SpoolOptions(bound_bytes=524_288, replay_window_s=WINDOW_S, reserve_bytes=65_536)
ROOMY = SpoolOptions(bound_bytes=64 * 1024 * 1024, replay_window_s=WINDOW_S, reserve_bytes=65_536)
GATEWAY = "seoul/room-1"


def body(size: int, seed: int = 0) -> Body:
    """A body that does not compress, so that its size on disk is known."""
    stored = random.Random(seed).randbytes(size)
    return Body(0, stored, size, crc32(stored))


def epochs(first: int = 1000) -> Callable[[], int]:
    """Epochs one after the other: a test must not depend on chance."""
    numbers = count(first)
    return lambda: next(numbers)


@contextmanager
def opened(
    path: Path,
    options: SpoolOptions = ROOMY,
    *,
    boot: str = "boot-1",
    now_us: int = 0,
    draw: Callable[[], int] | None = None,
    anchor: Anchor | None = ANCHOR,
) -> Iterator[Spool]:
    """An open spool, its clock known unless told otherwise."""
    spool = Spool.open(path, options, Boot(boot, now_us), None, draw or epochs(random.Random(now_us).randrange(2**62)))
    try:
        if anchor is not None:
            spool.set_anchor(anchor)
        yield spool
    finally:
        spool.close()


def copy_files(path: Path, to: Path) -> Path:
    """What a power cut now would leave, WAL included, as another spool."""
    to.mkdir(exist_ok=True)
    for name in (path.name, f"{path.name}-wal"):
        (to / name).unlink(missing_ok=True)
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, to / name)
    return to / path.name


def sealed(spool: Spool, readings: int, at_us: int = 0, size: int = 2000, seed: int = 0) -> Identity:
    """Appends; fails where the spool found no room."""
    identity = spool.append(body(size, seed), readings, at_us, at_us + 10)
    assert identity is not None
    return identity


def everything(spool: Spool) -> list[Identity]:
    """All that can be sent."""
    return [stored.identity for stored in spool.sendable(None, 1_000_000, 1 << 40)]


@dataclass
class Server:
    """A ledger: which seqs are settled, and what was counted for them, as WIRE.md §4 says."""

    settled: dict[int, RangeSet] = field(default_factory=dict)
    committed: int = 0
    dropped: int = 0
    gaps: list[Gap] = field(default_factory=list)
    bodies: dict[Identity, int] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Settles one batch, and by a gap what it names."""
        again = decode(encode(batch), GATEWAY)
        assert len(encode(batch)) <= MAX_PAYLOAD
        envelope = again.envelope
        identity = Identity(envelope.epoch, envelope.seq)
        # An identity never has two bodies.
        assert self.bodies.setdefault(identity, again.body.crc) == again.body.crc
        if not self._add(*identity):
            return
        self.committed += envelope.readings
        if envelope.kind == Kind.GAP:
            for gap in decode_gaps(unpack(again)):
                self.gaps.append(gap)
                for seq, readings in enumerate(gap.counts, gap.first):
                    if self._add(gap.epoch, seq):
                        self.dropped += readings

    def _add(self, epoch: int, seq: int) -> bool:
        known = self.settled.get(epoch, RangeSet())
        self.settled[epoch] = known | RangeSet([(seq, seq + 1)])
        return seq not in known

    def deliver(self, spool: Spool, most: int = 1_000_000) -> int:
        """Takes what the spool would send."""
        waiting = spool.sendable(None, most, 1 << 40)
        for stored in waiting:
            batch = spool.load(stored.identity, GATEWAY, 7)
            if batch is not None:
                self.take(batch)
        return len(waiting)

    def drain(self, spool: Spool, wall_s: float = WALL_S) -> None:
        """Until nothing is left to send."""
        while True:
            spool.seal_gaps()
            if not self.deliver(spool):
                return
            spool.apply_receipt(LEDGER, self.settled, wall_s)
