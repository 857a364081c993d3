"""A backfill at the terminal: progress while it runs, and what it came to."""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from heal7_iot.simulate.backfill.load import Loader
from heal7_iot.simulate.backfill.plan import Backfill
from heal7_iot.simulate.errors import CannotSimulate
from ingest_server.errors import StorageError

_EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """seconds: in all. The rate is that of the transactions which write readings."""

    site: str
    series: int
    readings: int
    entries: int
    seconds: float
    readings_per_s: float


def run(plan: Backfill, dsn: str, time_zone: str | None, as_json: bool) -> int:
    """The exit code: 0 where all is written and the rollups follow, else 1."""
    try:
        outcome = asyncio.run(_load(plan, dsn, time_zone))
    except CannotSimulate as error:
        print(f"heal7-iot simulate: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except StorageError as error:
        print(f"database: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        print("heal7-iot simulate: interrupted; what was committed stays", file=sys.stderr)
        return _EXIT_FAILED
    if as_json:
        print(json.dumps(asdict(outcome)), flush=True)
    else:
        print(
            f"{outcome.readings:,} readings of {outcome.series:,} series written in {outcome.seconds:,.0f} s"
            f" ({outcome.readings_per_s:,.0f}/s while writing), rollups included; see `heal7-iot audit` and"
            f" `heal7-iot history latest {outcome.site}`",
            flush=True,
        )
    return 0


class _Rate(ProgressColumn):
    """Readings a second, of late."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


async def _load(plan: Backfill, dsn: str, time_zone: str | None) -> Outcome:
    console = Console(stderr=True)
    columns = (TextColumn("readings"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    began_s = time.perf_counter()
    readings, entries, writing_s = 0, 0, 0.0
    async with Loader.open(dsn, plan, time_zone) as loader:
        with Progress(
            *columns, TextColumn("{task.fields[doing]}"), console=console, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("", total=plan.readings, doing="")
            async for step in loader.run():
                readings += step.readings
                entries += step.entries
                writing_s += step.seconds if step.readings else 0.0
                bar.update(task, advance=step.readings, doing="rollups" if step.entries else "")
    seconds = time.perf_counter() - began_s
    return Outcome(plan.site, plan.series, readings, entries, round(seconds, 2), round(readings / writing_s))
