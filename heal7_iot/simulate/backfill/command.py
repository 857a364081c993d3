"""`heal7-iot simulate --backfill`: what of its options makes sense, and the plan that they come to."""

import time

import typer

from gateway.link.config_file import EXIT_CONFIG
from heal7_iot.simulate.backfill.plan import MOST_DAYS, MOST_SERIES, QUANTITIES, Backfill
from heal7_iot.simulate.backfill.run import run
from ingest_server.storage.connection import dsn_fault

_MINUTE_US = 60_000_000


def fill(
    dsn: str | None,
    days: float,
    time_zone: str | None,
    *,
    site: str,
    gateways: int,
    sensors: int,
    rate: float,
    jitter: float,
    seed: int,
    as_json: bool,
) -> int:
    """The exit code. The history ends with the last whole minute."""
    now_us = time.time_ns() // 1000 // _MINUTE_US * _MINUTE_US
    plan = Backfill(site, gateways, sensors, rate, jitter, seed, now_us, days)
    fault = _fault(plan, dsn)
    if fault is not None or dsn is None:
        typer.echo(fault, err=True)
        return EXIT_CONFIG
    return run(plan, dsn, time_zone, as_json)


def _fault(plan: Backfill, dsn: str | None) -> str | None:
    if not 0 < plan.days <= MOST_DAYS:
        return f"--backfill: {plan.days:g} days is wrong: more than 0 and at most {MOST_DAYS} (24 months)"
    if plan.slots == 0:
        return f"--backfill: in {plan.days:g} days no sensor would say anything at a --rate of {plan.rate:g}"
    if plan.series > MOST_SERIES:
        return (
            f"--gateways, --sensors: {plan.series:,} series ({len(QUANTITIES)} of each sensor) are too many for one"
            f" backfill: at most {MOST_SERIES:,}"
        )
    if dsn is None:
        return "--backfill: needs --dsn or HEAL7_IOT_DSN, such as --dsn 'host=/run/postgresql dbname=heal7'"
    fault = dsn_fault(dsn)
    return None if fault is None else f"--dsn: {fault}"
