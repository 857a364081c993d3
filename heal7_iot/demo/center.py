"""A simulated center: three rooms whose air, light and warmth follow the sun, the opening hours and the visitors.

A pure model: time is an argument, and the same seed gives the same days. Minutes are its steps; each quantity
relaxes towards what the room would settle at, with a time constant of its own.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from heal7_iot.demo.visitors import CLOSES_S, DAY_S, HOUR_S, OPENS_S, Stay, stays_of

_STEP_S = 60.0
_STEPS = int(DAY_S / _STEP_S)

OUTDOOR_CO2_PPM = 420.0
_CO2_M3_PER_PERSON_HOUR = 0.018  # of an adult who stands or sits (EN 16798-1)
_DAY_AIR_CHANGES, _NIGHT_AIR_CHANGES = 2.5, 0.5  # an hour: ventilation runs from an hour before opening

# In hours: how slowly a room follows.
_TEMPERATURE_TAU, _HUMIDITY_TAU, _PARTICLES_TAU = 0.8, 0.6, 0.5


@dataclass(frozen=True, slots=True)
class Room:
    """daylight_lx: at the sensor under a clear noon sky. dust: µg/m³ of PM2.5 that ten visitors keep in the air.

    motion: chance that a visitor moves within a second.
    """

    key: str
    korean: str
    english: str
    volume_m3: float
    daylight_lx: float
    lamps_lx: float
    dust: float
    motion: float


ROOMS = (
    Room("lounge", "웰컴 라운지", "Welcome lounge", 220, 900, 320, 5, 0.5),
    Room("meditation", "명상실", "Meditation room", 130, 120, 60, 4, 0.04),
    Room("studio", "체험 스튜디오", "Experience studio", 200, 450, 480, 14, 0.8),
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """A room at one moment, as perfect sensors would see it: °C, %, ppm, lx, µg/m³."""

    visitors: int
    temperature: float
    humidity: float
    co2: float
    illuminance: float
    pm2_5: float


@dataclass(frozen=True, slots=True)
class _Air:
    temperature: float = 18.5
    humidity: float = 45.0
    co2: float = OUTDOOR_CO2_PPM
    pm2_5: float = 6.0


class Weather:
    """One day outside: the sun behind moving clouds, and fine dust."""

    def __init__(self, seed: int, day: int) -> None:
        rng = random.Random(f"weather {seed} {day}")
        self._waves = [(rng.uniform(0.5, 3.0), rng.uniform(0, 2 * math.pi)) for _ in range(4)]
        self._cover = rng.uniform(0.1, 0.6)
        self.dust = rng.uniform(6, 22)

    def sun(self, time_of_day_s: float) -> float:
        """0 at night to 1 under a clear noon sky."""
        hour = time_of_day_s / HOUR_S
        height = math.sin(math.pi * (hour - 6.3) / 12.4)
        if height <= 0 or not 6.3 < hour < 18.7:
            return 0.0
        clouds = sum(math.sin(speed * hour + phase) for speed, phase in self._waves) / len(self._waves)
        return height * (1 - self._cover * (0.5 + 0.5 * clouds))


class Center:
    """Ask for any moment: seconds since the first day's midnight, never negative."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # Two days are enough: time goes on, and only midnight looks back.
        self._day = lru_cache(maxsize=4)(self._simulate)

    def at(self, time_s: float) -> dict[str, Conditions]:
        """Every room at that time, by its key."""
        day, time_of_day_s = divmod(time_s, DAY_S)
        rooms = self._day(int(day))
        return {key: minutes[int(time_of_day_s / _STEP_S)] for key, minutes in rooms.items()}

    def _simulate(self, day: int) -> dict[str, list[Conditions]]:
        # The day before is walked through, too: what it left in the air overnight is this day's beginning.
        found: dict[str, list[Conditions]] = {}
        for room in ROOMS:
            _, air = _walk(room, self._seed, day - 1, _Air())
            found[room.key], _ = _walk(room, self._seed, day, air)
        return found


def _walk(room: Room, seed: int, day: int, air: _Air) -> tuple[list[Conditions], _Air]:
    """A room's day, minute by minute, and the air at its end."""
    weather = Weather(seed, day)
    occupancy = _occupancy([stay for stay in stays_of(seed, day) if stay.room == room.key])
    minutes = []
    for step, visitors in enumerate(occupancy):
        time_s = step * _STEP_S
        sun = weather.sun(time_s)
        open_now = OPENS_S <= time_s < CLOSES_S
        air = _next(room, weather, air, visitors, sun, OPENS_S - HOUR_S <= time_s < CLOSES_S)
        lamps = room.lamps_lx if open_now and (visitors or sun < 0.2) else 1.0
        light = room.daylight_lx * sun + lamps
        minutes.append(Conditions(visitors, air.temperature, air.humidity, air.co2, light, air.pm2_5))
    return minutes, air


def _occupancy(stays: list[Stay]) -> list[int]:
    """Visitors in each minute."""
    change = [0] * (_STEPS + 1)
    for stay in stays:
        change[int(stay.from_s / _STEP_S)] += stay.visitors
        change[int(stay.to_s / _STEP_S)] -= stay.visitors
    occupancy = []
    now = 0
    for step in range(_STEPS):
        now += change[step]
        occupancy.append(now)
    return occupancy


def _next(room: Room, weather: Weather, air: _Air, visitors: int, sun: float, running: bool) -> _Air:
    """One minute later. running: heating and ventilation."""
    crowd = visitors * 100 / room.volume_m3  # people in 100 m³
    hours = _STEP_S / HOUR_S
    air_changes = _DAY_AIR_CHANGES if running else _NIGHT_AIR_CHANGES
    breath_ppm = visitors * _CO2_M3_PER_PERSON_HOUR / room.volume_m3 * 1e6
    warm = (21.5 if running else 18.5) + 0.25 * crowd + 2.5 * sun * room.daylight_lx / 900
    damp = 42.0 + 1.1 * crowd - 0.8 * (air.temperature - 21.0)
    dusty = 0.45 * weather.dust + room.dust * visitors / 10
    return _Air(
        air.temperature + (warm - air.temperature) * hours / _TEMPERATURE_TAU,
        air.humidity + (damp - air.humidity) * hours / _HUMIDITY_TAU,
        air.co2 + (breath_ppm - air_changes * (air.co2 - OUTDOOR_CO2_PPM)) * hours,
        air.pm2_5 + (dusty - air.pm2_5) * hours / _PARTICLES_TAU,
    )
