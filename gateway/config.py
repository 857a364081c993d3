"""The gateway's configuration file as frozen types; `docs/examples/gateway.toml` shows every key."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from device_drivers.registry import DRIVER_KINDS, DriverKind
from firmware_profiles.options import ProfilesOptions
from gateway.link.broker import BrokerOptions
from gateway.link.config_file import ConfigError, Location, Mistake, key_path, read_toml, validated
from gateway.link.topics import NAME, is_gateway_name
from gateway.link.wire import MAX_READINGS
from gateway.spool.values import WhenFull

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GatewayOptions(BaseModel):
    """Who this gateway is, and where it keeps what it may not lose. `<site>/<name>` must be unique in the fleet."""

    model_config = _STRICT

    site: Annotated[str, Field(description='the center, such as site = "seoul-1"')]
    name: Annotated[str, Field(description='this box, such as name = "gw-01"')]
    state_dir: Annotated[Path, Field(description='such as state_dir = "/var/lib/heal7-iot"')]

    @field_validator("site", "name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r:.80} is wrong; write 1 to 64 letters, digits, _ . or -")
        if not is_gateway_name(f"{name}/{name}"):
            raise ValueError(f"{name!r} is reserved; choose another name")
        return name

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        # systemd starts in /, a technician's `check` anywhere: a relative path would be two spools.
        if not path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{str(path)!r} is wrong; write an absolute path such as /var/lib/heal7-iot")
        return path


class SpoolLimits(BaseModel):
    """How much the spool keeps. bound_bytes: of the file. replay_window_s: how long settled batches stay.

    when_full: what goes at the bound once nothing settled is left in the file. thin: from four fifths of it on, only
    the first, the last, the least and the greatest reading of each minute and series are sealed.
    """

    model_config = _STRICT

    bound_bytes: Annotated[int, Field(ge=4 * 1024 * 1024, le=2**40)] = 1024 * 1024 * 1024
    replay_window_s: Annotated[float, Field(ge=0, le=366 * 86_400)] = 72 * 3600.0
    when_full: WhenFull = "drop_oldest"
    thin: bool = False


class BatchOptions(BaseModel):
    """When a batch is sealed: linger_s after its first reading, or with max_readings."""

    model_config = _STRICT

    linger_s: Annotated[float, Field(ge=0.01, le=300)] = 1.0
    max_readings: Annotated[int, Field(ge=1, le=MAX_READINGS)] = 1000


class ClockOptions(BaseModel):
    """What makes wall time known: the kernel's synchronised flag, or simply the system's clock."""

    model_config = _STRICT

    trust: Literal["kernel", "system"] = "kernel"


class UplinkOptions(BaseModel):
    """How much is under way to the server, and how patient the gateway is.

    live: batches sealed since the server was last found; backlog: older ones. `*_batches`, `*_bytes` bound what is
    sent and not settled. resend_first_s, resend_longest_s: a batch without a receipt is sent again after at least the
    first.
    heartbeat_s: between two statuses; the server calls a gateway silent that misses some, so 30 s at most.
    audit_wait_s: how long a new connection waits for the server's books before it sends old batches.
    spread_s: old batches start after a random part of this, so that a fleet does not come at once.
    drain_s: how long a stop waits for receipts of what was sealed last.
    """

    model_config = _STRICT

    live_batches: Annotated[int, Field(ge=1, le=1000)] = 64
    live_bytes: Annotated[int, Field(ge=131_072, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    backlog_batches: Annotated[int, Field(ge=1, le=1000)] = 128
    backlog_bytes: Annotated[int, Field(ge=131_072, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    resend_first_s: Annotated[float, Field(ge=0.1, le=600)] = 5.0
    resend_longest_s: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    heartbeat_s: Annotated[float, Field(ge=0.1, le=30)] = 30.0
    audit_wait_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    spread_s: Annotated[float, Field(ge=0, le=300)] = 2.0
    drain_s: Annotated[float, Field(ge=0, le=60)] = 3.0
    reconnect_first_s: Annotated[float, Field(ge=0.01, le=60)] = 1.0
    reconnect_longest_s: Annotated[float, Field(ge=0.01, le=3600)] = 60.0

    @model_validator(mode="after")
    def _longest_is_longest(self) -> Self:
        for name in ("resend", "reconnect"):
            first_s, longest_s = getattr(self, f"{name}_first_s"), getattr(self, f"{name}_longest_s")
            if longest_s < first_s:
                raise ValueError(f"{name}_longest_s is less than {name}_first_s; make it at least {first_s:g}")
        return self


class HealthOptions(BaseModel):
    """What the daemon says of itself. file: absolute; by default beside systemd's runtime directory or the spool."""

    model_config = _STRICT

    file: Path | None = None
    write_s: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    log_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0

    @field_validator("file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(
                f"{str(path)!r} is wrong; write an absolute path such as /run/heal7-iot-gateway/health.json"
            )
        return path


class _Tables(BaseModel):
    """The file, its drivers still as tables: which model they have is the registry's to say."""

    model_config = _STRICT

    gateway: Annotated[GatewayOptions, Field(description="write a table [gateway] with site, name and state_dir")]
    mqtt: BrokerOptions = BrokerOptions()
    spool: SpoolLimits = SpoolLimits()
    batch: BatchOptions = BatchOptions()
    clock: ClockOptions = ClockOptions()
    uplink: UplinkOptions = UplinkOptions()
    health: HealthOptions = HealthOptions()
    profiles: ProfilesOptions = ProfilesOptions()
    driver: tuple[dict[str, Any], ...] = ()


class GatewayConfig(BaseModel):
    """The whole file. `driver` holds one options model for each `[[driver]]`, of the type that its `kind` has."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    gateway: GatewayOptions
    mqtt: BrokerOptions
    spool: SpoolLimits
    batch: BatchOptions
    clock: ClockOptions
    uplink: UplinkOptions
    health: HealthOptions
    profiles: ProfilesOptions
    driver: tuple[BaseModel, ...]

    @property
    def identity(self) -> str:
        """`<site>/<name>`, the gateway's name on the link."""
        return f"{self.gateway.site}/{self.gateway.name}"

    @property
    def spool_path(self) -> Path:
        return self.gateway.state_dir / "spool.sqlite3"

    def changed(self, other: "GatewayConfig") -> list[str]:
        """Tables other than drivers and profiles that differ: a reload leaves these as they are."""
        reloaded = ("driver", "profiles")
        return [name for name in type(self).model_fields if name not in reloaded and _differ(self, other, name)]


def _differ(one: BaseModel, other: BaseModel, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


Kinds = Mapping[str, DriverKind[Any]]


def load_config(path: Path, kinds: Kinds = DRIVER_KINDS) -> GatewayConfig:
    """The configuration in the file. Raises ConfigError, which names every mistake."""
    table = read_toml(path)
    found = validated(table, _Tables)
    mistakes = found if isinstance(found, list) else []
    entries = table.get("driver", [])
    drivers: list[tuple[Location, BaseModel]] = []
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        at: Location = ("driver", i)
        if not isinstance(entry, dict):
            continue  # said already, as the wrong type of the whole
        options = _driver(entry, kinds, at)
        if isinstance(options, list):
            mistakes += options
        else:
            drivers.append((at, options))
    mistakes += _collisions(drivers)
    if isinstance(found, list) or mistakes:
        raise ConfigError(path, mistakes)
    return GatewayConfig(**{**dict(found), "driver": tuple(options for _, options in drivers)})


def _driver(entry: dict[str, object], kinds: Kinds, at: Location) -> BaseModel | list[Mistake]:
    kind = entry.get("kind")
    known = ", ".join(f'"{name}"' for name in kinds)
    if kind is None:
        return [Mistake(key_path((*at, "kind")), "is missing", f"write one of {known}")]
    if not isinstance(kind, str) or kind not in kinds:
        return [Mistake(key_path((*at, "kind")), f"{kind!r:.60} is no kind of driver", f"write one of {known}")]
    options: BaseModel | list[Mistake] = validated(entry, kinds[kind].options, at)
    return options


def device_ids(options: BaseModel) -> Iterator[tuple[Location, str]]:
    """The device ids that a driver's options name, each with its key."""
    device = getattr(options, "device", None)
    if isinstance(device, str):
        yield ("device",), device
    elif isinstance(device, tuple):
        for i, entry in enumerate(device):
            if isinstance(name := getattr(entry, "device", None), str):
                yield ("device", i, "device"), name


def _collisions(drivers: list[tuple[Location, BaseModel]]) -> list[Mistake]:
    """One id for two devices would mix their readings in one series; one line cannot be opened twice.

    An adapter can be listened to and connected through at once: each kind of driver may have it once.
    """
    mistakes = []
    first: dict[tuple[str, object], str] = {}
    for at, options in drivers:
        claims: list[tuple[Location, str, object]] = [(key, "device", name) for key, name in device_ids(options)]
        if port := getattr(options, "port", None):
            claims.append((("port",), "port", port))
        if adapter := getattr(options, "adapter", None):
            claims.append((("adapter",), type(options).__name__, adapter))
        if alone := getattr(options, "one_per_gateway", ""):
            claims.append((("kind",), "kind", getattr(options, "kind", "")))
        for key, what, value in claims:
            path = key_path((*at, *key))
            taken = first.setdefault((what, value), path)
            if taken != path:
                rights = {"device": "give each device a name of its own", "kind": alone}
                right = rights.get(what, "use it once")
                mistakes.append(Mistake(path, f'"{value}" is taken by {taken}', right))
    return mistakes
