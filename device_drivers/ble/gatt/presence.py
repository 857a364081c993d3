"""Whether the adapter of GATT sensors is there now, looked at from outside."""

from pathlib import Path

from device_drivers.ble.gatt.options import GattOptions
from device_drivers.ble.presence import ADAPTERS, adapter_faults
from device_drivers.presence import Named, Presence


def presence(options: GattOptions, adapters: Path = ADAPTERS) -> Presence:
    """As of now; asks no BlueZ."""
    faults = adapter_faults(options.adapter, adapters)
    devices = tuple(Named(one.device, one.model, one.firmware) for one in options.device)
    return Presence(options.adapter, not faults, faults, devices)
