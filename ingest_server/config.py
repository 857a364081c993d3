"""The ingest server's configuration file, parsed once into frozen types."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.link.broker import BrokerOptions

_STRICT = ConfigDict(frozen=True, extra="forbid")


class DatabaseOptions(BaseModel):
    """Where the schema `iot_service` is."""

    model_config = _STRICT

    dsn: Annotated[SecretStr, Field(min_length=1)]
    statement_timeout_s: Annotated[float, Field(ge=1, le=600)] = 30.0


class IngestOptions(BaseModel):
    """How batches are taken from the broker.

    receive_maximum: batches that the broker may send before the first is acknowledged (MQTT 5), and so the most that
    one transaction settles. share: name under which several workers share the work; needs MQTT 5.
    """

    model_config = _STRICT

    receive_maximum: Annotated[int, Field(ge=1, le=10_000)] = 500
    share: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    health_file: Path | None = None


class BooksOptions(BaseModel):
    """When silence means something.

    raw_retention_days: readings older than this are quarantined. lost_after_s: without a word from an epoch, what
    nobody has is presumed lost. handover_silence_s: a device may move to another gateway once its home has been
    silent for this long. device_silence_s: a device without readings is inactive.
    """

    model_config = _STRICT

    raw_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    lost_after_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    handover_silence_s: Annotated[float, Field(ge=60, le=604_800)] = 900.0
    device_silence_s: Annotated[float, Field(ge=1, le=604_800)] = 900.0
    new_devices_per_hour: Annotated[int, Field(ge=0)] = 500
    new_series_per_hour: Annotated[int, Field(ge=0)] = 10_000


class IngestConfig(BaseModel):
    """The whole file."""

    model_config = _STRICT

    mqtt: BrokerOptions = BrokerOptions()
    database: DatabaseOptions
    ingest: IngestOptions = IngestOptions()
    books: BooksOptions = BooksOptions()
