"""What is to be simulated."""

import re
from dataclasses import dataclass

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


@dataclass(frozen=True, slots=True)
class Late:
    """So large a share of the readings (0 … 1) comes delay_s after it was taken, out of order."""

    share: float
    delay_s: float

    @classmethod
    def parse(cls, text: str) -> "Late":
        """`0.05:30`. Raises ValueError."""
        found = re.fullmatch(rf"{_NUMBER}:{_NUMBER}", text)
        if found is None or float(found[1]) > 1:
            raise ValueError(f"{text!r} is wrong: write SHARE:SECONDS, such as 0.05:30 for one reading of twenty")
        return cls(float(found[1]), float(found[2]))


@dataclass(frozen=True, slots=True)
class Outage:
    """Every every_s a gateway loses the broker for for_s; each at its own time, or all together."""

    every_s: float
    for_s: float
    together: bool = False

    @classmethod
    def parse(cls, text: str, *, together: bool = False) -> "Outage":
        """`300/20`. Raises ValueError."""
        found = re.fullmatch(rf"{_NUMBER}/{_NUMBER}", text)
        if found is None or not 0 < float(found[2]) < float(found[1]):
            raise ValueError(f"{text!r} is wrong: write EVERY/FOR in seconds, FOR the shorter, such as 300/20")
        return cls(float(found[1]), float(found[2]), together)


@dataclass(frozen=True, slots=True)
class Plan:
    """rate: readings a second of each sensor. jitter: how far a reading may be off its time, as a share of the time
    between two (0 … 0.5). duration_s: of reading, None until a signal. patience_s: how long what was read may take to
    be settled after that. Gateways are `<site>/sim-0001` and so on."""

    gateways: int = 10
    sensors: int = 5
    rate: float = 1.0
    jitter: float = 0.1
    late: Late | None = None
    outage: Outage | None = None
    duration_s: float | None = None
    patience_s: float = 120.0
    seed: int = 7
    site: str = "sim"

    def gateway(self, number: int) -> str:
        """`<site>/<gateway>` of the gateway with this number, from 0."""
        return f"{self.site}/sim-{number + 1:04d}"

    def device(self, gateway: int, sensor: int) -> str:
        """A name that no other sensor of the site has: a device has one home."""
        return f"sim-{gateway + 1:04d}-s{sensor + 1:03d}"
