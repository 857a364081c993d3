"""One simulation: the broker asked, the fleet run, a screen beside it, an outcome."""

import asyncio
import contextlib
import io
import json
import logging
import os
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway.config import BatchOptions, UplinkOptions
from gateway.link.broker import BrokerOptions, ProtocolChoice
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from heal7_iot.demo.interruption import Interruption
from heal7_iot.simulate.errors import CannotSimulate
from heal7_iot.simulate.fleet import Fleet, Outcome, Progress, fleet
from heal7_iot.simulate.plan import Plan
from heal7_iot.simulate.screen import JsonScreen, LiveScreen, PlainScreen, Screen, Terminal, summary, verdict

_SHOW_EVERY_S = 0.5
_EXIT_FAILED = 1

# A connection is made in a thread, which an address that does not answer keeps for as long as it waits.
_CONNECTING_AT_ONCE = 16

_FDS_PER_GATEWAY = 2  # the connection, and for a moment the one before it
_FDS_BESIDES = 64

_TOLD = 20  # different errors of gateways that are shown


@dataclass(frozen=True, slots=True)
class Setup:
    """A plan, and how its gateways reach the broker and behave."""

    plan: Plan
    broker: BrokerOptions
    batch: BatchOptions
    uplink: UplinkOptions


def run(setup: Setup, as_json: bool) -> int:
    """The exit code: 0 where all that was read is settled, else 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        _make_room(setup.plan.gateways)
        outcome = asyncio.run(simulate(setup, as_json))
    except CannotSimulate as error:
        print(f"heal7-iot simulate: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except asyncio.CancelledError:
        return _EXIT_FAILED  # two signals before anything had begun
    # The terminal may be gone; what it came to is still the exit code.
    with contextlib.suppress(OSError):
        if as_json:
            print(json.dumps(summary(setup.plan, outcome)), flush=True)
        else:
            print(verdict(outcome), flush=True)
    return 0 if outcome.all_settled else _EXIT_FAILED


async def simulate(setup: Setup, as_json: bool) -> Outcome:
    """Until the plan's duration is over, or a signal came. Raises CannotSimulate."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CONNECTING_AT_ONCE, "connect"))
    plan = setup.plan
    console = Terminal()
    screen: Screen = (
        JsonScreen(console) if as_json else LiveScreen(console, plan) if console.is_terminal else PlainScreen(console)
    )
    interruption = Interruption()
    with interruption.listening(), _few_words():
        await _ask(setup)
        try:
            async with fleet(plan, setup.broker, setup.batch, setup.uplink) as simulated:
                await _watch(simulated, plan.duration_s, interruption, screen)
                return simulated.outcome()
        except ValueError as error:
            raise CannotSimulate(str(error)) from error


async def _watch(simulated: Fleet, duration_s: float | None, interruption: Interruption, screen: Screen) -> None:
    """Runs the fleet beside the screen. A second signal ends it at once."""
    stop = asyncio.Event()
    running = asyncio.create_task(simulated.run(stop), name="fleet")
    try:
        while not running.done():
            progress = simulated.progress()
            _show(screen, progress, interruption)
            left_s = _SHOW_EVERY_S if duration_s is None or stop.is_set() else duration_s - progress.at_s
            if left_s <= 0 or interruption.came:
                stop.set()
                left_s = _SHOW_EVERY_S
            await asyncio.wait([running], timeout=min(left_s, _SHOW_EVERY_S))
        await running
        _show(screen, simulated.progress(), interruption)
    except asyncio.CancelledError:
        if running.done():
            raise
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        while not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=1.0)
    finally:
        screen.close()


def _show(screen: Screen, progress: Progress, interruption: Interruption) -> None:
    try:
        screen.show(progress)
    except OSError:
        # A closed window, `| head`: it ends in order. What is still to be printed would fail again, at last when Python
        # ends.
        interruption.end()
        _print_nowhere()


def _print_nowhere() -> None:
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


async def _ask(setup: Setup) -> None:
    """Whether the broker takes a gateway at all. Raises CannotSimulate."""
    broker = setup.broker
    choice = ProtocolChoice(broker.protocol)
    will = (broker.topics.status(setup.plan.gateway(0)), b"")
    for attempt in ("first", "last"):
        session = Session(broker, f"heal7-simulate-{os.getpid()}", will, choice.version5)
        try:
            async with session:
                return
        except SessionLost as error:
            choice.failed()
            # With `auto` the other version of MQTT is tried, too, but only where somebody is there at all.
            if attempt == "last" or not session.reached:
                raise CannotSimulate(
                    f"{broker.host}:{broker.port}: {error}; start the broker, or name another with --host and --port,"
                    " or with --config FILE"
                ) from error


def _make_room(gateways: int) -> None:
    """Raises CannotSimulate where this process may not open as many connections."""
    wanted = _FDS_PER_GATEWAY * gateways + _FDS_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CannotSimulate(
            f"{gateways} gateways need {wanted} open files, and this process may have {hard}: raise the limit"
            " (ulimit -Hn), or simulate fewer"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Once(logging.Filter):
    """A thousand gateways say the same: it is shown once."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text in self._told or len(self._told) >= _TOLD:
            return False
        self._told.add(text)
        return True


@contextlib.contextmanager
def _few_words() -> Iterator[None]:
    """Gateways' errors go to standard error, each text once; that they lose the broker is seen anyway."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    handler.setFormatter(logging.Formatter("a gateway says: %(message)s"))
    handler.addFilter(_Once())
    logger = logging.getLogger("gateway")
    logger.addHandler(handler)
    # aiomqtt's own: what it would say, an uplink says better.
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.removeHandler(handler)
