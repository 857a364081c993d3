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


class SensorOptions(BaseModel):
    """One sensor on a line of its own.

    kind: whose frames they are. model: as a firmware profile names it; without such a profile the frames are kept
    undecoded. firmware: empty to take the version that the sensor states; set it for one that states none, or says
    nothing by it. keep_frames: send each frame's bytes along with its readings, so that a server that keeps them can
    decode them again, should the decoder prove wrong; costs some 10 to 40 bytes a frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    device: Annotated[WireText, Field(min_length=1)]
    port: PortSelector
    model: Annotated[WireText, Field(min_length=1)]
    firmware: WireText = ""
    keep_frames: bool = False


class StreamOptions(SensorOptions):
    """A sensor that sends by itself. silence_s: without a byte for so long the line counts as lost."""

    silence_s: Annotated[float, Field(gt=0, le=3600)] = 10.0


class PollOptions(SensorOptions):
    """A sensor that is asked. interval_s: from one request to the next; timeout_s: patience with each."""

    interval_s: Annotated[float, Field(ge=0.5, le=3600)] = 10.0
    timeout_s: Annotated[float, Field(ge=0.05, le=10)] = 1.0


class Pms5003Options(StreamOptions):
    """A Plantower PMS5003, PMS7003 or other with their frames, in active mode, as after power-up."""

    kind: Literal["pms5003"]
    model: Annotated[WireText, Field(min_length=1)] = "PMS5003"


class Sds011Options(StreamOptions):
    """A Nova SDS011 in active mode; a frame comes every second, or once in its working period."""

    kind: Literal["sds011"]
    model: Annotated[WireText, Field(min_length=1)] = "SDS011"


class Ld2410Options(StreamOptions):
    """An HLK-LD2410 (also -B, -C) presence radar; about ten reports a second."""

    kind: Literal["ld2410"]
    model: Annotated[WireText, Field(min_length=1)] = "LD2410"


class Ld2450Options(StreamOptions):
    """An HLK-LD2450 tracking radar; ten reports a second."""

    kind: Literal["ld2450"]
    model: Annotated[WireText, Field(min_length=1)] = "LD2450"


class MhZ19bOptions(PollOptions):
    """A Winsen MH-Z19B (also -C) carbon dioxide sensor."""

    kind: Literal["mhz19b"]
    model: Annotated[WireText, Field(min_length=1)] = "MH-Z19B"


class Sps30Options(PollOptions):
    """A Sensirion SPS30 particle sensor on its UART (SHDLC). It measures once a second."""

    kind: Literal["sps30"]
    model: Annotated[WireText, Field(min_length=1)] = "SPS30"


class LineOptions(StreamOptions):
    """A microcontroller that prints lines of text; `model` is the one of the profile that says what is in them."""

    kind: Literal["line"]
    baudrate: Annotated[int, Field(ge=300, le=4_000_000)] = 9600
