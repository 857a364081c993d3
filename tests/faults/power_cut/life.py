"""The life of a spool: all that can happen to one, in an order drawn from a seed, on a machine that records it."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.ranges import RangeSet
from gateway.link.wire import Body
from gateway.spool.errors import ForeignLedger, SpoolUnavailable
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity, SpoolOptions
from tests.faults.power_cut.disk import Disk, Files, Manner
from tests.faults.power_cut.known import Books, Known, Moment, Sealed
from tests.faults.power_cut.ledger import Bodies, Ledger
from tests.faults.power_cut.machine import Machine
from tests.gateway.spool.support import GATEWAY, LEDGER, WALL_S, body, everything

NAME = "spool.sqlite"
Draw = Callable[[random.Random], Callable[[], int]]
"""Where an opening gets its epoch from, given the seed's randomness."""

_HOUR_US = 3_600_000_000
DECK = {
    "append": 30,
    "append_large": 8,
    "group": 8,
    "lose": 4,
    "deliver": 9,
    "receipt": 9,
    "stale_receipt": 2,
    "foreign_receipt": 1,
    "server_is_restored": 2,
    "refuse": 2,
    "seal_gaps": 4,
    "anchor": 5,
    "hours_pass": 3,
    "stop": 2,
    "stop_unclean": 1,
    "die": 2,
    "power_cut": 2,
    "cut_short": 4,
    "disk_full": 1,
}
_CUT_SHORT = ("append", "append_large", "group", "receipt", "server_is_restored", "seal_gaps", "anchor", "hours_pass")


class Life:
    """operations: what became of the disk. moments: what is known of it. sealed: all batches that it ever sealed,
    promised or not. bodies: all that was seen under any identity. happened: how often what was done.
    """

    def __init__(self, machine: Machine, rng: random.Random, draw: Draw, options: SpoolOptions) -> None:
        self.operations = machine.log.operations
        self.moments: list[Moment] = []
        self.sealed: dict[Identity, Sealed] = {}
        self.bodies = Bodies()
        self.happened: Counter[str] = Counter()
        self._machine = machine
        self._rng = rng
        self._draw = draw
        self._options = options
        self._disk = Disk()
        self._followed = 0
        self._known = Known()
        self._books: Books | None = Books()
        self._server = Ledger()
        self._backups: list[Ledger] = []
        self._boots = 0
        self._now_us = 0
        self._wall_us = int(WALL_S * 1e6)
        self._spool: Spool | None = None
        self._moment("the beginning", 0, self._known, self._books)

    def live(self, rounds: int) -> None:
        """Goes so many times through all that can happen."""
        deck = [what for what, weight in DECK.items() for _ in range(weight)]
        for _ in range(rounds):
            self._rng.shuffle(deck)
            for what in deck:
                if self._spool is None:
                    self._open()
                    # As a gateway that connects: what it was to take back when the power was cut may still be settled.
                    self._audit()
                self._time_passes(self._rng.randrange(1_000_000))
                getattr(self, f"_{what}")()
                self.happened[what] += 1

    # -- how it is written down

    @property
    def spool(self) -> Spool:
        assert self._spool is not None
        return self._spool

    @contextmanager
    def _step(self, what: str, *, single: bool = True) -> Iterator[Known]:
        """One call on the spool, and what is known after it."""
        before, books = self._known, self._books
        begun = len(self._machine.log)
        self._known = before.copy()
        yield self._known
        ended = len(self._machine.log)
        if self._spool is not None:
            self._books = Books.of(self._spool)
        self._moment(what, begun, before, books, single=single)
        assert self.moments[-1].ended == ended, "to look is not to write"

    def _moment(self, what: str, begun: int, before: Known, books: Books | None, *, single: bool = True) -> None:
        ended = len(self._machine.log)
        self.moments.append(Moment(what, begun, ended, before, self._known, (books, self._books), single))

    def _disk_now(self) -> Disk:
        self._disk.follow(self.operations[self._followed :])
        self._followed = len(self.operations)
        return self._disk

    def _time_passes(self, us: int) -> None:
        self._now_us += us
        self._wall_us += us

    def _reboot(self) -> None:
        self._boots += 1
        self._now_us = self._rng.randrange(1_000_000)

    # -- openings and ends

    def _open(self) -> None:
        boot = Boot(f"boot-{self._boots}", self._now_us)
        with self._step("open") as known:
            self._spool = Spool.open(self._machine.folder / NAME, self._options, boot, None, self._draw(self._rng))
            known.unclean = True
            found = {b.epoch: b.next for b in self._spool.books().epochs}
            # What was being sealed when the power was cut may be there or not; what is there stays.
            known.promised.update({i: s for i, s in self.sealed.items() if i.seq < found.get(i.epoch, 0)})
        if self.moments[-1].books[0] is None:
            last = self.moments.pop()
            self._moment(last.what, last.begun, last.before, self._books)

    def _stop(self) -> None:
        with self._step("a clean stop") as known:
            self.spool.close()
            self._spool = None
            known.unclean = False
        self._maybe_reboot()

    def _stop_unclean(self) -> None:
        with self._step("an unclean stop"):
            self.spool.close(clean=False)
            self._spool = None
        self._maybe_reboot()

    def _die(self) -> None:
        with self._step("kill -9"):
            self._machine.kill()
            self._spool = None
        self._maybe_reboot()

    def _maybe_reboot(self) -> None:
        if self._rng.random() < 0.5:
            self._reboot()

    def _power_cut(self) -> None:
        self._goes_on_from(self._disk_now().cut(self._rng.choice(list(Manner)), self._rng), self._known)

    def _cut_short(self) -> None:
        """The power is cut in the middle of something, and the life goes on from what that has left."""
        disk = self._disk_now().copy()
        getattr(self, f"_{self._rng.choice(_CUT_SHORT)}")()
        moment = self.moments[-1]
        done = self._rng.randint(moment.begun, moment.ended)
        disk.follow(self.operations[self._followed : done])
        known = moment.after.copy()
        known.promised, known.sent = moment.before.promised, moment.before.sent
        self._goes_on_from(disk.cut(self._rng.choice(list(Manner)), self._rng), known)

    def _goes_on_from(self, left: Files, known: Known) -> None:
        self._machine.cut_to(left)
        self._spool = None
        self._known = known
        self._books = None
        self._moment("a power cut", len(self._machine.log), known, None)
        self._reboot()

    # -- what comes in

    def _seal(self, known: Known, sealed: Body, readings: int, identity: Identity | None) -> None:
        if identity is None:
            return  # the disk has no byte: these readings are a loss
        self.bodies.meet(identity, sealed.crc)
        assert identity not in self.sealed
        known.promised[identity] = self.sealed[identity] = Sealed(readings, sealed.crc)

    def _new_batch(self, size: int) -> tuple[Body, int, int, int]:
        return body(size, self._rng.getrandbits(48)), self._rng.randint(1, 50), self._now_us, self._now_us + 10

    def _append(self, size: int = 0, *, single: bool = True) -> None:
        batch = self._new_batch(size or self._rng.randint(50, 2_500))
        with self._step("append", single=single) as known:
            self._seal(known, batch[0], batch[1], self.spool.append(*batch))

    def _append_large(self) -> None:
        self._append(self._rng.randint(10_000, 50_000))

    def _group(self) -> None:
        batches = [self._new_batch(self._rng.randint(50, 4_000)) for _ in range(self._rng.randint(2, 4))]
        settled = self._some_settled()
        with self._step("group") as known:
            self._tell(known, settled)
            outcomes = self.spool.group(
                [
                    *[lambda spool, b=b: spool.append(*b) for b in batches],
                    lambda spool: spool.apply_receipt(LEDGER, settled, self._wall_s()),
                    _fail_after_an_append,
                    lambda spool: spool.record_loss("overrun", 3, self._now_us, self._now_us + 1),
                ]
            )
            assert [o.error for o in outcomes if not isinstance(o.error, _Refused)] == [None] * (len(batches) + 2)
            for batch, outcome in zip(batches, outcomes, strict=False):
                self._seal(known, batch[0], batch[1], outcome.value)

    def _lose(self) -> None:
        with self._step("record_loss"):
            self.spool.record_loss("overrun", self._rng.randint(1, 9), self._now_us, self._now_us + 5)

    def _refuse(self) -> None:
        """By the broker, for its size: so the server has never seen it."""
        waiting = [i for i in everything(self.spool) if i not in self._server]
        if waiting:
            with self._step("drop"):
                self.spool.drop(self._rng.choice(waiting), "too_large")

    def _seal_gaps(self) -> None:
        with self._step("seal_gaps") as known:
            for identity in self.spool.seal_gaps():
                batch = self.spool.load(identity, GATEWAY, 1)
                assert batch is not None
                self._seal(known, batch.body, 0, identity)

    def _anchor(self) -> None:
        anchor = Anchor(self._wall_us - self._now_us, 1_000, ClockSource.KERNEL)
        with self._step("set_anchor"):
            self.spool.set_anchor(anchor if self._rng.random() < 0.8 else None)

    # -- what comes back

    def _wall_s(self) -> float | None:
        return self._wall_us / 1e6 if self._rng.random() < 0.8 else None

    def _tell(self, known: Known, settled: dict[int, RangeSet]) -> None:
        told = self._server.told_by(settled)
        known.told.add(told)
        known.heard |= told.identities()

    def _deliver(self) -> None:
        with self._step("deliver") as known:
            for stored in self.spool.sendable(None, self._rng.randint(1, 60), 1 << 40):
                batch = self.spool.load(stored.identity, GATEWAY, 1)
                assert batch is not None
                self.bodies.meet(stored.identity, batch.body.crc)
                self._server.take(batch)
                known.sent[stored.identity] = batch.envelope.anchor
        self._backups.append(self._server.copy())

    def _some_settled(self) -> dict[int, RangeSet]:
        settled = self._server.settled()
        if self._rng.random() < 0.5:
            return settled
        first = self._rng.randrange(40)
        window = RangeSet([(first, first + self._rng.randint(1, 10))])
        return {epoch: ranges & window for epoch, ranges in settled.items()}

    def _apply(self, settled: dict[int, RangeSet], *, single: bool = True) -> None:
        with self._step("apply_receipt", single=single) as known:
            self._tell(known, settled)
            with suppress(*([] if single else [SpoolUnavailable])):
                self.spool.apply_receipt(LEDGER, settled, self._wall_s())

    def _receipt(self) -> None:
        self._apply(self._some_settled())

    def _stale_receipt(self) -> None:
        if self._backups:
            self._apply(self._server.told_by(self._rng.choice(self._backups).settled()).settled())

    def _foreign_receipt(self) -> None:
        if self.spool.pinned_ledger is not None:
            with self._step("a foreign receipt"), pytest.raises(ForeignLedger):
                self.spool.apply_receipt("another", {self.spool.epoch: RangeSet.below(1 << 30)}, self._wall_s())

    def _server_is_restored(self) -> None:
        """From a backup."""
        if not self._backups:
            return
        at = self._rng.randrange(len(self._backups))
        self._backups = self._backups[: at + 1]
        self._server = self._backups[at].copy()
        self._audit()

    def _audit(self) -> None:
        with self._step("take_back") as known:
            lost = known.told.identities() - self._server.identities()
            self.spool.group([self._take_back])
            held = {b.epoch: b.held for b in self.spool.books().epochs}
            known.gone.add(known.told.only({i for i in lost if i.seq not in held.get(i.epoch, RangeSet())}))
            known.told = known.told.only(self._server.identities())

    def _take_back(self, spool: Spool) -> None:
        settled = self._server.settled()
        for epoch, ranges in spool.settled().items():
            spool.take_back(epoch, ranges - settled.get(epoch, RangeSet()))

    def _hours_pass(self) -> None:
        self._time_passes(self._rng.choice([1, 5, 30, 80]) * _HOUR_US)
        with self._step("free_replayed"):
            self.spool.free_replayed(self._wall_us / 1e6)

    # -- a full disk

    def _disk_full(self) -> None:
        vfs = self._machine.vfs
        vfs.room = vfs.used() + self._rng.choice([0, 3_000, 30_000])
        for _ in range(self._rng.randint(3, 10)):
            self._append(self._rng.choice([200, 2_000, 20_000, 60_000]), single=False)
        self._apply(self._server.settled(), single=False)
        with self._step("record_loss", single=False):
            self.spool.record_loss("overrun", 2, self._now_us, self._now_us + 5)
        vfs.room = None
        self._hours_pass()


class _Refused(Exception):
    pass


def _fail_after_an_append(spool: Spool) -> None:
    spool.append(body(300, 1), 1, 0, 0)
    raise _Refused
