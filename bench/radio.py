"""An emulated BlueZ in a process of its own, for `bench.drivers`: many BTHome sensors, as fast as asked.

Writes `ready` once it can be scanned, and a JSON object of what it sent at the end; lives until its input ends.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from device_drivers.simulator import bthome
from device_drivers.simulator.bluez import EmulatedBlueZ, EmulatedDevice
from device_drivers.simulator.private_bus import private_bus


def address(number: int) -> str:
    """Locally administered and static random: no real sensor has it."""
    return f"D2:37:01:00:{number >> 8:02X}:{number & 0xFF:02X}"


async def send(devices: list[EmulatedDevice], adverts: int, rate: float, fresh_of: int) -> dict[str, float]:
    """One after the other, each heard by the scan. rate: adverts a second, 0 for as fast as it goes.

    fresh_of: one in so many of a device's adverts is a new measurement, the others repeat it.
    """
    rounds = [0] * len(devices)
    began = time.monotonic()
    for n in range(adverts):
        which = n % len(devices)
        measurement, rounds[which] = rounds[which] // fresh_of, rounds[which] + 1
        values = {
            "battery": 80.0,
            "temperature": 20 + (measurement % 500) / 100,
            "humidity": 40 + (measurement % 300) / 100,
        }
        await devices[which].advertise({bthome.SERVICE: bthome.encode(values, measurement % 256)}, rssi=-60 - n % 20)
        if rate:
            await asyncio.sleep(began + (n + 1) / rate - time.monotonic())
    return {"adverts": adverts, "seconds": time.monotonic() - began}


async def run(options: argparse.Namespace) -> None:
    async with private_bus(options.directory) as bus, EmulatedBlueZ(bus) as bluez:
        devices = [bluez.device(address(n)) for n in range(options.devices)]
        print("ready", flush=True)
        await bluez.scanned()
        print(json.dumps(await send(devices, options.adverts, options.rate, options.fresh_of)), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--adverts", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--fresh-of", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
