"""The table beside what simulated gateways must have put there: value by value, microsecond by microsecond."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from heal7_iot.simulate.course import Course
from heal7_iot.simulate.plan import Plan

_MOST_TOLD = 10

_ROWS = """
SELECT d.device, array_agg((extract(epoch FROM r.recorded_at) * 1000000)::bigint ORDER BY r.recorded_at, r.value),
       array_agg(r.value ORDER BY r.recorded_at, r.value)
  FROM iot_service.sensor_readings r
  JOIN iot_service.series s USING (series_id)
  JOIN iot_service.iot_devices d USING (device_id)
 WHERE d.site = %s
 GROUP BY d.device
"""


def faults(dsn: str, plan: Plan, outcome: Mapping[str, Any]) -> list[str]:
    """What is wrong with the rows of the plan's site; nothing is what it should be.

    outcome: what `heal7-iot simulate --json` said last.
    """
    with psycopg.connect(dsn) as connection:
        found = {device: (times, values) for device, times, values in connection.execute(_ROWS, (plan.site,))}
    told: list[str] = []
    rows = sum(len(times) for times, _ in found.values())
    if rows != outcome["sealed"]:
        told.append(f"{rows} rows in the table, {outcome['sealed']} readings were sealed")
    course = Course(plan)
    for gateway in range(plan.gateways):
        for sensor in range(plan.sensors):
            device = plan.device(gateway, sensor)
            times, values = found.pop(device, ([], []))
            told += _compare(course, gateway, sensor, device, int(outcome["began_at_us"]), times, values)
    told += [f"{device}: was never simulated" for device in found]
    return told[:_MOST_TOLD]


def _compare(
    course: Course, gateway: int, sensor: int, device: str, began_at_us: int, times: Sequence[int], values: list[float]
) -> list[str]:
    for number, row in enumerate(zip(times, values, strict=True)):
        due = course.reading(gateway, sensor, number)
        if row != (began_at_us + due.after_us, due.value):
            return [f"{device}: row {number} is {row}, must be {(began_at_us + due.after_us, due.value)}"]
    return []
