"""The schema of a firmware profile: what the numbers of a device mean for a range of its firmware."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from firmware_profiles.gatt import Characteristic, Gatt
from firmware_profiles.modbus import Modbus, Register
from firmware_profiles.version import Version, parse_version

# The wire format carries each of these with the series and bounds it to 128 bytes (128 ASCII characters here).
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,128}$")]
Unit = Annotated[str, Field(max_length=32)]
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,120}/[1-9][0-9]{0,5}$")]

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Channel(BaseModel):
    """One measurable of a device; its value in `unit` is `raw × scale + offset`.

    name: names it on this device. quantity: what is measured, comparable between devices.
    unit: empty for a plain number or yes (1) and no (0).
    minimum, maximum: in `unit`, both inclusive: the range within which the manufacturer vouches for the value.
    accuracy: in `unit` as a number, or in the manufacturer's words; None where not stated.
    max_rate: in `unit` per second: what changes faster is marked as doubtful. stuck_after_s: a number that stays
    exactly the same for so long is; leave it out where a calm room does that (no particles, nobody there).
    register: of a device that speaks Modbus. characteristic: of one that is read over Bluetooth GATT.
    """

    model_config = _STRICT

    name: Name
    quantity: Name
    unit: Unit
    scale: float = 1.0
    offset: float = 0.0
    minimum: float
    maximum: float
    accuracy: float | str | None = None
    max_rate: Annotated[float | None, Field(gt=0)] = None
    stuck_after_s: Annotated[float | None, Field(ge=60)] = None
    register_: Annotated[Register | None, Field(alias="register")] = None
    characteristic: Characteristic | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale may not be 0: every value would be the offset")
        if self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        return self

    def value(self, raw: float) -> float:
        """The value in `unit` of what the device sent."""
        return raw * self.scale + self.offset

    def in_range(self, value: float) -> bool:
        """Whether a value in `unit` is one that the manufacturer vouches for (NaN never is)."""
        return self.minimum <= value <= self.maximum


class FirmwareRange(BaseModel):
    """Versions from `min` (inclusive) up to `max` (exclusive), either open where it is not stated."""

    model_config = _STRICT

    min: str | None = None
    max: str | None = None

    @field_validator("min", "max")
    @classmethod
    def _numeric(cls, text: str | None) -> str | None:
        if text is not None and parse_version(text) is None:
            raise ValueError("write a dotted number in quotes, such as '1.4'")
        return text

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        low, high = self._bounds()
        if high is not None and (low or ()) >= high:
            raise ValueError("min must be below max, which is the first version outside the range")
        return self

    def _bounds(self) -> tuple[Version | None, Version | None]:
        low = None if self.min is None else parse_version(self.min)
        high = None if self.max is None else parse_version(self.max)
        return low, high

    def holds(self, firmware: str) -> bool:
        """Whether a device that reports `firmware` is meant.

        A version that is unknown (empty) or not a dotted number cannot be compared: it is held only by a range
        without bounds, whose profile says with that that it is right for every firmware.
        """
        low, high = self._bounds()
        if low is None and high is None:
            return True
        version = parse_version(firmware)
        if version is None:
            return False
        return (low is None or low <= version) and (high is None or version < high)

    def overlaps(self, other: Self) -> bool:
        """Whether some version lies in both ranges."""
        low, high = self._bounds()
        other_low, other_high = other._bounds()
        return (low is None or other_high is None or low < other_high) and (
            other_low is None or high is None or other_low < high
        )


class Sampling(BaseModel):
    """Which of a device's reports become readings, where it reports more often than anybody needs.

    interval_s: at most one in so many seconds; 0: all. on_change: channels of which a change is worth one at once.
    """

    model_config = _STRICT

    interval_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    on_change: tuple[Name, ...] = ()


class FirmwareProfile(BaseModel):
    """What devices of the `models` speak and mean while their firmware is in the range.

    name: unique, ends in a revision: `plantower-pms5003/1`. It travels with every series, so what it says never
    changes once readings carry it: a correction is a new revision.
    driver: the kind of driver that reads these devices. warm_up_s: seconds after power-up in which values are doubtful.
    sampling: of a device that sends by itself. modbus: of one that is read by registers; each channel then has one.
    gatt: of one that is read over Bluetooth GATT; each channel then has a characteristic.
    """

    model_config = _STRICT

    name: ProfileName
    models: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(min_length=1)
    manufacturer: Annotated[str, Field(min_length=1)]
    driver: Annotated[str, Field(min_length=1)]
    firmware: FirmwareRange = FirmwareRange()
    warm_up_s: Annotated[float, Field(ge=0)] = 0.0
    sampling: Sampling = Sampling()
    modbus: Modbus | None = None
    gatt: Gatt | None = None
    channels: Mapping[Name, Channel] = Field(min_length=1)

    @field_validator("channels", mode="before")
    @classmethod
    def _named_by_key(cls, tables: object) -> object:
        """A channel's key in the file is its name; writing it twice would let the two differ."""
        if not isinstance(tables, dict):
            return tables
        return {key: {"name": key, **table} if isinstance(table, dict) else table for key, table in tables.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, channel in self.channels.items():
            if channel.name != key:
                raise ValueError(f"channel {key!r} may not call itself {channel.name!r}: leave its name out")
        _refuse_unplaced("modbus", self.modbus, "register", {k: c.register_ for k, c in self.channels.items()})
        _refuse_unplaced("gatt", self.gatt, "characteristic", {k: c.characteristic for k, c in self.channels.items()})
        notified: dict[str, bool] = {}
        for key, channel in self.channels.items():
            if (there := channel.characteristic) and notified.setdefault(there.uuid, there.notify) != there.notify:
                raise ValueError(f"channels.{key}: another channel of this characteristic says otherwise of notify")
        for name in self.sampling.on_change:
            if name not in self.channels:
                raise ValueError(f"sampling.on_change names {name!r}: write one of {', '.join(self.channels)}")
        if len(set(self.models)) != len(self.models):
            raise ValueError("models names one model twice")
        return self


def _refuse_unplaced(table: str, present: BaseModel | None, place: str, places: Mapping[str, BaseModel | None]) -> None:
    """A driver that asks can ask only for what has a place, and needs to know that it is meant."""
    without = [key for key, found in places.items() if found is None]
    if present is not None and without:
        raise ValueError(f"channels.{without[0]} has no {place}: say where its number is")
    if present is None and len(without) < len(places):
        raise ValueError(f"a channel has a {place}: write a table [{table}], which may be empty")
