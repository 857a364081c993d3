"""What a profile says of a device that speaks Modbus: where each channel's number is, and what to write first."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Address = Annotated[int, Field(ge=0, le=0xFFFF)]
"""As the protocol counts, from 0 on; manuals that count from 40001 or 30001 mean this and one more."""

RegisterType = Literal["int16", "uint16", "int32", "uint32", "float32"]
WIDTHS: dict[str, int] = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2}
"""In registers of 16 bits."""


class Register(BaseModel):
    """Where a number is.

    table: `holding` is read by function 3, `input` by function 4. words: of a number of two registers, which has the
    higher half; `high_first` is what the protocol says and not every maker does. Within a register the higher byte is
    always first.
    """

    model_config = _STRICT

    table: Literal["holding", "input"] = "holding"
    address: Address
    type: RegisterType = "uint16"
    words: Literal["high_first", "low_first"] = "high_first"

    @property
    def width(self) -> int:
        """In registers."""
        return WIDTHS[self.type]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.address + self.width > 0x10000:
            raise ValueError("the number does not end within the table: its last register is 65535")
        return self


class Write(BaseModel):
    """One holding register that is written before the first reading, by function 6."""

    model_config = _STRICT

    address: Address
    value: Annotated[int, Field(ge=0, le=0xFFFF)]


class Modbus(BaseModel):
    """begin: what a device must be told before it measures. most_registers: that it gives at once; the protocol
    allows 125 (Modbus Application Protocol V1.1b3, section 6.3).

    most_gap: registers that nobody asked for and that may be read along, where that saves a request. 0 is safe: some
    devices refuse a range with a register that they do not have.
    """

    model_config = _STRICT

    begin: tuple[Write, ...] = ()
    most_registers: Annotated[int, Field(ge=1, le=125)] = 125
    most_gap: Annotated[int, Field(ge=0, le=124)] = 0
