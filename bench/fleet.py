"""`make bench-fleet`: a thousand gateways that lose their broker, or their server, and come back at once.

Broker, PostgreSQL (fsync on), ingest server and `heal7-iot simulate` are processes on one machine. The broker is killed
and started again, after a short and after longer outages; sampled twice a second, and drawn. At the end the table is
compared with what was simulated, row by row. The last line printed is one JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
from rich.console import Console

from bench.exactness import faults
from bench.line import fresh_database, start_worker, workers
from bench.plot import draw
from bench.sampling import FLAT, Flatness, Gauge, Sample, Sampler, rss_flatness
from heal7_iot.embedded.broker import EmbeddedBroker
from heal7_iot.embedded.postgres import EmbeddedPostgres
from heal7_iot.simulate.plan import Plan

OUTAGES = (("broker", 1.0), ("broker", 10.0), ("broker", 30.0), ("server", 30.0))
"""What is killed, and for how long it is away."""
_STEADY_S = 30.0
_PATIENCE_S = 300.0

ATTEMPTS = ("attempts to connect (1/s)", "")
LIVE = ("live, sealed to receipt (s)", "p95")
IN_FLIGHT = ("batches", "in flight")
TAKEN = "taken to committed (s)"
console = Console(stderr=True)


class Simulator:
    """`heal7-iot simulate --json` as a process, and what it said last."""

    def __init__(self, plan: Plan, port: int, log: Path) -> None:
        command = [sys.executable, "-m", "heal7_iot", "simulate", "--json", "--port", str(port)]
        for option, value in (
            ("gateways", plan.gateways),
            ("sensors", plan.sensors),
            ("rate", plan.rate),
            ("duration", plan.duration_s),
            ("seed", plan.seed),
            ("site", plan.site),
        ):
            command += [f"--{option}", str(value)]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.said: dict[str, Any] = {}
        self._before: tuple[float, int] = (0.0, 0)
        self._reader = threading.Thread(target=self._read, name="simulator", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said = json.loads(line)

    def number(self, key: str) -> float | None:
        found = self.said.get(key)
        return None if found is None else float(found)

    def attempts_per_s(self) -> float | None:
        """Since it was asked last."""
        at_s, attempts = self.said.get("at_s"), self.said.get("attempts")
        before_s, before = self._before
        if at_s is None or attempts is None or at_s <= before_s:
            return None
        self._before = at_s, attempts
        return float((attempts - before) / (at_s - before_s))

    def wait(self, seconds: float) -> dict[str, Any]:
        """Its outcome, once it has ended."""
        self.process.wait(seconds)
        self._reader.join()
        return self.said


@dataclass(frozen=True, slots=True)
class Return:
    """One outage, in seconds of the sampler: when the broker or the server went and came, and when nine of ten and all
    gateways saw a server again; when the story went on."""

    what: str
    gone_s: float
    back_s: float
    most_s: float
    all_s: float
    end_s: float


def until_online(simulator: Simulator, gateways: float) -> None:
    """So many gateways have a connection and know of a server."""
    deadline = time.monotonic() + _PATIENCE_S
    while (simulator.number("online") or 0) < gateways:
        if time.monotonic() > deadline or simulator.process.poll() is not None:
            sys.exit(f"bench: not all gateways came back: {simulator.said}")
        time.sleep(0.1)


def story(
    sampler: Sampler,
    broker: EmbeddedBroker,
    servers: list[psutil.Popen],
    directory: Path,
    simulator: Simulator,
    gateways: int,
) -> list[Return]:
    """Steady, then each outage with a steady time after it."""
    until_online(simulator, gateways)
    time.sleep(_STEADY_S)
    found = []
    for what, outage_s in OUTAGES:
        sampler.mark(f"{what} killed for {outage_s:g} s")
        gone_s = sampler.at_s()
        if what == "broker":
            broker.kill()
            time.sleep(outage_s)
            broker.start()
        else:
            servers[0].kill()
            servers[0].wait()
            time.sleep(outage_s)
            servers[0] = start_worker(directory, 0)
        back_s = sampler.at_s()
        # What the simulator has said until now is from before the outage, where that was short.
        time.sleep(1.0)
        until_online(simulator, 0.9 * gateways)
        most_s = sampler.at_s()
        until_online(simulator, gateways)
        all_s = sampler.at_s()
        time.sleep(_STEADY_S)
        found.append(Return(what, gone_s, back_s, most_s, all_s, sampler.at_s()))
    return found


def with_latency(samples: Sequence[Sample], dsn: str, began_at_us: int) -> list[Sample]:
    """The samples, each with how long it took until what was taken in its second was committed.

    began_at_us: Unix µs of the samples' 0.
    """
    query = (
        "SELECT floor((extract(epoch FROM recorded_at) * 1000000 - %s) / 1000000)::int AS second,"
        " percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - recorded_at)),"
        " percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - recorded_at))"
        " FROM iot_service.sensor_readings GROUP BY 1"
    )
    with psycopg.connect(dsn) as connection:
        seconds = {row[0]: (float(row[1]), float(row[2])) for row in connection.execute(query.encode(), (began_at_us,))}
    found = []
    for sample in samples:
        p50_s, p95_s = seconds.get(int(sample.at_s), (None, None))
        more = {} if p50_s is None or p95_s is None else {(TAKEN, "p50"): p50_s, (TAKEN, "p95"): p95_s}
        found.append(replace(sample, gauges={**sample.gauges, **more}))
    return found


def told(one: Return, samples: Sequence[Sample]) -> dict[str, float | str]:
    """The figures of one outage."""
    since = [sample for sample in samples if one.back_s <= sample.at_s < one.end_s]
    return {
        "away": one.what,
        "outage_s": round(one.back_s - one.gone_s, 1),
        "attempts_per_s_peak_once_it_is_back": round(max(sample.gauges.get(ATTEMPTS, 0.0) for sample in since)),
        "nine_of_ten_back_after_s": round(one.most_s - one.back_s, 1),
        "all_back_after_s": round(one.all_s - one.back_s, 1),
        "batches_in_flight_peak": round(max(sample.gauges.get(IN_FLIGHT, 0.0) for sample in since)),
        "live_ms_p95_worst": round(1000 * max(sample.gauges.get(LIVE, 0.0) for sample in since)),
    }


def books(dsn: str) -> dict[str, int]:
    """Sums of the ledger's view over all gateways."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(
            "SELECT count(*) AS gateways, sum(sealed)::bigint AS sealed, sum(committed)::bigint AS committed,"
            " sum(in_flight)::bigint AS in_flight, sum(duplicates)::bigint AS batches_twice_left_out,"
            " count(*) FILTER (WHERE NOT balanced) AS unbalanced FROM iot_service.books"
        )
        row = cursor.fetchone()
        assert row is not None
        assert cursor.description is not None
        return {column.name: int(value) for column, value in zip(cursor.description, row, strict=True)}


def measure(directory: Path, plan: Plan, dsn: str, picture: Path | None) -> dict[str, object]:
    broker = EmbeddedBroker(directory / "broker", kind="mosquitto")
    broker.start()
    try:
        with workers(directory, broker.port, dsn, 1) as servers:
            simulator = Simulator(plan, broker.port, directory / "simulate.log")
            gauges = [
                Gauge("gateways connected", "", lambda: simulator.number("connected")),
                Gauge(*ATTEMPTS, simulator.attempts_per_s),
                Gauge(*IN_FLIGHT, lambda: simulator.number("in_flight_batches")),
                Gauge(IN_FLIGHT[0], "waiting in the server", lambda: _waiting(directory / "health0.json")),
                Gauge(*LIVE, lambda: simulator.number("live_p95_s")),
            ]
            processes = {
                "ingest server": lambda: servers[0].pid,
                "broker": lambda: broker.pid,
                "simulator (all gateways)": lambda: simulator.process.pid,
            }
            try:
                with Sampler(processes, gauges) as sampler:
                    began_at_us = int((time.time() - sampler.at_s()) * 1_000_000)
                    returns = story(sampler, broker, servers, directory, simulator, plan.gateways)
                    simulator.process.send_signal(signal.SIGINT)
                    outcome = simulator.wait(_PATIENCE_S + 60)
            finally:
                if simulator.process.poll() is None:
                    simulator.process.kill()
                    simulator.process.wait()
    finally:
        broker.stop()
    for log in ("simulate.log", "ingest0.log"):
        console.print((directory / log).read_text()[-2000:], markup=False, highlight=False)
    samples = with_latency(sampler.samples, dsn, began_at_us)
    if picture is not None:
        title = f"{plan.gateways:,} gateways lose their broker, then their server, and come back"
        draw(samples, picture, title, marks=sampler.marks, measures=["memory (MB)", "CPU (% of a core)"])
    wrong = faults(dsn, plan, outcome)
    found = books(dsn)
    flat = {name: rss_flatness(samples, name) for name in processes}
    before = [s.gauges[LIVE] for s in samples if LIVE in s.gauges and 10 < s.at_s < returns[0].gone_s]
    failures = [
        *wrong,
        *([f"the simulator ended with {outcome}"] if not outcome.get("all_settled") else []),
        *([f"the books: {found}"] if found["unbalanced"] or found["in_flight"] else []),
        *([f"the server's memory grew: {flat['ingest server']}"] if not flat["ingest server"].flat() else []),
    ]
    for failure in failures:
        console.print(f"NOT AS IT SHOULD BE: {failure}", markup=False, highlight=False)
    return {
        "gateways": plan.gateways,
        "series": plan.gateways * plan.sensors,
        "readings": outcome["sealed"],
        "batches": outcome["batches"],
        "batches_sent_again": outcome["resent"],
        "books": found,
        "exact": not wrong,
        "live_ms_p95_before": round(1000 * statistics.median(before)),
        "returns": [told(one, samples) for one in returns],
        "memory_mb": {name: _rounded(one) for name, one in flat.items()},
        "flat_means_ratio_at_most": FLAT,
        "server_cpu_percent": round(
            statistics.mean(
                s.processes["ingest server"].cpu_percent for s in samples if "ingest server" in s.processes
            ),
            1,
        ),
        "ok": not failures,
    }


def _waiting(health: Path) -> float | None:
    """Batches that have arrived at the server and that it has not taken up yet."""
    return float(json.loads(health.read_text())["waiting"]) if health.exists() else None


def _rounded(flat: Flatness) -> Mapping[str, float]:
    return {"middle": round(flat.middle, 1), "last": round(flat.last, 1), "ratio": round(flat.ratio, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", type=int, default=1000)
    parser.add_argument("--sensors", type=int, default=2, help="of each gateway (default 2)")
    parser.add_argument("--rate", type=float, default=0.05, help="readings a second of each sensor (default 0.05)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--picture", type=Path, default=None, help="where to draw it (default: nowhere)")
    options = parser.parse_args()
    # A connection each, at the simulator and at the broker; both inherit the limit from here.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = Plan(options.gateways, options.sensors, options.rate, duration_s=86_400.0, seed=options.seed, site="bench")
    directory = Path(tempfile.mkdtemp(prefix="h7f-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "pg")
    figures: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    try:
        postgres.start()
        dsn = asyncio.run(fresh_database(postgres, "fleet"))
        figures |= measure(directory, plan, dsn, options.picture)
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory)
    print(json.dumps(figures))
    sys.exit(0 if figures["ok"] else 1)


if __name__ == "__main__":
    main()
