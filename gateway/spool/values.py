"""What goes into the spool and comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.link.status import EpochBook


class Identity(NamedTuple):
    """A batch of this gateway; used once, for ever."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch that waits to be sent. size_bytes: at most what its payload takes."""

    identity: Identity
    size_bytes: int
    readings: int


@dataclass(frozen=True, slots=True)
class Books:
    """What a status lists, oldest epoch first. whole: no epoch of the file was left out."""

    epochs: tuple[EpochBook, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Boot:
    """The running boot. boot_id: what the kernel calls it; now_us: µs of its monotonic clock."""

    boot_id: str
    now_us: int


WhenFull = Literal["drop_oldest", "drop_newest"]
"""What goes when the spool is at its bound and nothing in it is settled: what was sealed first, or what comes in."""

SMALLEST_BOUND = 524_288
"""Bytes: below this the room that is kept for gaps would be most of the spool."""


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """bound_bytes: what the file may take on disk (WAL and reserve come on top, a few MiB).

    replay_window_s: how long a settled batch is kept for a database that may lose it again.
    reserve_bytes: really allocated beside the file, given back when the disk is full, so that a drop can be
    recorded. Four times the WAL: what is in the WAL must fit into the file first. 0: none, for a spool in memory.
    Raises ValueError.
    """

    bound_bytes: int
    replay_window_s: float
    reserve_bytes: int = 4_194_304
    when_full: WhenFull = "drop_oldest"

    def __post_init__(self) -> None:
        if self.bound_bytes < SMALLEST_BOUND:
            raise ValueError(f"spool bound of {self.bound_bytes} bytes: at least {SMALLEST_BOUND}")


@dataclass(frozen=True, slots=True)
class Counters:
    """Batches and readings; `dropped` and `unsealed` count readings by reason.

    sealed = settled + dropped + still held (+ what a damaged file lost, which the server's audit finds).
    unsealed: readings that were lost before they were sealed; those of unknown number are not in it.
    """

    sealed_batches: int = 0
    sealed_readings: int = 0
    settled_batches: int = 0
    settled_readings: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    unsealed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the spool is.

    bytes, batches, readings: of unsettled batches only, since settled ones make room by themselves.
    file_bytes: what the file uses, batches of the replay window included. fill: the share of the room for data that
    is not settled, 0 … 1. reserve: whether the disk's last bytes are still set aside; where not, the disk is (or was)
    full.
    """

    bytes: int
    bound_bytes: int
    batches: int
    readings: int
    file_bytes: int
    fill: float
    reserve: bool
    whole_file: Counters
