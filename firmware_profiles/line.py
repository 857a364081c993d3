"""What a profile says of a device that sends lines of text, as a microcontroller's own program prints them."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

MAX_FIELD = 128
"""Characters of the name of a field."""

FieldName = Annotated[str, Field(min_length=1, max_length=MAX_FIELD, pattern=r"^\S(.*\S)?$")]
"""json: a path such as `air.temp`; a number in it counts the entries of a list from 0 on. csv: one of `columns`, or its
number from 1 on. key_value: the key."""


class Line(BaseModel):
    """How a line is written. Lines end with a line feed, a carriage return or both, and are UTF-8.

    columns: of csv, all of them in their order: a line with another number of them is damaged. delimiter: between
    columns or pairs. assign: between key and value. checksum: two (xor) or four (crc16, as Modbus has it) hexadecimal
    digits behind a `*` at the end, of what is before the `*` and after a leading `$`.
    firmware_field: where the line states its program's version.
    """

    model_config = _STRICT

    format: Literal["json", "csv", "key_value"]
    columns: tuple[FieldName, ...] = ()
    delimiter: Annotated[str, Field(pattern=r"^[,;|\t ]$")] = ","
    assign: Literal["=", ":"] = "="
    checksum: Literal["none", "xor", "crc16"] = "none"
    firmware_field: FieldName | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.format == "csv") != bool(self.columns):
            raise ValueError('columns: name all of them with format = "csv", and leave them out with another')
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: a name stands there twice")
        if self.firmware_field is not None and not self.has(self.firmware_field):
            raise ValueError(f"firmware_field: {self.firmware_field!r} is none of {', '.join(self.columns)}")
        return self

    def has(self, field: str) -> bool:
        """Whether a line can have this field."""
        return self.format != "csv" or self.column(field) is not None

    def column(self, field: str) -> int | None:
        """Of csv: from 0 on, by name or by number; None where there is none."""
        if field in self.columns:
            return self.columns.index(field)
        number = int(field) if field.isascii() and field.isdecimal() and len(field) < 4 else 0
        return number - 1 if 1 <= number <= len(self.columns) else None
