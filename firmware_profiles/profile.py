"""The schema of a firmware profile: what the numbers of a device mean for a range of its firmware."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from firmware_profiles.gatt import Characteristic, Gatt
from firmware_profiles.line import FieldName, Line
from firmware_profiles.modbus import Modbus, Register
from firmware_profiles.units import MAX_CODE, QUANTITIES, commensurable, parse_unit
from firmware_profiles.version import SPECIFIERS, FirmwareRange

# The wire format carries each of these with the series and bounds it to 128 bytes (128 ASCII characters here).
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,128}$")]
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,120}/[1-9][0-9]{0,5}$")]
Text = Annotated[str, Field(min_length=1, max_length=300)]

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _unit(code: str) -> str:
    parse_unit(code)
    return code


def _firmware(value: object) -> FirmwareRange:
    if isinstance(value, FirmwareRange):
        return value
    if not isinstance(value, str):
        raise ValueError('write a range as text, such as ">=1.4,<2"; leave the key out for every firmware')
    return FirmwareRange.parse(value)


Unit = Annotated[str, Field(max_length=MAX_CODE), AfterValidator(_unit)]
Firmware = Annotated[
    FirmwareRange,
    PlainValidator(_firmware),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SPECIFIERS}),
]


def _with_tuples(value: Any) -> Any:
    """For strict validation, which takes a list for a tuple in JSON only: behind a validator of ours it is Python."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value


def fault(key: str, remedy: str) -> PydanticCustomError:
    """A mistake that shows only in a whole table. key: where it is, below that table."""
    return PydanticCustomError("profile", "{remedy}", {"key": key, "remedy": remedy})


class Source(BaseModel):
    """Where a fact comes from: a document of the manufacturer's, or whatever else is known."""

    model_config = _STRICT

    title: Annotated[Text, Field(description="what it calls itself")]
    url: Annotated[str | None, Field(pattern=r"^https?://\S{1,290}$")] = None
    document: Annotated[Text | None, Field(description="its number or file name, where it has no address")] = None
    revision: Annotated[Text | None, Field(description="version, date")] = None
    note: Annotated[Text | None, Field(description="what was not found in it, or not checked")] = None

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.url is None and self.document is None:
            raise fault("url", "is missing; say where it is, or write document")
        return self


class Channel(BaseModel):
    """One measurable of a device; its value in `unit` is `raw × scale + offset`.

    max_rate: in `unit` per second: what changes faster is marked as doubtful. stuck_after_s: a number that stays
    exactly the same for so long is; leave it out where a calm room does that (no particles, nobody there).
    register: of a device that speaks Modbus. characteristic: of one that is read over Bluetooth GATT.
    field: of one that sends lines of text.
    """

    model_config = _STRICT

    # The key of the channel's table, put here when the file is read.
    name: SkipJsonSchema[Name]
    quantity: Annotated[Name, Field(description="what is measured, comparable between devices")]
    unit: Annotated[Unit, Field(description='UCUM code, such as "Cel"; "1" for a plain number or yes (1) and no (0)')]
    scale: float = 1.0
    offset: float = 0.0
    minimum: Annotated[float, Field(description="least value in `unit` that the manufacturer vouches for")]
    maximum: Annotated[float, Field(description="greatest value in `unit` that the manufacturer vouches for")]
    accuracy: Annotated[float | str | None, Field(description="in `unit`, or in the manufacturer's words")] = None
    resolution: Annotated[float | None, Field(gt=0, description="least difference that shows, in `unit`")] = None
    source: Annotated[str | None, Field(description="which of `sources` states this")] = None
    max_rate: Annotated[float | None, Field(gt=0)] = None
    stuck_after_s: Annotated[float | None, Field(ge=60)] = None
    register_: Annotated[Register | None, Field(alias="register")] = None
    characteristic: Characteristic | None = None
    field: FieldName | None = None

    @field_validator("unit")
    @classmethod
    def _of_the_quantity(cls, code: str, info: ValidationInfo) -> str:
        quantity = info.data.get("quantity", "")
        if not commensurable(quantity, parse_unit(code)):
            wanted = " or ".join(f'"{unit}"' for unit in QUANTITIES[quantity])
            raise ValueError(f'{quantity} cannot be stated in "{code}": write {wanted}, or another of its dimension')
        return code

    @field_validator("scale")
    @classmethod
    def _distinguishes(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("may not be 0: every value would be the offset")
        return scale

    @field_validator("maximum")
    @classmethod
    def _above_the_minimum(cls, maximum: float, info: ValidationInfo) -> float:
        minimum = info.data.get("minimum")
        if minimum is not None and maximum <= minimum:
            raise ValueError(f"{maximum:g} is not above minimum, {minimum:g}: exchange them or correct one")
        return maximum

    @property
    def symbol(self) -> str:
        """Of the unit, as people read it: what readings carry."""
        return parse_unit(self.unit).symbol

    def value(self, raw: float) -> float:
        """The value in `unit` of what the device sent."""
        return raw * self.scale + self.offset

    def in_range(self, value: float) -> bool:
        """Whether a value in `unit` is one that the manufacturer vouches for (NaN never is)."""
        return self.minimum <= value <= self.maximum


class Sampling(BaseModel):
    """How often a device may be read, and which of its reports become readings where it reports by itself.

    interval_s: at most one in so many seconds; 0: all. on_change: channels of which a change is worth one at once.
    min_interval_s: of a device that is asked: it measures no more often, or forbids it. No configuration may ask more.
    """

    model_config = _STRICT

    interval_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    on_change: tuple[Name, ...] = ()
    min_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0


class FirmwareProfile(BaseModel):
    """What devices of the `models` speak and mean while their firmware is in the range.

    name: unique, ends in a revision: `plantower-pms5003/1`. It travels with every series, so what it says never
    changes once readings carry it: a correction is a new revision.
    driver: the kind of driver that reads these devices. firmware: all versions where it is left out.
    warm_up_s: seconds after power-up in which values are doubtful. sources: by a name that channels may refer to.
    sampling: of a device that sends by itself. modbus: of one that is read by registers; each channel then has one.
    gatt: of one that is read over Bluetooth GATT; each channel then has a characteristic.
    line: of one that sends lines of text; each channel then has its field.
    """

    model_config = _STRICT

    name: Annotated[ProfileName, Field(description='unique, with a revision, such as name = "plantower-pms5003/1"')]
    models: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
        Field(min_length=1, description='as a configuration names them, such as models = ["PMS5003"]'),
    ]
    manufacturer: Annotated[Text, Field(description="who makes it")]
    driver: Annotated[Text, Field(description='the kind that a [[driver]] has, such as driver = "modbus"')]
    firmware: Annotated[Firmware, Field(description='versions, such as ">=1.4,<2"; all where left out')] = (
        FirmwareRange()
    )
    sources: Annotated[
        Mapping[Name, Source],
        Field(
            min_length=1, description='write a table such as [sources.manual] with title = "…" and url = "https://…"'
        ),
    ]
    warm_up_s: Annotated[float, Field(ge=0)] = 0.0
    sampling: Sampling = Sampling()
    modbus: Modbus | None = None
    gatt: Gatt | None = None
    line: Line | None = None
    channels: Annotated[
        Mapping[Name, Channel], Field(min_length=1, description="write a table such as [channels.temperature] for each")
    ]

    @field_validator("channels", mode="before")
    @classmethod
    def _named_by_key(cls, tables: object) -> object:
        """A channel's key in the file is its name; writing it twice would let the two differ."""
        if not isinstance(tables, dict):
            return tables
        for key, table in tables.items():
            if isinstance(table, dict) and "name" in table:
                raise fault(f"{key}.name", "leave it out: the table's own name is the channel's")
        return {
            key: {"name": key, **_with_tuples(table)} if isinstance(table, dict) else table
            for key, table in tables.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_unplaced("modbus", self.modbus, "register", {k: c.register_ for k, c in self.channels.items()})
        _refuse_unplaced("gatt", self.gatt, "characteristic", {k: c.characteristic for k, c in self.channels.items()})
        _refuse_unplaced("line", self.line, "field", {k: c.field for k, c in self.channels.items()})
        notified: dict[str, bool] = {}
        for key, channel in self.channels.items():
            if (there := channel.characteristic) and notified.setdefault(there.uuid, there.notify) != there.notify:
                raise fault(
                    f"channels.{key}.characteristic.notify",
                    "another channel of this characteristic says otherwise: write the same",
                )
        self._read_once()
        self._refuse_wide_numbers()
        self._refuse_columns()
        for i, name in enumerate(self.sampling.on_change):
            if name not in self.channels:
                raise fault(
                    f"sampling.on_change[{i}]", f'"{name}" is no channel: write one of {", ".join(self.channels)}'
                )
        if 0 < self.sampling.interval_s < self.sampling.min_interval_s:
            least = f"{self.sampling.min_interval_s:g}"
            raise fault("sampling.interval_s", f"is below min_interval_s: write {least} or more, or leave it out")
        for key, channel in self.channels.items():
            if channel.source is not None and channel.source not in self.sources:
                known = ", ".join(self.sources)
                raise fault(f"channels.{key}.source", f'"{channel.source}" is no source: write one of {known}')
        if len(set(self.models)) != len(self.models):
            raise fault("models", "names one model twice: write each once")
        return self

    def _read_once(self) -> None:
        """A register that two channels name is most often a line that was copied and not changed."""
        first: dict[object, str] = {}
        for key, channel in self.channels.items():
            at = channel.register_
            if at is None:
                continue
            place = tuple(at.model_dump(exclude={"type", "words"}).items())
            taken = first.setdefault(place, key)
            if taken != key:
                raise fault(f"channels.{key}.register", f"{at.table} {at.address} is {taken}'s: correct one address")

    def _refuse_wide_numbers(self) -> None:
        for key, channel in self.channels.items():
            width = 0 if channel.register_ is None else channel.register_.width
            if self.modbus is not None and width > self.modbus.most_registers:
                raise fault("modbus.most_registers", f"channels.{key} needs {width} at once: write {width} or more")

    def _refuse_columns(self) -> None:
        for key, channel in self.channels.items():
            if self.line is not None and channel.field is not None and not self.line.has(channel.field):
                known = ", ".join(self.line.columns)
                raise fault(f"channels.{key}.field", f'"{channel.field}" is no column: write one of {known}')


def _refuse_unplaced(table: str, present: BaseModel | None, place: str, places: Mapping[str, object]) -> None:
    """A driver that asks can ask only for what has a place, and needs to know that it is meant."""
    without = [key for key, found in places.items() if found is None]
    if present is not None and without:
        raise fault(f"channels.{without[0]}.{place}", f"is missing; say where its number is, with [{table}]")
    if present is None and len(without) < len(places):
        raise fault(table, f"is missing, and a channel has a {place}; write a table [{table}]")
