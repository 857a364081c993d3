"""Readings become sealed bodies. Sans I/O: the caller says what time it is and takes what is sealed to the spool.

Invariant: a sealed batch goes to the spool and nowhere else; what sends it reads it from the spool.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from device_drivers.reading import Reading, Series
from gateway.link import wire
from gateway.thinning import Thinning

MIN_BODY = 1024
"""Bytes that a body may always have, however small a packet the broker says it takes: less would hold no reading."""

_PER_READING = 8 + 2 + 8 + 1 + 4
_PER_FRAME = 9 + 5  # its index and its length as MessagePack
_PER_STRING = 2
_PER_BODY = 128  # keys and lengths of the columns

# Judged series are remembered, as judging costs more than encoding; what sensors in range invent is bounded.
_REMEMBERED = 8192

_MAX_TIME_US = 2**62  # the difference of two times must fit 64 bits


@dataclass(frozen=True, slots=True)
class Sealed:
    """A body that never changes from here on. first_us, last_us: monotonic µs of its earliest and latest reading."""

    body: wire.Body
    readings: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Readings that no batch can hold. A driver should never give such, so the first fault is for its author."""

    readings: int
    fault: str
    first_us: int | None
    last_us: int | None


def reading_fault(reading: Reading) -> str | None:
    """Why this reading cannot be put into a batch, its series aside; None where it can.

    NaN and infinities can: the server keeps them in quarantine, where somebody can look at them.
    """
    if type(reading.value) is not float and (type(reading.value) is not int or abs(reading.value) > 2**53):
        return f"value {reading.value!r:.60} is not a number of 64-bit floating point"
    if type(reading.taken_at_us) is not int or not 0 <= reading.taken_at_us < _MAX_TIME_US:
        return f"time {reading.taken_at_us!r:.60} is not a monotonic time in µs"
    if not 0 <= reading.reliability <= 100:
        return f"reliability {reading.reliability!r:.60} is not in [0, 100]"
    if not 0 <= reading.causes < 2**32:
        return f"causes {reading.causes!r:.60} do not fit 32 bits"
    return None


class Batcher:
    """Collects readings until a batch is full or has lingered. linger_s: counted from a batch's first reading.

    While `thinning` is active, it says which are sealed at all. The caller's seconds are of the clock that readings are
    taken by.
    """

    def __init__(self, linger_s: float, max_readings: int, max_body: int | None = None) -> None:
        self.thinning = Thinning()
        self._linger_s = linger_s
        self._max_readings = max_readings
        self._max_body = max_body or wire.MAX_PAYLOAD - wire.ENVELOPE_ROOM
        self._waiting: list[Reading] = []
        self._series: set[Series] = set()
        self._size = _PER_BODY
        self._due_s = math.inf
        self._judged: dict[Series, str | None] = {}
        self._refused: list[tuple[Reading, str]] = []
        self._refused_count = 0

    def limit_body(self, size: int | None) -> None:
        """The broker's largest packet leaves `size` bytes for a body; None where it names no limit."""
        most = wire.MAX_PAYLOAD - wire.ENVELOPE_ROOM
        self._max_body = most if size is None else max(MIN_BODY, min(most, size))

    def waiting(self) -> int:
        """Readings that are not sealed yet."""
        return len(self._waiting) + self.thinning.held_back()

    def due_s(self) -> float:
        """When `seal_due` has something to do, in the caller's seconds; infinite while nothing waits."""
        return min(self._due_s, self.thinning.due_us() / 1e6)

    def add(self, readings: Iterable[Reading], now_s: float) -> list[Sealed]:
        """Takes readings; gives the batches that they filled."""
        sound = self._sound(readings)
        return self._add(self.thinning.pick(sound, round(now_s * 1e6)) if self.thinning.active else sound, now_s)

    def _sound(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        # Judged before anything else: values are compared, and a driver's bug may give anything for one.
        for reading in readings:
            fault = self._fault(reading)
            if fault is None:
                yield reading
            else:
                self._refuse(reading, fault)

    def _add(self, readings: Iterable[Reading], now_s: float) -> list[Sealed]:
        sealed: list[Sealed] = []
        for reading in readings:
            size, new = self._sizes(reading)
            full = len(self._waiting) >= self._max_readings or (new and len(self._series) >= wire.MAX_SERIES)
            # The sum bounds the body from above, as zstd is used only where it is smaller.
            if self._waiting and (full or self._size + size > self._max_body):
                sealed += self._seal()
                size, new = self._sizes(reading)
            if not self._waiting:
                self._due_s = now_s + self._linger_s
            self._waiting.append(reading)
            self._series.add(reading.series)
            self._size += size
        if len(self._waiting) >= self._max_readings:
            sealed += self._seal()
        return sealed

    def seal_due(self, now_s: float) -> list[Sealed]:
        """Seals what has lingered, once it has taken in what thinning held back for a minute that is over."""
        sealed = self._add(self.thinning.turn(round(now_s * 1e6)), now_s) if self.thinning.active else []
        return sealed + self._seal() if self._due_s <= now_s else sealed

    def seal(self) -> list[Sealed]:
        """Seals all that is there, however little, also what was held back; empty where nothing is."""
        # All of it goes now: nothing is left for which a linger would have to begin.
        return self._add(self.thinning.release(), math.inf) + self._seal()

    def end_thinning(self) -> list[Sealed]:
        """From now on every reading is sealed; seals all that is there."""
        return self._add(self.thinning.end(), math.inf) + self._seal()

    def _seal(self) -> list[Sealed]:
        readings, self._waiting = self._waiting, []
        self._series.clear()
        self._size = _PER_BODY
        self._due_s = math.inf
        return self._encode(readings) if readings else []

    def refused(self) -> Refused | None:
        """What was refused since this was asked last."""
        if not self._refused_count:
            return None
        count, self._refused_count = self._refused_count, 0
        refused, self._refused = self._refused, []
        times = [r.taken_at_us for r, _ in refused if type(r.taken_at_us) is int and 0 <= r.taken_at_us < _MAX_TIME_US]
        return Refused(count, refused[0][1], min(times, default=None), max(times, default=None))

    def _fault(self, reading: Reading) -> str | None:
        series = reading.series
        try:
            fault = self._judged[series]
        except KeyError:
            if len(self._judged) >= _REMEMBERED:
                self._judged.clear()
            fault = self._judged[series] = wire.series_fault(series)
        except TypeError:  # a driver put something unhashable into it
            fault = wire.series_fault(series) or "series cannot be compared"
        return fault or reading_fault(reading)

    def _refuse(self, reading: Reading, fault: str) -> None:
        self._refused_count += 1
        # The first and the latest say when; a driver that has gone wrong must not fill the memory.
        if len(self._refused) >= 2:
            self._refused.pop()
        self._refused.append((reading, fault))

    def _sizes(self, reading: Reading) -> tuple[int, bool]:
        size = _PER_READING + (_PER_FRAME + len(reading.frame) if reading.frame is not None else 0)
        new = reading.series not in self._series
        if new:
            s = reading.series
            strings = (s.device, s.channel, s.quantity, s.unit, s.profile, s.firmware)
            size += 1 + sum(_PER_STRING + len(string.encode()) for string in strings)
        return size, new

    def _encode(self, readings: Sequence[Reading]) -> list[Sealed]:
        body = wire.encode_data(readings)
        if len(body.stored) > self._max_body or body.length > wire.MAX_BODY:
            if len(readings) == 1:
                self._refuse(readings[0], f"one reading makes {len(body.stored)} bytes, more than {self._max_body}")
                return []
            half = len(readings) // 2
            return self._encode(readings[:half]) + self._encode(readings[half:])
        times = [reading.taken_at_us for reading in readings]
        return [Sealed(body, len(readings), min(times), max(times))]
