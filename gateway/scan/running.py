"""A scan from its beginning to what is left of it on the terminal."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig
from gateway.scan import shown
from gateway.scan.scanning import Scan, Wanted, scanning

_SHOW_EVERY_S = 0.5


async def run(
    wanted: Wanted,
    config: GatewayConfig | None,
    profiles: ProfileSet,
    *,
    seconds: float | None,
    unknown: bool,
    as_json: bool,
) -> bool:
    """Whether all adapters could be used.

    seconds: of listening to radios, and on until all lines were looked at; None: until interrupted, which ends it early
    otherwise. Meanwhile it is shown live on a terminal; what was found in the end goes to the output.
    """
    with _interrupted() as interrupted:
        async with scanning(wanted, config, profiles) as scan:
            # Without a radio there is nothing to wait for but the lines.
            await _watch(scan, seconds if wanted.adapters else 0.0, interrupted, unknown=unknown)
    if as_json:
        print(json.dumps(shown.as_json(scan), indent=1, ensure_ascii=False))
        return not scan.radio.faults
    Console().print(shown.tables(scan, unknown=unknown))
    if pasteable := shown.pasteable(scan):
        # Not by rich: it would wrap long lines, and take [[driver]] for a style.
        print(f"\nTo paste into the gateway's configuration, with names of your own:\n\n{pasteable}", end="")
    return not scan.radio.faults


async def _watch(scan: Scan, seconds: float | None, interrupted: asyncio.Event, *, unknown: bool) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    console = Console(stderr=True)
    # To a pipe nobody's eye follows.
    live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while seconds is None or not scan.is_done or loop.time() - began_s < seconds:
            if live is not None:
                live.update(shown.tables(scan, unknown=unknown), refresh=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHOW_EVERY_S):
                    await interrupted.wait()
                    return


@contextlib.contextmanager
def _interrupted() -> Iterator[asyncio.Event]:
    """Set by Ctrl-C, which ends a watch and is no failure."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
