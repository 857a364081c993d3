"""Every kind of device that a configuration may name. A new driver is an entry here, and nothing is discovered.

Importing this needs no hardware library: options are checked on any machine, a driver is imported when it is opened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from device_drivers.ble import presence as ble_presence
from device_drivers.ble.gatt import presence as gatt_presence
from device_drivers.ble.gatt.options import GattOptions
from device_drivers.ble.options import BleOptions
from device_drivers.driver import Clock, Driver
from device_drivers.modbus.options import ModbusOptions
from device_drivers.presence import Presence
from device_drivers.serial_line import presence as serial_presence
from device_drivers.serial_line.options import (
    Ld2410Options,
    Ld2450Options,
    LineOptions,
    MhZ19bOptions,
    Pms5003Options,
    PollOptions,
    Sds011Options,
    Sps30Options,
    StreamOptions,
)
from firmware_profiles.selection import ProfileSet

_Options = TypeVar("_Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class DriverKind(Generic[_Options]):
    """options: what a configuration may say. open: makes a driver, which is then entered to open its line.

    look: what is there for it now, without opening anything.
    """

    options: type[_Options]
    open: Callable[[_Options, ProfileSet, Clock], Driver]
    look: Callable[[_Options], Presence]


def _open_stream(options: StreamOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.serial_line.stream import open_stream

    return open_stream(options, profiles, clock)


def _open_lines(options: LineOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.serial_line.line import open_lines

    return open_lines(options, profiles, clock)


def _open_ble(options: BleOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.ble.driver import open_ble

    return open_ble(options, profiles, clock)


def _open_poll(options: PollOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.serial_line.poll import open_poll

    return open_poll(options, profiles, clock)


def _open_modbus(options: ModbusOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.modbus.driver import open_modbus

    return open_modbus(options, profiles, clock)


def _open_gatt(options: GattOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.ble.gatt.driver import open_gatt

    return open_gatt(options, profiles, clock)


DRIVER_KINDS: Mapping[str, DriverKind[Any]] = MappingProxyType(
    {
        "pms5003": DriverKind(Pms5003Options, _open_stream, serial_presence.presence),
        "sds011": DriverKind(Sds011Options, _open_stream, serial_presence.presence),
        "ld2410": DriverKind(Ld2410Options, _open_stream, serial_presence.presence),
        "ld2450": DriverKind(Ld2450Options, _open_stream, serial_presence.presence),
        "line": DriverKind(LineOptions, _open_lines, serial_presence.presence),
        "mhz19b": DriverKind(MhZ19bOptions, _open_poll, serial_presence.presence),
        "sps30": DriverKind(Sps30Options, _open_poll, serial_presence.presence),
        "modbus": DriverKind(ModbusOptions, _open_modbus, serial_presence.bus_presence),
        "ble": DriverKind(BleOptions, _open_ble, ble_presence.presence),
        "gatt": DriverKind(GattOptions, _open_gatt, gatt_presence.presence),
    }
)
