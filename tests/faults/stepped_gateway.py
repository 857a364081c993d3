"""A gateway as a process of its own, in a time of its own: `python -m tests.faults.stepped_gateway CONFIG`.

Each line on its standard input is a monotonic time in µs and the values that its one sensor gives at that time. Nothing
else moves its clock, so that what lingers does not depend on how fast the machine is.
"""

import asyncio
import sys
from pathlib import Path

from gateway.app import Gateway
from gateway.clock import RELEASED_S, Clock
from gateway.loading import load_gateway
from tests.gateway.scripted_driver import Script, reading

WALL_AT_BOOT_US = RELEASED_S * 1_000_000
DEVICE = "a"


async def run(config: Path) -> None:
    now_us = 1

    def now_ns() -> int:
        return now_us * 1000

    script = Script()
    kinds = script.kinds()
    clock = Clock("system", monotonic_ns=now_ns, wall_ns=lambda: now_ns() + WALL_AT_BOOT_US * 1000)
    gateway = Gateway(
        *load_gateway(config, kinds),
        load=lambda: load_gateway(config, kinds),
        kinds=kinds,
        clock=clock,
    )
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    now_us = int(await lines.readline())
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.run(stop))
        while line := await lines.readline():
            at, *values = line.split()
            now_us = int(at)
            script.give_readings(DEVICE, [reading(DEVICE, float(value), now_us) for value in values])
        stop.set()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
