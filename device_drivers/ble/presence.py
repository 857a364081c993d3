"""Whether the Bluetooth adapters are there now, looked at from outside."""

from pathlib import Path

from device_drivers.ble.options import BleOptions
from device_drivers.presence import Named, Presence

ADAPTERS = Path("/sys/class/bluetooth")


def adapter_faults(adapter: str, adapters: Path = ADAPTERS) -> tuple[str, ...]:
    """What to put right where the adapter is not there."""
    if (adapters / adapter).exists():
        return ()
    there = sorted(entry.name for entry in adapters.iterdir()) if adapters.is_dir() else []
    return (f"no Bluetooth adapter {adapter}; there is {', '.join(there) or 'none'}",)


def presence(options: BleOptions, adapters: Path = ADAPTERS) -> Presence:
    """As of now; asks no BlueZ."""
    faults = tuple(fault for adapter in options.adapters for fault in adapter_faults(adapter, adapters))
    devices = tuple(Named(one.device, one.model or "", one.firmware or "") for one in options.device)
    return Presence(", ".join(options.adapters), not faults, faults, devices)
