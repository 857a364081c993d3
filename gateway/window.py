"""What may be under way to the server, and when it is sent again. Pure: no clock, no I/O, nothing of MQTT.

Two lanes, so that after an outage the newest values arrive at once while the old ones follow: `live` holds batches
sealed since the server was found, `backlog` older ones. Only a receipt frees a place; a PUBACK frees nothing.
Nothing here is the only copy of anything: identities, sizes and times, no bodies.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from random import random

from gateway.link.backoff import bound_s
from gateway.link.ranges import RangeSet
from gateway.link.wire import MAX_PAYLOAD
from gateway.spool.values import Identity, Stored

DRAIN_S = 2.0
"""Seconds of the measured drain rate that the backlog may have under way: what a live batch waits for at most behind
old ones in the broker, and what the server finds waiting when it was slow for a moment."""

_WEIGHT = 0.3  # of the newest sample in the drain rate: settles within ten receipts
_SAMPLE_S = 0.25  # receipts come in bursts, one a transaction: a rate between two of them would mean nothing


class Lane(Enum):
    LIVE = "live"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Bounds of what is sent and not settled, and of the time until it is sent again (seconds)."""

    live_batches: int
    live_bytes: int
    backlog_batches: int
    backlog_bytes: int
    resend_first_s: float
    resend_longest_s: float


@dataclass(frozen=True, slots=True)
class Room:
    """What a lane takes now. One batch always fits into an empty lane."""

    batches: int
    bytes: int


@dataclass(slots=True)
class _Flight:
    lane: Lane
    size_bytes: int
    attempts: int
    due_s: float


class DrainRate:
    """Settled bytes a second, measured only while something is under way: an idle hour is not a slow server."""

    def __init__(self) -> None:
        self.bytes_s: float | None = None
        self._since_s = 0.0
        self._settled = 0

    def began(self, now_s: float) -> None:
        """The window was empty and is not any more."""
        self._since_s, self._settled = now_s, 0

    def settled(self, size_bytes: int, now_s: float, idle: bool) -> None:
        """So many bytes settled; `idle` if nothing is under way any more."""
        self._settled += size_bytes
        took_s = now_s - self._since_s
        if took_s < _SAMPLE_S and not idle:
            return
        # A window that empties at once measured a burst, not a rate: no shorter time than this is believed.
        sample = self._settled / max(took_s, _SAMPLE_S / 4)
        self.bytes_s = sample if self.bytes_s is None else self.bytes_s + _WEIGHT * (sample - self.bytes_s)
        self._since_s, self._settled = now_s, 0


class Window:
    """The batches under way, by identity."""

    def __init__(self, limits: WindowLimits, draw: Callable[[], float] = random) -> None:
        self._limits = limits
        self._draw = draw
        self._flights: dict[Identity, _Flight] = {}
        self._count = dict.fromkeys(Lane, 0)
        self._bytes = dict.fromkeys(Lane, 0)
        self._opened = 1  # batches of the backlog that a session may have under way by now
        self.drain = DrainRate()

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self) -> frozenset[Identity]:
        """All that is under way."""
        return frozenset(self._flights)

    def batches(self, lane: Lane) -> int:
        """Batches of the lane under way."""
        return self._count[lane]

    def room(self, lane: Lane) -> Room:
        """What may be sent now."""
        batches, most = self._bounds(lane)
        room = Room(max(0, batches - self._count[lane]), max(0, most - self._bytes[lane]))
        # Else a batch larger than the bound would never be sent.
        return Room(1, MAX_PAYLOAD) if self._count[lane] == 0 and room.bytes < MAX_PAYLOAD else room

    def _bounds(self, lane: Lane) -> tuple[int, int]:
        limits = self._limits
        if lane is Lane.LIVE:
            return limits.live_batches, limits.live_bytes
        rate = self.drain.bytes_s
        # One batch finds out how fast the server is, and each that settles makes room for one more, up to what it does
        # in DRAIN_S. When a fleet comes back together, more from each at once would overflow the broker's queue, and
        # what that drops, live batches too, is sent again only after seconds.
        batches = min(limits.backlog_batches, self._opened)
        return batches, min(limits.backlog_bytes, MAX_PAYLOAD if rate is None else int(rate * DRAIN_S))

    def sent(self, lane: Lane, stored: Stored, now_s: float) -> bool:
        """The batch goes on its way; False (and nothing changes) if it is under way already."""
        if stored.identity in self._flights:
            return False
        if not self._flights:
            self.drain.began(now_s)
        self._flights[stored.identity] = _Flight(lane, stored.size_bytes, 1, now_s + self._wait_s(0))
        self._count[lane] += 1
        self._bytes[lane] += stored.size_bytes
        return True

    def settled(self, ranges: Mapping[int, RangeSet], now_s: float) -> int:
        """Frees what a receipt names, by epoch; how many batches that were. Others may be named, and change nothing."""
        found = [i for i in self._flights if i.epoch in ranges and i.seq in ranges[i.epoch]]
        before = self._count[Lane.BACKLOG]
        freed = sum(self._free(identity) for identity in found)
        self._opened = min(self._limits.backlog_batches, self._opened + before - self._count[Lane.BACKLOG])
        if found:
            self.drain.settled(freed, now_s, idle=not self._flights)
        return len(found)

    def forget(self, identity: Identity) -> None:
        """The spool has it no more: it was dropped, and its gap will say so."""
        if identity in self._flights:
            self._free(identity)

    def clear(self) -> None:
        """The session is over: what was under way is sent again by the next, if the spool still holds it."""
        self._flights.clear()
        self._count = dict.fromkeys(Lane, 0)
        self._bytes = dict.fromkeys(Lane, 0)
        self._opened = 1

    def due(self, now_s: float) -> list[Identity]:
        """Batches that went unanswered for too long, the longest first."""
        late = [(flight.due_s, identity) for identity, flight in self._flights.items() if flight.due_s <= now_s]
        return [identity for _, identity in sorted(late)]

    def resent(self, identity: Identity, now_s: float) -> None:
        """It goes on its way once more, and is given longer; the backlog goes on with fewer."""
        flight = self._flights[identity]
        if flight.lane is Lane.BACKLOG:
            self._opened = max(1, self._opened // 2)
        flight.due_s = now_s + self._wait_s(flight.attempts)
        flight.attempts += 1

    def hasten(self, now_s: float) -> None:
        """The server was away and is back: what it did not settle until now is sent again soon, but not all at once."""
        for flight in self._flights.values():
            flight.due_s = min(flight.due_s, now_s + self._draw() * self._limits.resend_first_s)

    def next_due_s(self) -> float:
        """When `due` will next give something; infinite if nothing is under way."""
        return min((flight.due_s for flight in self._flights.values()), default=math.inf)

    def _free(self, identity: Identity) -> int:
        flight = self._flights.pop(identity)
        self._count[flight.lane] -= 1
        self._bytes[flight.lane] -= flight.size_bytes
        return flight.size_bytes

    def _wait_s(self, attempts: int) -> float:
        # Full jitter on top of the first bound: a draw near 0 would send again what is only just on its way.
        first_s, longest_s = self._limits.resend_first_s, self._limits.resend_longest_s
        return min(first_s + self._draw() * bound_s(first_s, longest_s, attempts), max(first_s, longest_s))
