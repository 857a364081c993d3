"""What a configuration may say about devices on serial lines. Needs no serial library, so any machine can check it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from device_drivers.serial_line.port import SerialPort

# Bound of the wire format for each string of a series.
_MAX_BYTES = 128


def _wire_text(text: str) -> str:
    if len(text.encode()) > _MAX_BYTES:
        raise ValueError(f"may have at most {_MAX_BYTES} bytes of UTF-8")
    if not text.isprintable():
        raise ValueError("may not contain control characters")
    return text


def _port(value: object) -> SerialPort:
    if isinstance(value, SerialPort):
        return value
    if not isinstance(value, str):
        raise ValueError("write the port as text in quotes")
    return SerialPort.parse(value)


WireText = Annotated[str, AfterValidator(_wire_text)]
PortSelector = Annotated[SerialPort, PlainValidator(_port), PlainSerializer(str, return_type=str)]


class Pms5003Options(BaseModel):
    """A Plantower PMS5003, PMS7003 or other with their frames that sends by itself (active mode, as after power-up).

    model: as a firmware profile names it; without such a profile the frames are kept undecoded.
    firmware: empty to take the version that each frame states; set it for a sensor whose version byte says nothing.
    silence_s: without a byte for so long the line counts as lost; a frame comes every 0.2 to 2.3 s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["pms5003"]
    device: Annotated[WireText, Field(min_length=1)]
    port: PortSelector
    model: Annotated[WireText, Field(min_length=1)] = "PMS5003"
    firmware: WireText = ""
    silence_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
