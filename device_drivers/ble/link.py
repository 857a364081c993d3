"""bleak's and D-Bus's errors, translated into `LinkLost` in this one place."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bleak.backends.bluezdbus.manager import _global_instances
from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError, BleakError
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError, InvalidMessageError

from device_drivers.errors import LinkLost

LINK_ERRORS = (BleakError, DBusError, AuthError, InvalidAddressError, InvalidMessageError, OSError, EOFError)
"""What bleak lets through when BlueZ, the adapter or the bus is gone (no socket, a cut connection, a time-out)."""

_REMEDIES = {
    "org.bluez.Error.NotReady": "the adapter is powered off (bluetoothctl power on; rfkill list)",
    "org.bluez.Error.InProgress": "the adapter is busy with another scan",
    "org.bluez.Error.NotAuthorized": "BlueZ does not let this user scan",
    "org.freedesktop.DBus.Error.ServiceUnknown": "BlueZ is not running (systemctl status bluetooth)",
    "org.freedesktop.DBus.Error.NameHasNoOwner": "BlueZ is not running (systemctl status bluetooth)",
    "org.freedesktop.DBus.Error.NoReply": "BlueZ does not answer",
    "org.freedesktop.DBus.Error.UnknownObject": "BlueZ knows it no more",
    "org.freedesktop.DBus.Error.AccessDenied": "D-Bus does not let this user talk to BlueZ (group bluetooth)",
}


@contextmanager
def link_errors(line: str) -> Iterator[None]:
    """Raises LinkLost, naming `line` and what a technician can do, for every error of `LINK_ERRORS`."""
    try:
        yield
    except LINK_ERRORS as error:
        raise LinkLost(f"{line}: {explain(error)}") from error


def cut_connection() -> None:
    """Closes this loop's D-Bus connection to BlueZ, which then ends all that it does for us; bleak opens another.

    bleak keeps the connection for the life of the process and has no way to close it.
    """
    manager = _global_instances.get(asyncio.get_running_loop())
    if manager is not None and manager._bus is not None:
        manager._bus.disconnect()


def explain(error: BaseException) -> str:
    """One sentence for a person."""
    match error:
        case BleakDBusError():
            return _REMEDIES.get(error.dbus_error, str(error))
        case BleakBluetoothNotAvailableError():
            return str(error.args[0])
        case TimeoutError():
            return "BlueZ does not answer"
        case FileNotFoundError() | ConnectionRefusedError():
            return "there is no D-Bus system bus (systemctl status dbus)"
        case EOFError() | OSError():
            return "the connection to D-Bus was cut"
        case _:
            return str(error) or type(error).__name__
