"""What is known of a spool at some moment, from without: what it has promised, and what it was told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from gateway.link.anchor import Anchor
from gateway.link.ranges import RangeSet
from gateway.spool.store import Spool
from gateway.spool.values import Counters, Identity
from tests.faults.power_cut.ledger import Ledger


@dataclass(frozen=True)
class Sealed:
    """A batch that was sealed."""

    readings: int
    crc: int


@dataclass(frozen=True)
class EpochView:
    """One epoch in the spool's books."""

    next: int
    sealed: int
    held: RangeSet
    settled: RangeSet


@dataclass(frozen=True)
class Books:
    """What a spool says of itself. An epoch without batches is left out: the next opening forgets it."""

    epochs: Mapping[int, EpochView] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    @classmethod
    def of(cls, spool: Spool) -> Self:
        settled = spool.settled()
        views = {b.epoch: EpochView(b.next, b.sealed, b.held, settled[b.epoch]) for b in spool.books().epochs if b.next}
        return cls(views, spool.usage().whole_file)


@dataclass
class Known:
    """What the world knows.

    promised: batches whose append has returned. told: what receipts have told the spool, as far as the server still
    has it; heard: all that they ever told. gone: what the server has lost and the spool no longer has. sent: with
    which clock a batch was sent. unclean: the next opening is to tell of an unclean stop.
    """

    promised: dict[Identity, Sealed] = field(default_factory=dict)
    told: Ledger = field(default_factory=Ledger)
    heard: set[Identity] = field(default_factory=set)
    gone: Ledger = field(default_factory=Ledger)
    sent: dict[Identity, Anchor] = field(default_factory=dict)
    unclean: bool = False

    def copy(self) -> "Known":
        return Known(
            dict(self.promised), self.told.copy(), set(self.heard), self.gone.copy(), dict(self.sent), self.unclean
        )


@dataclass(frozen=True)
class Moment:
    """One call on the spool: operations [begun, ended) of the log are its.

    books: before and after it; None where they are not known. single: it commits once, so that a cut within it
    leaves either.
    """

    what: str
    begun: int
    ended: int
    before: Known
    after: Known
    books: tuple[Books | None, Books | None]
    single: bool


@dataclass(frozen=True)
class Expected:
    """What must be found after a cut: the first five as in Known. books: one of these, or any; unclean None: either."""

    promised: dict[Identity, Sealed]
    told: Ledger
    heard: set[Identity]
    gone: Ledger
    sent: dict[Identity, Anchor]
    unclean: bool | None
    books: tuple[Books, ...]


def expected(moment: Moment, at: int) -> Expected:
    """After so many operations, within the moment or later."""
    before, after = moment.before, moment.after
    within = at < moment.ended
    possible = moment.books if within else moment.books[1:]
    return Expected(
        before.promised if within else after.promised,
        # What the spool is being told the server has, whether or not the spool has noted it.
        after.told,
        after.heard,
        after.gone,
        before.sent if within else after.sent,
        after.unclean if before.unclean == after.unclean or not within else None,
        () if within and not moment.single else tuple(b for b in possible if b is not None),
    )
