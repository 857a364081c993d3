"""The ingest server's configuration file, parsed once into frozen types."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from firmware_profiles.options import ProfilesOptions
from gateway.link.broker import BrokerOptions
from ingest_server.storage.connection import dsn_fault
from ingest_server.storage.flavour import Wanted
from ingest_server.storage.keeping.patterns import Slots
from ingest_server.storage.pools import Pool, PoolOptions, Pools

_STRICT = ConfigDict(frozen=True, extra="forbid")


def _dsn(value: SecretStr) -> SecretStr:
    fault = dsn_fault(value.get_secret_value())
    if fault is not None:
        raise ValueError(fault)
    return value


Dsn = Annotated[SecretStr, AfterValidator(_dsn)]


class WritePool(BaseModel):
    """The line's own: one for groups, one for what gateways say of themselves."""

    model_config = _STRICT

    max_connections: Annotated[int, Field(ge=2, le=100)] = 4
    statement_timeout_s: Annotated[float, Field(ge=1, le=600)] = 30.0


class ReadPool(BaseModel):
    """Whoever asks. dsn: to log in as another role, one that may only read."""

    model_config = _STRICT

    dsn: Dsn | None = None
    max_connections: Annotated[int, Field(ge=1, le=100)] = 4
    statement_timeout_s: Annotated[float, Field(ge=1, le=600)] = 10.0


class BackgroundPool(BaseModel):
    """Jobs. dsn: to log in as the schema's owner, where the line does not.

    lock_timeout_s: after this a step that waits for a lock gives way, and tries again.
    """

    model_config = _STRICT

    dsn: Dsn | None = None
    max_connections: Annotated[int, Field(ge=2, le=100)] = 4
    statement_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 3_600.0
    lock_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 2.0


class DatabaseOptions(BaseModel):
    """Where the schema `iot_service` is. flavour: what it must be; `auto`: whatever it was made as."""

    model_config = _STRICT

    dsn: Dsn
    flavour: Wanted = Wanted.AUTO
    write: WritePool = WritePool()
    read: ReadPool = ReadPool()
    background: BackgroundPool = BackgroundPool()


class TimescaleTable(BaseModel):
    """Of that flavour alone. chunk_days: width of new chunks. columnstore_after_days: age at which a chunk becomes
    columns. direct_compress: readings are written as columns at once; needs TimescaleDB 2.28.1."""

    model_config = _STRICT

    chunk_days: Annotated[int, Field(ge=1, le=365)] = 1
    columnstore_after_days: Annotated[int, Field(ge=1, le=36_500)] = 7
    direct_compress: bool = False


class StorageOptions(BaseModel):
    """How long what is kept, and where.

    months_ahead: partitions made before they are needed. keep_months: calendar months before this one whose readings
    stay in the table. archive_months: how much longer they stay in the schema `archive` (TimescaleDB: in their chunks),
    before they are dropped. rollup_every_s: how far rollups may be behind. raw_frames_days: for how long frames are
    kept that gateways send along with decoded readings; 0: not at all.
    """

    model_config = _STRICT

    months_ahead: Annotated[int, Field(ge=1, le=24)] = 6
    keep_months: Annotated[int, Field(ge=1, le=1_200)] = 24
    archive_months: Annotated[int, Field(ge=0, le=1_200)] = 12
    rollup_every_s: Annotated[int, Field(ge=1, le=3_600)] = 30
    raw_frames_days: Annotated[int, Field(ge=0, le=3_650)] = 0
    timescaledb: TimescaleTable = TimescaleTable()


class IngestOptions(BaseModel):
    """How batches are taken from the broker.

    receive_maximum: batches that the broker may send before the first is acknowledged (MQTT 5), and so the most that
    one transaction settles. gather_ms: where less than half as many have arrived, a transaction begins no sooner than
    this after the one before: few large ones leave more of the database to others. share: name under which several
    workers share the work; needs MQTT 5.
    """

    model_config = _STRICT

    receive_maximum: Annotated[int, Field(ge=1, le=10_000)] = 500
    gather_ms: Annotated[int, Field(ge=0, le=1_000)] = 200
    share: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    health_file: Path | None = None


class BooksOptions(BaseModel):
    """When silence means something.

    raw_retention_days: readings older than this are quarantined. lost_after_s: without a word from an epoch, what
    nobody has is presumed lost. handover_silence_s: a device may move to another gateway once its home has been
    silent for this long. device_silence_s: a device without readings is inactive. new_*_per_hour: what a gateway may
    bring; readings of further devices and series are quarantined, batches of further epochs (one begins with each start
    of a gateway) wait in its spool.
    """

    model_config = _STRICT

    raw_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    lost_after_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    handover_silence_s: Annotated[float, Field(ge=60, le=604_800)] = 900.0
    device_silence_s: Annotated[float, Field(ge=1, le=604_800)] = 900.0
    new_devices_per_hour: Annotated[int, Field(ge=0)] = 500
    new_series_per_hour: Annotated[int, Field(ge=0)] = 10_000
    new_epochs_per_hour: Annotated[int, Field(ge=1)] = 1_000


class QuarantineOptions(BaseModel):
    """How much of each gateway is kept in quarantine.

    max_entries, max_bytes: at either bound replayed entries go first; what then finds no room counts as dropped, with
    a gap. keep_replayed_days: how long replayed entries stay.
    """

    model_config = _STRICT

    max_entries: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 268_435_456
    keep_replayed_days: Annotated[float, Field(ge=0, le=36_500)] = 30.0


class PatternsOptions(BaseModel):
    """Parts of a day, by the hours of a site's clock at which they begin; end: where the evening ends."""

    model_config = _STRICT

    morning: int = 6
    afternoon: int = 12
    evening: int = 18
    end: int = 24

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        Slots(self.morning, self.afternoon, self.evening, self.end)
        return self

    @property
    def slots(self) -> Slots:
        return Slots(self.morning, self.afternoon, self.evening, self.end)


class BackupsOptions(BaseModel):
    """folder: where `heal7-iot db backup` puts them; its newest is verified every so many days, by a database that is
    made of it and dropped again. verify_dsn: any database of the server on which it is made, and a role that may make
    one (CREATEDB); none: as jobs log in. newest_within_h: an older one is a failure."""

    model_config = _STRICT

    folder: Path | None = None
    verify_dsn: Dsn | None = None
    verify_every_days: Annotated[int, Field(ge=1, le=365)] = 7
    newest_within_h: Annotated[float, Field(ge=1, le=8_760)] = 36.0


class IngestConfig(BaseModel):
    """The whole file."""

    model_config = _STRICT

    mqtt: BrokerOptions = BrokerOptions()
    database: DatabaseOptions
    ingest: IngestOptions = IngestOptions()
    profiles: ProfilesOptions = ProfilesOptions()
    books: BooksOptions = BooksOptions()
    quarantine: QuarantineOptions = QuarantineOptions()
    storage: StorageOptions = StorageOptions()
    patterns: PatternsOptions = PatternsOptions()
    backups: BackupsOptions = BackupsOptions()

    @property
    def jobs_dsn(self) -> str:
        """As whom jobs log in."""
        return (self.database.background.dsn or self.database.dsn).get_secret_value()

    @property
    def verify_dsn(self) -> str:
        """Where backups are verified, and as whom."""
        return self.jobs_dsn if self.backups.verify_dsn is None else self.backups.verify_dsn.get_secret_value()

    @model_validator(mode="after")
    def _accepts_only_what_it_keeps(self) -> Self:
        # So many days lie in any such number of months.
        kept = self.storage.keep_months * 365 // 12 - 2
        if self.books.raw_retention_days > kept:
            raise ValueError(
                f"books.raw_retention_days = {self.books.raw_retention_days} takes readings of months that"
                f" storage.keep_months = {self.storage.keep_months} has archived: {kept} days at most, or more months"
            )
        return self


def pools_of(database: DatabaseOptions) -> Pools:
    """The three pools, none of them connected yet."""

    def pool(purpose: str, options: WritePool | ReadPool | BackgroundPool) -> Pool:
        dsn = getattr(options, "dsn", None) or database.dsn
        lock_s = options.lock_timeout_s if isinstance(options, BackgroundPool) else options.statement_timeout_s
        return Pool(
            PoolOptions(purpose, dsn.get_secret_value(), options.max_connections, options.statement_timeout_s, lock_s)
        )

    return Pools(pool("write", database.write), pool("read", database.read), pool("background", database.background))
