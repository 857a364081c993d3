"""A database as a plain dictionary, and what all databases together have ever seen of an identity."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.link.ranges import RangeSet
from gateway.link.wire import Batch, Gap, Kind, decode_gaps, unpack
from gateway.spool.values import Identity


class Bodies:
    """Every body that was ever seen under an identity, before and after every cut."""

    def __init__(self) -> None:
        self._seen: dict[Identity, int] = {}

    def meet(self, identity: Identity, crc: int) -> None:
        """An identity never has two bodies."""
        known = self._seen.setdefault(identity, crc)
        assert known == crc, f"{identity} has two bodies"


@dataclass
class Ledger:
    """What a database holds.

    bodies: checksums of the bodies that it took, gap batches included. named: seqs that it settled because a gap
    names them. gaps: what each gap batch says.
    """

    bodies: dict[Identity, int] = field(default_factory=dict)
    named: set[Identity] = field(default_factory=set)
    gaps: dict[Identity, list[Gap]] = field(default_factory=dict)

    def copy(self) -> "Ledger":
        return Ledger(dict(self.bodies), set(self.named), dict(self.gaps))

    def __contains__(self, identity: Identity) -> bool:
        return identity in self.bodies or identity in self.named

    def identities(self) -> set[Identity]:
        """All that is settled."""
        return self.named | self.bodies.keys()

    def settled(self) -> dict[int, RangeSet]:
        """As a receipt says it."""
        return ranges(self.identities())

    def take(self, batch: Batch) -> None:
        """Settles it, and what it names. The first settlement of a seq wins."""
        identity = Identity(batch.envelope.epoch, batch.envelope.seq)
        assert batch.body.intact()
        if identity in self:
            return
        self.bodies[identity] = batch.body.crc
        if batch.envelope.kind == Kind.GAP:
            self.gaps[identity] = decode_gaps(unpack(batch))
            self.named |= {i for i in seqs(self.gaps[identity]) if i not in self}

    def told_by(self, settled: Mapping[int, RangeSet]) -> "Ledger":
        """The part that a receipt tells of. Who learns that a gap is settled knows that of what it names."""
        told = {i for i in self.identities() if i.seq in settled.get(i.epoch, RangeSet())}
        for gap in told & self.gaps.keys():
            told |= seqs(self.gaps[gap]).keys()
        return self.only(told)

    def only(self, identities: set[Identity]) -> "Ledger":
        """The part with these identities."""
        return Ledger(
            {i: crc for i, crc in self.bodies.items() if i in identities},
            self.named & identities,
            {i: gaps for i, gaps in self.gaps.items() if i in identities},
        )

    def add(self, other: "Ledger") -> None:
        """Takes over what another holds."""
        self.bodies.update(other.bodies)
        self.named |= other.named
        self.gaps.update(other.gaps)

    def dropped(self) -> dict[Identity, tuple[str, int]]:
        """What gaps say was dropped: reason and number of readings."""
        return {i: named for gaps in self.gaps.values() for i, named in seqs(gaps).items()}

    def never_sealed(self) -> Counter[str]:
        """Readings that gaps tell of and that no batch ever held, by reason; an unknown number is 0."""
        found: Counter[str] = Counter()
        for gap in (gap for gaps in self.gaps.values() for gap in gaps if not gap.counts):
            found[gap.reason] += gap.readings or 0
        return +found


def seqs(gaps: Iterable[Gap]) -> dict[Identity, tuple[str, int]]:
    """The batches that gaps name: reason and number of readings."""
    return {
        Identity(gap.epoch, seq): (gap.reason, readings)
        for gap in gaps
        for seq, readings in enumerate(gap.counts, gap.first)
    }


def ranges(identities: Iterable[Identity]) -> dict[int, RangeSet]:
    """Identities as ranges of seqs by epoch."""
    found: dict[int, list[int]] = {}
    for epoch, seq in identities:
        found.setdefault(epoch, []).append(seq)
    return {epoch: RangeSet.of(members) for epoch, members in found.items()}
