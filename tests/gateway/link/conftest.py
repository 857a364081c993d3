"""What tests of sessions share: the broker's options, and the proof that nothing stays open or is complained of."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.link.broker import BrokerOptions
from tests.peers.mosquitto import Broker

PATIENCE_S = 10.0
"""For waits that end at once unless something is broken."""

WILL = ("heal7/v1/server/status", b"gone")


@pytest.fixture
def options(mosquitto: Broker) -> BrokerOptions:
    return BrokerOptions(port=mosquitto.port, keepalive_s=2, connect_timeout_s=5.0)


@pytest.fixture(params=[True, False], ids=["mqtt5", "mqtt311"])
def version5(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def quiet() -> AsyncIterator[None]:
    """Fails a test after which a file descriptor is open that was not before, or of which the loop complained."""
    complaints: list[str] = []

    def complain(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        complaints.append(str(context))

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(complain)
    await loop.run_in_executor(None, int)  # the thread and its wake-up stay, for the next test, too
    gc.collect()
    before = open_files()
    yield
    gc.collect()
    # A thread that was connecting when its task was cancelled needs a moment to notice.
    deadline = loop.time() + PATIENCE_S
    while (left := open_files().items() - before.items()) and loop.time() < deadline:  # noqa: ASYNC110 -- /proc tells nobody
        await asyncio.sleep(0.01)
    assert not left, "left open"
    assert complaints == []


def open_files() -> dict[str, str]:
    """Every file descriptor of this process, and what it is of."""
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found[fd.name] = str(fd.readlink())
        except FileNotFoundError:
            continue  # that of the listing itself
    return {number: target for number, target in found.items() if not target.startswith(f"/proc/{os.getpid()}")}
