"""What a configuration may say about sensors that are read over GATT. Needs no Bluetooth library."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from device_drivers.ble.address import BleAddress
from device_drivers.serial_line.options import WireText

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GattDeviceOptions(BaseModel):
    """One sensor.

    model: as a firmware profile names it. firmware: empty to take the Firmware Revision that the device states in its
    Device Information (service 0x180A). interval_s: from one reading to the next of what does not notify by itself.
    """

    model_config = _STRICT

    address: BleAddress
    device: Annotated[WireText, Field(min_length=1)]
    model: Annotated[WireText, Field(min_length=1)] = "Environmental Sensing"
    firmware: WireText = ""
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0


class GattOptions(BaseModel):
    """The sensors that one adapter connects to; another driver may listen to advertisements on the same adapter.

    max_connections: at once. Most adapters hold 7 to 10, and what is connected to takes air time from what is only
    heard. Devices that notify hold theirs; the others take turns.
    """

    model_config = _STRICT

    kind: Literal["gatt"]
    adapter: Annotated[str, Field(pattern=r"^hci\d{1,3}$")] = "hci0"
    max_connections: Annotated[int, Field(ge=1, le=32)] = 3
    device: Annotated[tuple[GattDeviceOptions, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("address", [device.address for device in self.device]),
            ("device", [device.device for device in self.device]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"{what} {repeated[0]!r} is listed twice")
        return self
