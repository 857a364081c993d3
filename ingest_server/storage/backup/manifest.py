"""What a backup says of itself: `manifest.json`, and `SHA256SUMS`, which `sha256sum -c` reads, too.

    heal7-iot-backup  1: the version of this format
    made_by, made_at, postgresql, flavour, schema_version, ledger_id
    begins, ends      the first and the last reading's time; null where there is none
    raw_horizon       what is older had left the table of readings
    files             each: name, table (with its schema), columns, rows, bytes, sha256; of months also begins, ends
    sequences         table.column: the last number that was given out
    books             the view iot_service.books, a row for each gateway
    sample            count, sum, least and greatest value of some hours of some series
    erasures          how many were in force
    left_out          what was not backed up, and why

A file is what `COPY … TO STDOUT (FORMAT binary)` gives, compressed with zstd: `zstd -dc FILE | psql -c "COPY … FROM
STDIN (FORMAT binary)"` loads it without any program of ours.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from ingest_server.storage.backup.errors import DamagedBackup, NotABackup
from ingest_server.storage.flavour import Flavour

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"

_Name = Annotated[str, Field(pattern=r"^[a-z0-9_.]+\.copy\.zst$")]
_Table = Annotated[str, Field(pattern=r"^(iot_service|archive)\.[a-z0-9_]+$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Moment = Annotated[str, AfterValidator(_moment)]
"""ISO 8601, as it was written: the manifest's bytes are part of its checksum."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Strict):
    """One COPY. bytes: compressed, as on disk."""

    name: _Name
    table: _Table
    columns: tuple[str, ...] = Field(strict=False, min_length=1)
    rows: _Count
    bytes: _Count
    sha256: _Sha256
    begins: _Moment | None = None
    ends: _Moment | None = None


class Bucket(_Strict):
    """What an hour of a series comes to. hour_us: its beginning, Unix µs."""

    series_id: int
    hour_us: int
    readings: int
    total: float | None
    minimum: float | None
    maximum: float | None


class Manifest(_Strict):
    """See this module."""

    format: Literal[1] = Field(alias="heal7-iot-backup")
    made_by: str
    made_at: _Moment
    postgresql: str
    flavour: Flavour = Field(strict=False)
    schema_version: Annotated[int, Field(ge=1)]
    ledger_id: str
    begins: str | None
    ends: str | None
    raw_horizon: str | None
    files: tuple[File, ...] = Field(strict=False)
    sequences: dict[str, int]
    books: tuple[dict[str, Any], ...] = Field(strict=False)
    sample: tuple[Bucket, ...] = Field(strict=False)
    erasures: _Count
    left_out: tuple[str, ...] = Field(strict=False)

    @field_validator("files")
    @classmethod
    def _each_once(cls, files: tuple[File, ...]) -> tuple[File, ...]:
        names = [file.name for file in files]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice: its rows would be, too")
        return files

    @property
    def readings(self) -> int:
        """In the table of readings."""
        return sum(f.rows for f in self.files if f.table == "iot_service.sensor_readings")

    @property
    def size(self) -> int:
        """Bytes of all files, compressed."""
        return sum(f.bytes for f in self.files)

    def written(self) -> bytes:
        """The text of `manifest.json`."""
        return self.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def sums(manifest: Manifest, written: bytes) -> bytes:
    """The text of `SHA256SUMS`."""
    lines = [f"{hashlib.sha256(written).hexdigest()}  {MANIFEST}", *(f"{f.sha256}  {f.name}" for f in manifest.files)]
    return ("\n".join(lines) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Raises NotABackup for what is none or of another version, DamagedBackup where it is not what was written."""
    path = folder / MANIFEST
    if folder.name.endswith(".partial"):
        raise NotABackup(f"{folder}: this backup was interrupted; name another")
    try:
        written, listed = path.read_bytes(), (folder / SUMS).read_bytes()
    except NotADirectoryError as error:
        raise NotABackup(f"{folder}: this is no folder: name the folder of a backup") from error
    except FileNotFoundError as error:
        if not folder.exists():
            raise NotABackup(f"{folder}: there is no such folder") from error
        raise NotABackup(f"{folder}: no backup: it has no {Path(str(error.filename)).name}") from error
    except OSError as error:
        raise NotABackup(f"{path}: {error.strerror}") from error
    expected = f"{hashlib.sha256(written).hexdigest()}  {MANIFEST}\n".encode()
    if not listed.startswith(expected):
        raise DamagedBackup(f"{path}: its checksum is not the one in {SUMS}: take another backup")
    try:
        manifest = Manifest.model_validate_json(written)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise NotABackup(
            f"{path}: {where}: {first['msg']}: made by another version of heal7-iot, which can read it"
        ) from error
    if listed != sums(manifest, written):
        raise DamagedBackup(f"{folder / SUMS}: its lines are not those of {MANIFEST}: take another backup")
    return manifest
