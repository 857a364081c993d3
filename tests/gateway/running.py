"""A gateway that runs within a test, beside the test's own event loop work."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Gateway
from gateway.config import GatewayConfig
from gateway.health import HealthReport, read_report
from gateway.loading import load_gateway
from tests.gateway.scripted_driver import Script

NAME = "seoul-1/gw-01"
PATIENCE_S = 30.0

Condition = Callable[[HealthReport], bool]


def write_config(directory: Path, port: int, *, devices: tuple[str, ...] = ("a",), more: str = "") -> Path:
    """A configuration for tests: everything quick. more: further lines, which begin with a table of their own."""
    drivers = "".join(f'[[driver]]\nkind = "scripted"\ndevice = "{device}"\n' for device in devices)
    path = directory / "gateway.toml"
    path.write_text(
        f"""
[gateway]
site = "seoul-1"
name = "gw-01"
state_dir = "{directory / "state"}"
[mqtt]
port = {port}
[clock]
trust = "system"
[batch]
linger_s = 0.05
[health]
write_s = 0.1
[uplink]
resend_first_s = 0.2
resend_longest_s = 0.5
heartbeat_s = 0.3
audit_wait_s = 1.0
spread_s = 0.05
reconnect_first_s = 0.05
reconnect_longest_s = 0.2
{more}
{drivers}
"""
    )
    return path


class Running:
    """A gateway in this process, and what it says of itself."""

    def __init__(self, config: GatewayConfig, gateway: Gateway) -> None:
        self.config = config
        self.gateway = gateway
        self.stop = asyncio.Event()

    def report(self) -> HealthReport | None:
        return read_report(self.config)

    async def until_held(self, batches: int) -> HealthReport:
        """Waits until the spool holds exactly so many batches that are not settled."""
        return await self.until(lambda report: report.spool.held_batches == batches)

    async def until(self, condition: Condition) -> HealthReport:
        """Waits for a report that fulfils the condition."""
        async with asyncio.timeout(PATIENCE_S):
            while (report := self.report()) is None or not condition(report):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a file tells nobody that it was written
        return report


@asynccontextmanager
async def running(path: Path, script: Script) -> AsyncIterator[Running]:
    """Starts the gateway of this configuration; on leaving, stops it as SIGTERM does."""
    kinds = script.kinds()
    config, profiles = load_gateway(path, kinds)
    gateway = Gateway(config, profiles, load=lambda: load_gateway(path, kinds), kinds=kinds)
    one = Running(config, gateway)
    task = asyncio.create_task(gateway.run(one.stop), name="gateway")
    try:
        yield one
    finally:
        one.stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task
