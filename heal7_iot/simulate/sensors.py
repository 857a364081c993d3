"""The sensors of one simulated gateway: what they say until a given time. Sans I/O."""

import heapq
import math

from device_drivers.reading import Reading, Series
from heal7_iot.simulate.course import Course, Due
from heal7_iot.simulate.plan import Plan

PROFILE = "simulator/1"


class Sensors:
    """began_us: monotonic time at which the plan starts."""

    def __init__(self, plan: Plan, course: Course, gateway: int, began_us: int) -> None:
        self._course = course
        self._gateway = gateway
        self._began_us = began_us
        self._series = [
            Series(plan.device(gateway, sensor), "temperature", "temperature", "°C", PROFILE, "1")
            for sensor in range(plan.sensors)
        ]
        self.taken = [0] * plan.sensors
        """Readings of each sensor so far, late ones that wait included."""
        self._next = [self._coming(sensor) for sensor in range(plan.sensors)]
        heapq.heapify(self._next)
        self._late: list[tuple[int, int, int, Reading]] = []

    def next_us(self) -> float:
        """When there is something again, monotonic µs; infinite for no sensor at all."""
        times: list[float] = [self._next[0][0]] if self._next else []
        return min([*times, *(entry[0] for entry in self._late[:1])], default=math.inf)

    def until(self, now_us: int) -> list[Reading]:
        """What came since the last call."""
        given: list[Reading] = []
        while self._next and self._next[0][0] <= now_us:
            taken_us, sensor, due = self._next[0]
            reading = Reading(self._series[sensor], due.value, taken_us)
            if due.delay_us:
                heapq.heappush(self._late, (taken_us + due.delay_us, sensor, self.taken[sensor], reading))
            else:
                given.append(reading)
            self.taken[sensor] += 1
            heapq.heapreplace(self._next, self._coming(sensor))
        while self._late and self._late[0][0] <= now_us:
            given.append(heapq.heappop(self._late)[3])
        return given

    def rest(self) -> list[Reading]:
        """Late readings that still wait, when no time is left."""
        rest = [entry[3] for entry in sorted(self._late, key=lambda entry: entry[:3])]
        self._late.clear()
        return rest

    def _coming(self, sensor: int) -> tuple[int, int, Due]:
        due = self._course.reading(self._gateway, sensor, self.taken[sensor])
        return self._began_us + due.after_us, sensor, due
