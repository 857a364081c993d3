"""What a configuration may say about a line with Modbus RTU. Needs no serial library, so any machine can check it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from device_drivers.serial_line.options import PortSelector, WireText

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModbusDeviceOptions(BaseModel):
    """One unit of the line. model: as a firmware profile names it. interval_s: from one reading to the next."""

    model_config = _STRICT

    unit: Annotated[int, Field(ge=1, le=247)]
    device: Annotated[WireText, Field(min_length=1)]
    model: Annotated[WireText, Field(min_length=1)]
    firmware: WireText = ""
    interval_s: Annotated[float, Field(ge=0.1, le=86_400)] = 10.0


class ModbusOptions(BaseModel):
    """A line that several units share, usually RS-485.

    timeout_s: patience with each request: a unit's own time, and that of its longest reply at this speed.
    """

    model_config = _STRICT

    kind: Literal["modbus"]
    port: PortSelector
    baudrate: Annotated[int, Field(ge=300, le=1_000_000)] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    timeout_s: Annotated[float, Field(ge=0.02, le=10)] = 0.5
    device: Annotated[tuple[ModbusDeviceOptions, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("unit", [str(device.unit) for device in self.device]),
            ("device", [device.device for device in self.device]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"{what} {repeated[0]} is listed twice")
        return self
