"""Opens what a power cut has left, checks it against all that is known, and drains it."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gateway.link.anchor import Anchor
from gateway.link.ranges import RangeSet
from gateway.spool.errors import SpoolCorrupt
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity
from tests.faults.power_cut.cuts import PossibleCut, drawn
from tests.faults.power_cut.disk import Files
from tests.faults.power_cut.known import Books, Expected, Sealed, expected
from tests.faults.power_cut.ledger import Bodies, Ledger
from tests.faults.power_cut.life import NAME, Draw, Life
from tests.gateway.spool.support import ANCHOR, GATEWAY, LEDGER, SMALL, WALL_S, body, everything

T = TypeVar("T")


def judge(cut: PossibleCut, folder: Path, life: Life, rng: random.Random) -> None:
    """All that was promised before the cut is there. Raises AssertionError where it is lost, twice, or told wrongly."""
    wanted = expected(cut.moment, cut.at)
    with _opened(cut.left, folder, rng, drawn) as spool:
        assert not list(folder.glob("*.corrupt-*")), "a power cut is no damage"
        _check_as_opened(spool, wanted, life.sealed)
        _check_drained(spool, wanted, life, rng)


def judge_after_a_lie(cut: PossibleCut, folder: Path, life: Life, rng: random.Random, draw: Draw = drawn) -> None:
    """The disk had not synced what it said. Nothing can be promised but that the spool goes on without reusing an
    identity, and that it can be drained."""
    for _ in range(3):
        try:
            with _opened(cut.left, folder, rng, draw) as spool:
                _seal_something(spool, life.bodies, rng)
                drain(spool, Ledger(), life.bodies)
                assert all(not view.held for view in _ask(spool, Books.of).epochs.values())
            return
        except SpoolCorrupt:
            # The process ends, and the next opening salvages.
            cut = PossibleCut(cut.at, cut.moment, cut.manner, {})
    raise AssertionError("what is damaged is not salvaged")


@contextmanager
def _opened(left: Files, folder: Path, rng: random.Random, draw: Draw) -> Iterator[Spool]:
    folder.mkdir(exist_ok=True)
    for name, data in left.items():
        (folder / name).write_bytes(data)
    # Its file is made and removed without a sync, and what it holds means nothing.
    reserve = rng.choice([None, 0, 100, SMALL.reserve_bytes])
    if reserve is not None:
        (folder / f"{NAME}.reserve").write_bytes(bytes(reserve))
    boot = Boot("after the cut", rng.randrange(1_000_000))
    spool = Spool.open(folder / NAME, SMALL, boot, None, draw(rng))
    try:
        spool.set_anchor(ANCHOR)
        yield spool
    finally:
        spool.close()


def _check_as_opened(spool: Spool, wanted: Expected, sealed: dict[Identity, Sealed]) -> None:
    """The books are those before or after the call that was cut, agree with themselves, and begin an epoch."""
    books = Books.of(spool)
    assert not wanted.books or books in wanted.books, "books of another time"
    assert spool.epoch not in {i.epoch for i in sealed}
    for epoch, view in books.epochs.items():
        assert view.held | view.settled == RangeSet.below(view.next)
        assert not view.held & view.settled
        assert view.sealed == sum(sealed[Identity(epoch, seq)].readings for seq in range(view.next))
        assert {Identity(epoch, seq) for seq in view.settled.members()} <= wanted.heard, "settled by no receipt"
    (told,) = spool._connection.execute(
        "SELECT count(*) FROM losses WHERE reason = 'unclean_stop' AND to_boot = ?", (spool._boot,)
    ).fetchone()
    assert wanted.unclean is None or told == wanted.unclean


def _check_drained(spool: Spool, wanted: Expected, life: Life, rng: random.Random) -> None:
    """Whatever was promised reaches a server that has only what receipts told of, or a gap names it."""
    ledger = wanted.told.copy()
    # The audit, before anything settled is freed to make room.
    for epoch, settled in spool.settled().items():
        spool.take_back(epoch, settled - ledger.settled().get(epoch, RangeSet()))
    fresh = _seal_something(spool, life.bodies, rng)
    sent = drain(spool, ledger, life.bodies)
    assert fresh in sent
    assert all(not view.held for view in Books.of(spool).epochs.values())

    for identity, batch in wanted.promised.items():
        assert identity in ledger or identity in wanted.gone, f"{identity} is lost"
        assert ledger.bodies.get(identity, batch.crc) == batch.crc
    for identity, anchor in sent.items():
        assert wanted.sent.get(identity, anchor) == anchor, "its readings had another time when it was first sent"
    ledger.add(wanted.gone)
    dropped: Counter[str] = Counter()
    for identity, (reason, readings) in ledger.dropped().items():
        assert identity not in sent, "a gap names what is there"
        assert readings == life.sealed[identity].readings
        dropped[reason] += readings
    counters = spool.usage().whole_file
    assert +dropped == counters.dropped
    assert ledger.never_sealed() == counters.unsealed
    assert counters.sealed_readings == counters.settled_readings + dropped.total()


def _seal_something(spool: Spool, bodies: Bodies, rng: random.Random) -> Identity:
    """As a gateway that goes on: were an identity used again, this is where."""
    sealed = body(700, rng.getrandbits(48))
    identity = spool.append(sealed, 5, 1, 2)
    assert identity is not None
    bodies.meet(identity, sealed.crc)
    return identity


def drain(spool: Spool, ledger: Ledger, bodies: Bodies) -> dict[Identity, Anchor]:
    """Until nothing is left to be sent; what was sent, and with which clock."""
    sent: dict[Identity, Anchor] = {}

    def work(spool: Spool) -> bool:
        spool.seal_gaps()
        waiting = everything(spool)
        for identity in waiting:
            batch = spool.load(identity, GATEWAY, 2)
            if batch is None:
                continue  # a bad copy: a gap names it
            bodies.meet(identity, batch.body.crc)
            ledger.take(batch)
            sent[identity] = batch.envelope.anchor
        spool.apply_receipt(LEDGER, ledger.settled(), WALL_S)
        return bool(waiting)

    while _ask(spool, work):
        pass
    return sent


def _ask(spool: Spool, work: Callable[[Spool], T]) -> T:
    """As all of a gateway's works are done: of a page that cannot be read it is told in the spool's own terms."""
    (outcome,) = spool.group([work])
    if outcome.error is not None:
        raise outcome.error
    assert outcome.value is not None
    return outcome.value
