"""Whether a Bluetooth adapter is there now, looked at from outside."""

from pathlib import Path

from device_drivers.ble.options import BleOptions
from device_drivers.presence import Named, Presence

ADAPTERS = Path("/sys/class/bluetooth")


def presence(options: BleOptions, adapters: Path = ADAPTERS) -> Presence:
    """As of now; asks no BlueZ."""
    found = (adapters / options.adapter).exists()
    there = sorted(entry.name for entry in adapters.iterdir()) if adapters.is_dir() else []
    others = f"there is {', '.join(there)}" if there else "there is none"
    return Presence(
        options.adapter,
        found,
        () if found else (f"no Bluetooth adapter {options.adapter}; {others}",),
        tuple(Named(one.device, one.model, one.firmware) for one in options.device),
    )
