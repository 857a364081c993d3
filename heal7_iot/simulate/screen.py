"""What is seen while it runs: a table on a terminal, a line now and then elsewhere, JSON lines for programs."""

import json
from dataclasses import asdict
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from heal7_iot.simulate.fleet import Outcome, Progress
from heal7_iot.simulate.plan import Plan

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 0.5


class Terminal(Console):
    """Raises where its other end is gone: rich would end the process, in the middle of everything."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Screen(Protocol):
    """`show` while it runs, `close` before anything else is printed. Raises OSError where the terminal is gone."""

    def show(self, progress: Progress) -> None: ...
    def close(self) -> None: ...


class LiveScreen:
    """Redraws one table."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._live: Live | None = None

    def show(self, progress: Progress) -> None:
        if self._live is None:
            # Refreshed by us alone: a thread that draws could meet a terminal that is gone, and nobody would know.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(draw(self._plan, progress), refresh=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class PlainScreen:
    """For logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due_s = 0.0

    def show(self, progress: Progress) -> None:
        if progress.at_s < self._due_s:
            return
        self._due_s = progress.at_s + _PLAIN_EVERY_S
        self._console.print(line(progress), soft_wrap=True, highlight=False, markup=False)

    def close(self) -> None:
        """Nothing is open."""


class JsonScreen:
    """One object a line. The outcome, which comes last, has a key `all_settled`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due_s = 0.0

    def show(self, progress: Progress) -> None:
        if progress.at_s < self._due_s:
            return
        self._due_s = progress.at_s + _JSON_EVERY_S
        self._console.file.write(json.dumps(asdict(progress)) + "\n")
        self._console.file.flush()

    def close(self) -> None:
        """Nothing is open."""


def draw(plan: Plan, progress: Progress) -> Table:
    """The whole picture."""
    doing = "reading" if progress.reading else "waiting for the last receipts"
    left = "" if plan.duration_s is None or not progress.reading else f" of {plan.duration_s:g}"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row("simulate", f"{plan.gateways} gateways of {plan.sensors} sensors, {plan.rate:g} readings/s each")
    grid.add_row("time", f"{progress.at_s:.0f}{left} s, {doing}")
    behind = Text(f"{progress.connected} of {progress.gateways} connected, {progress.online} see a server")
    if progress.cut:
        behind.append(f", {progress.cut} in an outage", style="yellow")
    grid.add_row("gateways", behind)
    grid.add_row("readings", f"{progress.readings:,} taken, {progress.settled:,} settled")
    grid.add_row("in flight", f"{progress.in_flight_readings:,} readings in {progress.in_flight_batches:,} batches")
    grid.add_row("live", f"sealed to receipt p50 {_ms(progress.live_p50_s)}, p95 {_ms(progress.live_p95_s)}")
    grid.add_row(
        "link", f"{progress.reconnects:,} reconnects, {progress.attempts:,} attempts, {progress.resent:,} batches again"
    )
    grid.add_row("", Text("Ctrl-C ends it in order, a second one at once", style="dim"))
    return grid


def line(progress: Progress) -> str:
    """The same, for a log."""
    return (
        f"{progress.at_s:.0f} s: {progress.connected} of {progress.gateways} connected, {progress.online} see a server;"
        f" {progress.readings} readings, {progress.settled} settled, {progress.in_flight_readings} in flight"
        f" ({progress.in_flight_batches} batches); live p50 {_ms(progress.live_p50_s)},"
        f" p95 {_ms(progress.live_p95_s)}; {progress.reconnects} reconnects, {progress.resent} batches again"
    )


def verdict(outcome: Outcome) -> str:
    """The end, for a person."""
    mark = "all is settled" if outcome.all_settled else "NOT ALL IS SETTLED"
    return (
        f"{mark}: sealed {outcome.sealed:,} = settled {outcome.settled:,} + dropped {outcome.dropped:,}"
        f" + in flight {outcome.in_flight:,} readings, in {outcome.batches:,} batches and {outcome.seconds:.0f} s\n"
        f"sealed to receipt: live p50 {_ms(outcome.live_p50_s)}, p95 {_ms(outcome.live_p95_s)};"
        f" with what waited in outages p50 {_ms(outcome.every_p50_s)}, p95 {_ms(outcome.every_p95_s)},"
        f" longest {_ms(outcome.every_longest_s)}\n"
        f"{outcome.attempts:,} attempts to connect, {outcome.reconnects:,} reconnects,"
        f" {outcome.resent:,} batches sent again"
    )


def summary(plan: Plan, outcome: Outcome) -> dict[str, object]:
    """The last line's JSON object."""
    said = {name: value for name, value in asdict(plan).items() if name != "patience_s"}
    return {"all_settled": outcome.all_settled, **asdict(outcome), "plan": said}


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f} ms"
