"""Whether a serial line is there now, looked at from outside."""

import os
from pathlib import Path

from device_drivers.modbus.options import ModbusOptions
from device_drivers.presence import Named, Presence
from device_drivers.serial_line.options import SensorOptions
from device_drivers.serial_line.port import DeviceServer, SerialPort, UsbIdentity, describe_links


def presence(options: SensorOptions) -> Presence:
    """As of now; opens nothing."""
    found, faults = _look(options.port)
    return Presence(str(options.port), found, faults, (Named(options.device, options.model, options.firmware),))


def bus_presence(options: ModbusOptions) -> Presence:
    """The same of a line that several units share."""
    found, faults = _look(options.port)
    units = tuple(Named(unit.device, unit.model, unit.firmware) for unit in options.device)
    return Presence(str(options.port), found, faults, units)


def _look(port: SerialPort) -> tuple[bool | None, tuple[str, ...]]:
    if isinstance(port.address, DeviceServer):
        # Many device servers serve one connection: a look would take the line from the gateway that reads it.
        return None, ()
    if isinstance(port.address, UsbIdentity):
        # Listing ports needs the serial library, which the machine that only checks a file may not have.
        from device_drivers.transport import paths_of

        paths = paths_of(port.address)
        if len(paths) == 1:
            return True, ()
        if paths:
            return False, (f"{port} is not unique: {' and '.join(paths)}; name a link from /dev/serial/by-path",)
        return False, (f"no adapter {port} is plugged in; {describe_links()}",)
    path = Path(port.address)
    if not path.exists():
        return False, (f"{port} is not there; {describe_links()}",)
    if not os.access(path, os.R_OK | os.W_OK):
        return True, (f"this user may not open {port}; add it to the group that owns the port, usually dialout",)
    return True, ()
