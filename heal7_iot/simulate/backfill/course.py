"""What the sensors of a simulated center say: columns of readings, from the seed and the time alone.

Rooms have opening hours, weekends, visitors that come and go, daylight and seasons. The same series says the same at
the same time whatever else is asked for. No Python loop per reading.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from heal7_iot.simulate.backfill.plan import QUANTITIES, Backfill
from ingest_server.storage.line.rows import Rows

Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_HOUR_S = 3600
_DAY_S = 86_400
_OPENS_H, _CLOSES_H = 10.0, 20.0
_SATURDAY = 2  # 1970-01-01 was a Thursday
_STAYS_S = 600
# Visitors come and go, and a presence sensor does not flicker: who is there is drawn anew after this.


@dataclass(frozen=True, slots=True)
class _When:
    """Columns, one row a series, one column a slot."""

    local_s: _Ints
    drawn: Callable[[int, _Ints], Floats]
    room: _Ints
    device: _Ints

    @property
    def hour(self) -> Floats:
        return (self.local_s % _DAY_S) / _HOUR_S

    @property
    def season(self) -> Floats:
        """1 in the middle of July, -1 in the middle of January."""
        return -np.cos(2 * np.pi * (self.local_s / _DAY_S - 15) / 365.25)

    @property
    def weekend(self) -> NDArray[np.bool_]:
        return (self.local_s // _DAY_S - _SATURDAY) % 7 < 2

    def visitors(self) -> Floats:
        """How full a room is, 0 … 1; 0 while the center is closed."""
        within = (self.hour - _OPENS_H) / (_CLOSES_H - _OPENS_H)
        popular = 0.5 + 0.5 * self.drawn(1, self.room)
        full = np.where(self.weekend, 0.9, 0.5) * popular * np.sin(np.pi * np.clip(within, 0, 1))
        return np.where((within > 0) & (within < 1), full, 0.0)

    def noise(self, salt: int) -> Floats:
        """-1 … 1, mostly near 0; another for each reading."""
        at = self.device * 0x1_0000_0001 + self.local_s
        return self.drawn(salt, at) + self.drawn(salt + 1, at) - 1


class Course:
    """The readings of a plan, block by block. series_ids: (sensors, quantities), in the plan's order."""

    def __init__(self, plan: Backfill, series_ids: NDArray[np.int32], zone: ZoneInfo) -> None:
        self._plan = plan
        self._ids = series_ids
        self._zone = zone
        sensors = list(plan.all_sensors())
        moved = [s.room if s.moves_to is None else s.moves_to for s in sensors]
        first = [s.gateway * 1_000 for s in sensors]
        self._rooms = np.array([[s.room for s in sensors], moved], dtype=np.int64) + np.array(first, dtype=np.int64)
        self._phases = self._drawn(0, np.arange(series_ids.size, dtype=np.int64)).reshape(series_ids.shape)
        self._gateways = np.array([s.gateway for s in sensors])

    def block(self, first: int, slots: int) -> list[Rows]:
        """The readings of these slots, by gateway; slot by slot in each, as a gateway seals them."""
        plan = self._plan
        sensors, quantities = self._ids.shape
        slot = np.arange(first, first + slots, dtype=np.int64)
        base = plan.from_us + slot * plan.period_us
        # Half of the time is over: what moves has moved.
        half = (slot >= plan.slots // 2).astype(np.int64)
        times = np.empty((sensors, quantities, slots), dtype=np.int64)
        values = np.empty((sensors, quantities, slots))
        local = base // 1_000_000 + self._offsets_s(base)
        device = np.arange(sensors, dtype=np.int64)[:, None]
        for n, (quantity, _) in enumerate(QUANTITIES):
            off = self._drawn(2 + n, device * 0x1_0000_0001 + slot) * 2 - 1
            # Within its slot whatever the jitter: a series is in the order of its times.
            share = self._phases[:, n, None] * (1 - 2 * plan.jitter) + plan.jitter * (1 + off)
            within = (share * plan.period_us).astype(np.int64)
            times[:, n] = base + within
            when = _When(local + within // 1_000_000, self._drawn, self._rooms[half].T, device)
            values[:, n] = _VALUES[quantity](when)
        return [self._rows(self._gateways == g, times, values) for g in range(plan.gateways)]

    def _rows(self, chosen: NDArray[np.bool_], times: _Ints, values: Floats) -> Rows:
        ids = np.broadcast_to(self._ids[chosen][:, :, None], times[chosen].shape)
        n = ids.size
        return Rows(
            times[chosen].transpose(2, 0, 1).ravel(),
            ids.transpose(2, 0, 1).ravel(),
            values[chosen].transpose(2, 0, 1).ravel(),
            np.full(n, 100, np.int32),
            np.zeros(n, np.int32),
        )

    def _offsets_s(self, times_us: _Ints) -> _Ints:
        """The site's clock minus UTC, seconds: it changes on the hour only."""
        hours, at = np.unique(times_us // (_HOUR_S * 1_000_000), return_inverse=True)
        found = [datetime.fromtimestamp(h * _HOUR_S, UTC).astimezone(self._zone).utcoffset() for h in hours.tolist()]
        return np.array([0 if o is None else int(o.total_seconds()) for o in found], dtype=np.int64)[at]

    def _drawn(self, salt: int, keys: _Ints) -> Floats:
        """0 … 1 for each key, evenly: splitmix64 (Steele, Lea and Flood, 2014) of seed, salt and key."""
        with np.errstate(over="ignore"):
            x = keys.astype(np.uint64) + np.uint64((self._plan.seed * 64 + salt + 1) * 0x9E37_79B9_7F4A_7C15 % 2**64)
            for shift, factor in ((30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)):
                x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
            x ^= x >> np.uint64(31)
        drawn: Floats = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return drawn


def _temperature(when: _When) -> Floats:
    day = np.sin(2 * np.pi * (when.hour - 9) / 24)
    own = when.drawn(10, when.device) - 0.5
    return np.round(21.5 + own + 1.5 * when.season + 0.8 * day + 1.5 * when.visitors() + 0.15 * when.noise(11), 2)


def _humidity(when: _When) -> Floats:
    own = 4 * (when.drawn(20, when.device) - 0.5)
    return np.round(46 + own + 9 * when.season + 5 * when.visitors() + 0.8 * when.noise(21), 1)


def _co2(when: _When) -> Floats:
    return np.round(425 + 700 * when.visitors() + 15 * when.noise(31))


def _illuminance(when: _When) -> Floats:
    daylight = np.maximum(np.sin(np.pi * (when.hour - 6 + when.season) / (12 + 2 * when.season)), 0.0)
    cloudy = when.drawn(40, when.local_s // _DAY_S)
    lamps = np.where((when.hour > _OPENS_H - 0.5) & (when.hour < _CLOSES_H + 0.5), 380.0, 0.0)
    light = 260 * daylight * (0.3 + 0.7 * cloudy) + lamps + 6 * when.noise(41)
    return np.where(light > 0, np.round(light), 0.0)


def _presence(when: _When) -> Floats:
    there = when.drawn(50, when.room * 0x1_0000_0001 + when.local_s // _STAYS_S)
    return (there < when.visitors()).astype(np.float64)


_VALUES: dict[str, Callable[[_When], Floats]] = {
    "temperature": _temperature,
    "humidity": _humidity,
    "co2": _co2,
    "illuminance": _illuminance,
    "presence": _presence,
}
