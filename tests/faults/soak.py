"""`make soak`: faults by chance for as long as wished, each round checked reading by reading.

Ends with one JSON line, and exit code 1 where anything was lost, doubled or out of balance.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.plot import draw
from bench.sampling import Gauge, Sampler, rss_flatness
from tests.end_to_end.line import short_directory
from tests.faults.center import HASTY, PATIENCE_S, Center, Pace
from tests.faults.injected import CALM, KINDS
from tests.faults.oracle import Verdict
from tests.faults.schedule import Injection, plan

FAULTS_A_ROUND = 25
LONGEST_S = 20.0
LONGEST_OF_ALL_S = 90.0
"""In a soak of an hour a link may be away for minutes."""

A_DAY = Pace(frames_per_s=30.0, linger_s=1 / 60, replay_window_s=7200.0, wall_speed=60)
"""A minute is an hour: wall clocks, lingers and the replay window are 60 times as fast, and a sensor that speaks every
two seconds speaks 30 times a second. 24 minutes are a day."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, epilog="example: make soak MINUTES=45 SEED=3 PLOT=/tmp/soak.png"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="at least so long, then to the end of a round")
    parser.add_argument("--seed", type=int, default=1, help="the same seed injects the same faults in the same order")
    parser.add_argument("--faults", type=int, default=FAULTS_A_ROUND, help="how many between two comparisons")
    parser.add_argument(
        "--only", default="", help="kinds of faults, with commas between, as an unknown one lists them; none: all"
    )
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="so long (s) may the line take to settle")
    parser.add_argument("--day", action="store_true", help="a minute is an hour; no fault ends a process of ours")
    parser.add_argument("--plot", type=Path, help="draw memory, file descriptors, threads and spools here (PNG or SVG)")
    options = parser.parse_args(arguments)
    if options.minutes < 0:
        parser.error("--minutes: at least 0")
    only = CALM if options.day else tuple(filter(None, map(str.strip, options.only.split(","))))
    unknown = set(only) - set(KINDS)
    if unknown:
        parser.error(f"--only: no fault is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(KINDS))}")
    longest_s = min(LONGEST_OF_ALL_S, LONGEST_S + options.minutes)
    directory = short_directory("soak")
    say = _Progress(options.minutes * 60)
    center = Center(directory, pace=A_DAY if options.day else HASTY, settles_within_s=options.patience)
    injection = Injection(center, plan(center, options.seed, longest_s, only), say.fault)
    sampler = Sampler(center.pids(), _gauges(center))
    verdict, failure = None, ""
    try:
        with sampler:
            center.wait("readings arrive", lambda: center.committed() > 100)
            while verdict is None or not (say.over() or failure):
                injection.inject(options.faults)
                verdict = center.settle(stop=not options.day)
                say.verdict(verdict)
                failure = "" if verdict.sound else "the books do not agree"
    except KeyboardInterrupt:
        failure = "stopped by Ctrl-C"
    except Exception as error:  # noqa: BLE001  # whatever it is, the seed and what was found so far must be told
        failure = f"{type(error).__name__}: {error}"
    finally:
        center.close()
    if options.plot is not None:
        draw(sampler.samples, options.plot, f"{injection.by_kind.total()} faults, seed {options.seed}")
    summary = {
        "seed": options.seed,
        "faults": injection.by_kind.total(),
        "by_kind": dict(sorted(injection.by_kind.items())),
        **(verdict.as_json() if verdict is not None else {}),
        "minutes": round(say.elapsed_s() / 60, 1),
    }
    if options.day:
        summary["memory_last_third_to_middle"] = {
            name: round(rss_flatness(sampler.samples, name).ratio, 3)
            for name in center.pids()
            if any(name in sample.processes for sample in sampler.samples)
        }
    print(json.dumps(summary))
    if failure:
        chosen = f" ONLY='{options.only}'" if options.only else ""
        target = "soak-day" if options.day else f"soak MINUTES={options.minutes:g}{chosen}"
        print(f"{failure}\nagain: make {target} SEED={options.seed}\nleft as it was: {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _gauges(center: Center) -> list[Gauge]:
    def size_of(spool: Path) -> Callable[[], float | None]:
        wal = spool.with_name(spool.name + "-wal")

        def read() -> float:
            return sum(file.stat().st_size for file in (spool, wal) if file.exists()) / 1e6

        return read

    return [Gauge("spool (MB)", gateway.name, size_of(gateway.spool)) for gateway in center.gateways]


class _Progress:
    """One line for each fault and each verdict; on a terminal the faults overwrite each other."""

    def __init__(self, seconds: float) -> None:
        self._began_s = time.monotonic()
        self._seconds = seconds
        self._live = sys.stdout.isatty()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def over(self) -> bool:
        return self.elapsed_s() >= self._seconds

    def fault(self, text: str) -> None:
        line = f"{self.elapsed_s() / 60:5.1f} of {self._seconds / 60:g} min  {text}"
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", flush=True)

    def verdict(self, verdict: Verdict) -> None:
        shown = replace(verdict, complaints=())
        print(f"{chr(13) if self._live else ''}{self.elapsed_s() / 60:5.1f} min  {shown}", flush=True)
        for complaint in verdict.complaints:
            print(f"           {complaint}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
