"""The spool's books in memory: values that are never changed, so that a rollback is an assignment.

Every seq of an epoch below `next` is in one of: `present` (its row is in the file), `dropped` (a loss names it),
`freed` (settled, and its row removed), or it vanished with a damaged file, which the server's audit finds.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.spool.database import unpack_ranges
from gateway.spool.errors import SpoolCorrupt
from gateway.spool.rows import batch_id, split_id

HOUR_BITS = 24
ROW_BYTES = 64
"""What a batch takes besides its body, about."""
NOTHING = RangeSet()


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of the file.

    sealed: readings in [0, next). received: settled by a receipt and not yet `freed`. excused: dropped, and
    the gap batch that names them is settled. last_us: when its last reading was taken, of the boot's clock.
    """

    number: int
    epoch: int
    boot_no: int
    next: int = 0
    sealed: int = 0
    last_us: int = 0
    present: RangeSet = NOTHING
    received: RangeSet = NOTHING
    freed: RangeSet = NOTHING
    dropped: RangeSet = NOTHING
    excused: RangeSet = NOTHING

    @property
    def settled(self) -> RangeSet:
        return self.received | self.freed | self.excused

    @property
    def unsettled(self) -> RangeSet:
        """Still to be sent, or dropped with a gap that is still to be settled."""
        # A dropped seq stays here until its gap has arrived: else the server would presume it lost meanwhile.
        return (self.present | self.dropped) - self.settled

    @property
    def unsent(self) -> RangeSet:
        """Batches that are here and not settled."""
        return self.present - self.settled

    def ids(self, ranges: RangeSet) -> list[tuple[int, int]]:
        """Half-open ranges of keys."""
        return [(batch_id(self.number, first), batch_id(self.number, end)) for first, end in ranges]


@dataclass(frozen=True, slots=True)
class BootRow:
    """A boot that the file knows; ended_us None for the running one."""

    number: int
    boot_id: str
    ended_us: int | None
    anchor: Anchor | None


@dataclass(frozen=True, slots=True)
class Held:
    """What unsettled batches amount to."""

    batches: int = 0
    readings: int = 0
    bytes: int = 0

    def __add__(self, other: "Held") -> "Held":
        return Held(self.batches + other.batches, self.readings + other.readings, self.bytes + other.bytes)

    def __sub__(self, other: "Held") -> "Held":
        return Held(self.batches - other.batches, self.readings - other.readings, self.bytes - other.bytes)


@dataclass(frozen=True, slots=True)
class Loss:
    """What is missing: the batch with this key, or (None) readings that were never sealed.

    readings None: unknown. Each time is µs of the monotonic clock of its boot.
    """

    reason: str
    batch: int | None
    readings: int | None
    from_boot: int
    from_us: int
    to_boot: int
    to_us: int


@dataclass(frozen=True, slots=True)
class State:
    """All that the spool knows besides the file.

    stored_bytes: of all batches in the file. held: those of them that are not settled.
    open_losses: not yet named by a gap batch. loose: how many of them are of readings that were never sealed; tails:
    the latest of these by reason and whether their number is known. pending: losses that found no room in the file yet.
    held_back_us: how much older than the last sealed reading one of this opening may be that is not sealed.
    """

    epochs: Mapping[int, Epoch] = field(default_factory=dict)
    boots: Mapping[int, BootRow] = field(default_factory=dict)
    ledger: str | None = None
    anchor: Anchor | None = None
    stored_bytes: int = 0
    held: Held = Held()
    open_losses: RangeSet = NOTHING
    loose: int = 0
    tails: Mapping[tuple[str, bool], int] = field(default_factory=dict)
    next_loss: int = 1
    held_back_us: int = 0
    pending: tuple[Loss, ...] = ()

    def with_epoch(self, epoch: Epoch) -> "State":
        return replace(self, epochs={**self.epochs, epoch.number: epoch})

    def with_boot(self, boot: BootRow) -> "State":
        return replace(self, boots={**self.boots, boot.number: boot})

    def by_name(self) -> dict[int, Epoch]:
        """Epochs by their random number, the newest last."""
        return {e.epoch: e for _, e in sorted(self.epochs.items())}


def tally(connection: sqlite3.Connection, epoch: Epoch, ranges: RangeSet) -> Held:
    """What the batches in `ranges` amount to."""
    total = Held()
    for ids in epoch.ids(ranges):
        batches, readings, size = connection.execute(
            "SELECT count(*), total(readings), total(length(body)) FROM batches WHERE id >= ? AND id < ?", ids
        ).fetchone()
        total += Held(batches, int(readings), int(size) + ROW_BYTES * batches)
    return total


def by_epoch(keys: Iterable[int]) -> dict[int, RangeSet]:
    """Batch keys as ranges of seqs by epoch_no."""
    found: dict[int, list[int]] = {}
    for key in keys:
        number, seq = split_id(key)
        found.setdefault(number, []).append(seq)
    return {number: RangeSet.of(seqs) for number, seqs in found.items()}


def load(connection: sqlite3.Connection) -> tuple[State, dict[int, int]]:
    """The books as the file has them, and the last monotonic time (µs) known of each boot.

    Reads every batch's row, but no body. Raises sqlite3.DatabaseError and SpoolCorrupt.
    """
    try:
        return _load(connection)
    # Without its page checksums a damaged file may hold any value in any column.
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise SpoolCorrupt(f"books: {error!r}") from error


def _load(connection: sqlite3.Connection) -> tuple[State, dict[int, int]]:
    last_us: dict[int, int] = {}
    epochs = _load_epochs(connection, last_us)
    stored_bytes = _load_batches(connection, epochs, last_us)
    for key, packed in connection.execute("SELECT id, ranges FROM settlements"):
        e = epochs[key >> HOUR_BITS]
        received = unpack_ranges(packed, key) - e.freed
        epochs[e.number] = replace(e, received=e.received | received, next=max(e.next, received.end()))
    named = _load_losses(connection, epochs, last_us)
    open_losses, last_named = _load_gaps(connection, epochs, named)
    held = Held()
    for e in epochs.values():
        unsent = tally(connection, e, e.unsent)
        # In a tree with pages of another time a scan may meet rows that no search finds: they would wait for ever.
        if unsent.batches != e.unsent.count():
            raise SpoolCorrupt(f"batches of epoch {e.number}: a search finds {unsent.batches} of {e.unsent.count()}")
        held += unsent
    boots: dict[int, BootRow] = {}
    for number, boot_id, started, ended, offset, uncertainty, source in connection.execute(
        "SELECT boot_no, boot_id, started_us, ended_us, offset_us, uncertainty_us, source FROM boots"
    ):
        boots[number] = BootRow(number, boot_id, ended, _anchor(offset, uncertainty, source))
        _later(last_us, number, started)
    # Batches of a boot that is not there would wait for its clock for ever, and the next boot could take its number.
    if last_us.keys() - boots.keys():
        raise SpoolCorrupt(f"boots {sorted(last_us.keys() - boots.keys())} are missing")
    pinned = connection.execute("SELECT ledger FROM pinned").fetchone()
    state = State(
        epochs,
        boots,
        None if pinned is None else pinned[0],
        stored_bytes=stored_bytes,
        held=held,
        open_losses=open_losses,
        loose=sum(named[number] is None for number in open_losses.members()),
        next_loss=max([last_named, *named], default=0) + 1,
    )
    return state, last_us


def _load_epochs(connection: sqlite3.Connection, last_us: dict[int, int]) -> dict[int, Epoch]:
    epochs: dict[int, Epoch] = {}
    for number, epoch, boot_no, opened, following, sealed, last, freed in connection.execute(
        "SELECT epoch_no, epoch, boot_no, opened_us, next_seq, sealed, last_us, freed FROM epochs"
    ):
        known = opened if last is None else last
        epochs[number] = Epoch(number, epoch, boot_no, following, sealed, known, freed=unpack_ranges(freed, number))
        _later(last_us, boot_no, known)
    return epochs


def _load_batches(connection: sqlite3.Connection, epochs: dict[int, Epoch], last_us: dict[int, int]) -> int:
    """Their bytes, as `Held` counts them."""
    runs: dict[int, list[tuple[int, int]]] = {}
    stored_bytes = 0
    for key, boot_no, readings, before, last, length in connection.execute(
        "SELECT id, boot_no, readings, before, last_us, length(body) FROM batches ORDER BY id"
    ):
        stored_bytes += length + ROW_BYTES
        number, seq = split_id(key)
        spans = runs.setdefault(number, [])
        if spans and spans[-1][1] == seq:
            spans[-1] = (spans[-1][0], seq + 1)
        else:
            spans.append((seq, seq + 1))
        _later(last_us, boot_no, last)
        if seq >= epochs[number].next:
            sealed = max(epochs[number].sealed, before + readings)
            epochs[number] = replace(epochs[number], next=seq + 1, sealed=sealed, last_us=last)
    for number, spans in runs.items():
        epochs[number] = replace(epochs[number], present=RangeSet(spans))
    return stored_bytes


def _load_losses(
    connection: sqlite3.Connection, epochs: dict[int, Epoch], last_us: dict[int, int]
) -> dict[int, int | None]:
    """The batch that each loss names."""
    named: dict[int, int | None] = {}
    for loss_no, key, boot_no, to_us in connection.execute("SELECT loss_no, batch, to_boot, to_us FROM losses"):
        named[loss_no] = key
        _later(last_us, boot_no, to_us)
    for number, ranges in by_epoch(key for key in named.values() if key is not None).items():
        e = epochs[number]
        epochs[number] = replace(e, dropped=ranges - e.present, next=max(e.next, ranges.end()))
    return named


def _load_gaps(
    connection: sqlite3.Connection, epochs: dict[int, Epoch], named: Mapping[int, int | None]
) -> tuple[RangeSet, int]:
    """The losses that no gap batch names, and the last that one names."""
    open_losses = RangeSet.of(named)
    last = 0
    for key, first, end in connection.execute("SELECT id, first_loss, end_loss FROM gaps"):
        covered = RangeSet([(first, end)]) & open_losses
        open_losses -= covered
        last = max(last, end - 1)
        number, seq = split_id(key)
        # Losses that are named by nothing but a gap batch that is gone would never be told.
        if seq not in epochs[number].present:
            raise SpoolCorrupt(f"gap batch {seq} of epoch {number} is missing")
        if seq in epochs[number].settled:
            keys = [named[n] for n in covered.members()]
            for other, ranges in by_epoch(key for key in keys if key is not None).items():
                epochs[other] = replace(epochs[other], excused=epochs[other].excused | ranges)
    return open_losses, last


def _later(last_us: dict[int, int], boot_no: int, us: int) -> None:
    if us > last_us.get(boot_no, -1):
        last_us[boot_no] = us


def _anchor(offset: int | None, uncertainty: int | None, source: int | None) -> Anchor | None:
    if offset is None or uncertainty is None or source is None:
        return None
    return Anchor(offset, uncertainty, ClockSource(source))
