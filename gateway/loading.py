"""A gateway's file and the profiles that it wants, loaded together: each may forbid what the other says."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from device_drivers.registry import DRIVER_KINDS
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from gateway.config import GatewayConfig, Kinds, load_config
from gateway.link.config_file import ConfigError, Location, Mistake, key_path


def load_gateway(path: Path, kinds: Kinds = DRIVER_KINDS) -> tuple[GatewayConfig, ProfileSet]:
    """What the file says, and all profiles that count. Raises ConfigError, also for a profile that is wrong."""
    config = load_config(path, kinds)
    try:
        profiles = config.profiles.load()
    except ProfileError as error:
        raise ConfigError(Path(error.file), [Mistake(error.key, error.remedy)]) from error
    mistakes = list(_too_often(config, profiles))
    if mistakes:
        raise ConfigError(path, mistakes)
    return config, profiles


def _too_often(config: GatewayConfig, profiles: ProfileSet) -> Iterator[Mistake]:
    """What would be asked more often than its profile allows: it would answer with old numbers, or not at all."""
    for i, driver in enumerate(config.driver):
        for at, options in _asked(("driver", i), driver):
            least = _least(profiles, str(getattr(options, "model", "")), str(getattr(options, "firmware", "")))
            interval_s = float(getattr(options, "interval_s", 0))
            if least is not None and interval_s < least.sampling.min_interval_s:
                yield Mistake(
                    key_path((*at, "interval_s")),
                    f"{interval_s:g} is more often than profile {least.name} allows",
                    f"make it at least {least.sampling.min_interval_s:g}",
                )


def _least(profiles: ProfileSet, model: str, firmware: str) -> FirmwareProfile | None:
    """Which profile allows the most. What its firmware is, the device may state later: then every profile of it may."""
    if firmware:
        return profiles.select(model, firmware)
    of_model = (profile for profile in profiles if model in profile.models)
    return min(of_model, key=lambda profile: profile.sampling.min_interval_s, default=None)


def _asked(at: Location, driver: BaseModel) -> Iterator[tuple[Location, BaseModel]]:
    """The tables of a driver that say how often a device is asked: its own, or one for each device."""
    devices = getattr(driver, "device", None)
    tables = [((*at, "device", n), device) for n, device in enumerate(devices)] if isinstance(devices, tuple) else []
    for where, table in [(at, driver), *tables]:
        if hasattr(table, "interval_s"):
            yield where, table
