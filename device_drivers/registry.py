"""Every kind of device that a configuration may name. A new driver is an entry here, and nothing is discovered.

Importing this needs no hardware library: options are checked on any machine, a driver is imported when it is opened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from device_drivers.ble.options import BleOptions
from device_drivers.driver import Clock, Driver
from device_drivers.serial_line.options import Pms5003Options
from firmware_profiles.selection import ProfileSet

DeviceOptions = Annotated[Pms5003Options | BleOptions, Field(discriminator="kind")]
"""For a field of a configuration's own model; errors then carry the path in that configuration."""

_DEVICE_OPTIONS: TypeAdapter[Pms5003Options | BleOptions] = TypeAdapter(DeviceOptions)

_Options = TypeVar("_Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class DriverKind(Generic[_Options]):
    """options: what a configuration may say. open: makes a driver, which is then entered to open its line."""

    options: type[_Options]
    open: Callable[[_Options, ProfileSet, Clock], Driver]


def _open_pms5003(options: Pms5003Options, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.serial_line.pms5003 import open_pms5003

    return open_pms5003(options, profiles, clock)


def _open_ble(options: BleOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    from device_drivers.ble.driver import open_ble

    return open_ble(options, profiles, clock)


DRIVER_KINDS: Mapping[str, DriverKind[Any]] = MappingProxyType(
    {
        "pms5003": DriverKind(Pms5003Options, _open_pms5003),
        "ble": DriverKind(BleOptions, _open_ble),
    }
)


def parse_options(table: Mapping[str, object]) -> Pms5003Options | BleOptions:
    """The frozen options of one device; its `kind` says which. Raises pydantic.ValidationError with the key's path."""
    return _DEVICE_OPTIONS.validate_python(dict(table))


def open_driver(options: Pms5003Options | BleOptions, profiles: ProfileSet, clock: Clock) -> Driver:
    """A driver for the device. Enter it to open its line; it raises LinkLost then, not here."""
    return DRIVER_KINDS[options.kind].open(options, profiles, clock)
