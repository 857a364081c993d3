"""What a profile says of a device that speaks Modbus: where each channel's number is, and what to write first."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Address = Annotated[int, Field(ge=0, le=0xFFFF)]
"""As the protocol counts, from 0 on; manuals that count from 40001 or 30001 mean this and one more."""

RegisterType = Literal["int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64", "bit"]
WIDTHS: dict[str, int] = {
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
    "bit": 1,
}
"""In registers of 16 bits, or in entries of a table of bits."""

BIT_TABLES = ("coil", "discrete")


class Register(BaseModel):
    """Where a number is.

    table: `holding` is read by function 3, `input` by function 4; `coil` (function 1) and `discrete` (function 2) hold
    bits. words: of a number of several registers, whether the highest comes first; `high_first` is what the protocol
    says and not every maker does. Within a register the higher byte is always first.
    type: `bit` of a register needs `bit`, 0 for the lowest to 15.
    """

    model_config = _STRICT

    table: Literal["holding", "input", "coil", "discrete"] = "holding"
    address: Address
    type: RegisterType = "uint16"
    words: Literal["high_first", "low_first"] = "high_first"
    bit: Annotated[int | None, Field(ge=0, le=15)] = None

    @property
    def width(self) -> int:
        """In registers."""
        return WIDTHS[self.type]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.table in BIT_TABLES and (self.type != "bit" or self.bit is not None):
            raise ValueError(f'a table of {self.table}s holds bits: write type = "bit", and no bit')
        if self.table not in BIT_TABLES and (self.type == "bit") != (self.bit is not None):
            raise ValueError('write type = "bit" and which bit of the register, bit = 0 to 15; or neither')
        if self.address + self.width > 0x10000:
            raise ValueError("the number does not end within the table: its last register is 65535")
        return self


class Write(BaseModel):
    """One holding register that is written before the first reading, by function 6."""

    model_config = _STRICT

    address: Address
    value: Annotated[int, Field(ge=0, le=0xFFFF)]


class VersionRegister(BaseModel):
    """The register in which a device states its firmware.

    reads_as: `major_minor`, the higher byte and the lower one (0x0342 is 3.66); `number`, all of it (12 is 12).
    """

    model_config = _STRICT

    table: Literal["holding", "input"] = "holding"
    address: Address
    reads_as: Literal["major_minor", "number"] = "number"


class Modbus(BaseModel):
    """begin: what a device must be told before it measures. most_registers: that it gives at once; the protocol
    allows 125 (Modbus Application Protocol V1.1b3, section 6.3).

    most_gap: registers that nobody asked for and that may be read along, where that saves a request. 0 is safe: some
    devices refuse a range with a register that they do not have.

    version: of a device that states its firmware; the profile is then chosen by it. All profiles of one model that have
    it must have the same.
    """

    model_config = _STRICT

    begin: tuple[Write, ...] = ()
    most_registers: Annotated[int, Field(ge=1, le=125)] = 125
    most_gap: Annotated[int, Field(ge=0, le=124)] = 0
    version: VersionRegister | None = None
