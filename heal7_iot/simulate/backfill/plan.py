"""What history is to be made: which sensors, where they hang, and when they speak."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from device_drivers.reading import Series

MOST_DAYS = 731
"""24 months: what is older has left the table of readings."""

MOST_SERIES = 100_000
"""Beyond it, one reading of each would be more than a transaction should hold."""

PROFILE = "simulator/1"

QUANTITIES = (("temperature", "°C"), ("humidity", "%"), ("co2", "ppm"), ("illuminance", "lx"), ("presence", ""))
"""What each sensor measures, and its unit."""

SENSORS_PER_ROOM = 4
_MOVES = 7
# In each room the second sensor of so many moves: a zone's history must follow what hung in it at the time.

_BLOCK = 50_000
# Readings of a transaction: what a server that is behind writes at once, far below what its memory is bounded to.
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Sensor:
    """One device. room: of its gateway, from 0. moves_to: the room in which it hangs when half of the time is over."""

    gateway: int
    number: int
    device: str
    room: int
    moves_to: int | None

    def series(self) -> list[Series]:
        """In the order of QUANTITIES."""
        return [Series(self.device, quantity, quantity, unit, PROFILE, "1") for quantity, unit in QUANTITIES]


@dataclass(frozen=True, slots=True)
class Backfill:
    """rate: readings a second of each sensor and quantity. jitter: as in Plan. [from_us, to_us), Unix µs.

    Time is cut into slots, in each of which each series has one reading; a block is so many slots in one transaction.
    """

    site: str
    gateways: int
    sensors: int
    rate: float
    jitter: float
    seed: int
    to_us: int
    days: float

    @property
    def period_us(self) -> int:
        return round(1_000_000 / self.rate)

    @property
    def series(self) -> int:
        return self.gateways * self.sensors * len(QUANTITIES)

    @property
    def slots(self) -> int:
        return int(self.days * _DAY_US) // self.period_us

    @property
    def readings(self) -> int:
        return self.slots * self.series

    @property
    def from_us(self) -> int:
        return self.to_us - self.slots * self.period_us

    @property
    def slots_of_block(self) -> int:
        """At most a week, at most so many readings, at least one slot."""
        return max(1, min(_BLOCK // self.series, 7 * _DAY_US // self.period_us))

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first slot, slots) of each, in the order of time."""
        for first in range(0, self.slots, self.slots_of_block):
            yield first, min(self.slots_of_block, self.slots - first)

    def gateway(self, number: int) -> str:
        """`<site>/<gateway>`."""
        return f"{self.site}/sim-{number + 1:04d}"

    def zone(self, gateway: int, room: int) -> str:
        """The name of a room."""
        return f"sim-{gateway + 1:04d}-room-{room + 1:02d}"

    def all_sensors(self) -> Iterator[Sensor]:
        """By gateway, then by number."""
        rooms = -(-self.sensors // SENSORS_PER_ROOM)
        for gateway in range(self.gateways):
            for n in range(self.sensors):
                room = n // SENSORS_PER_ROOM
                moves = rooms > 1 and n % SENSORS_PER_ROOM == 1 and room % _MOVES == 0
                device = f"sim-{gateway + 1:04d}-s{n + 1:03d}"
                yield Sensor(gateway, n, device, room, (room + 1) % rooms if moves else None)

    def of_readings(self, readings: int) -> "Backfill":
        """The same time with another rate, so that there are about as many readings."""
        return replace(self, rate=readings / self.series / (self.days * 86_400))
