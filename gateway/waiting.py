"""Waiting for one of two things."""

import asyncio
import contextlib


async def either(event: asyncio.Event, timeout_s: float | None) -> None:
    """Waits for the event or the time, whichever comes first; None or infinity: no time."""
    if timeout_s is not None and timeout_s == float("inf"):
        timeout_s = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s if timeout_s is None else max(0.0, timeout_s)):
            await event.wait()
