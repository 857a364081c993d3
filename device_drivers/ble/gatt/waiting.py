"""Waits for BlueZ that end, whatever the library that waits does with a cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

# What a library does when it is cancelled: bleak then asks BlueZ to disconnect, and waits for that without end.
_GRACE_S = 2.0


async def within(timeout_s: float, request: Coroutine[Any, Any, _T]) -> _T:
    """What the request gives; raises TimeoutError when it took longer, at most `_GRACE_S` late."""
    task = asyncio.create_task(request)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_S)
        if not task.cancelled():
            # Asked for, so that asyncio does not tell of an error that came too late for anybody.
            task.exception()


async def to_its_end(request: Coroutine[Any, Any, None]) -> None:
    """Waits also when it is cancelled meanwhile, which it is afterwards. The request bounds itself."""
    task = asyncio.create_task(request)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
