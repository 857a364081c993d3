"""The spool against a plain model, through crashes, stale receipts and files that were put back.

What the model knows of the future that a rollback took away it forgets, as the file does; the server does not.
"""

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.link.ranges import RangeSet
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity
from tests.gateway.spool.support import ANCHOR, GATEWAY, LEDGER, SMALL, WALL_S, Server, body, copy_files, everything


@dataclass
class Known:
    """What of the file's past the model expects the file to remember."""

    sealed: dict[Identity, int] = field(default_factory=dict)
    unsealed: int = 0

    def copy(self) -> "Known":
        return Known(dict(self.sealed), self.unsealed)


class SpoolMachine(RuleBasedStateMachine):
    """Operations on one spool, several lives of its file, and one server."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.path = self.folder / "spool.sqlite"
        self.random = random.Random(5)
        self.lives = 0
        self.boots = 0
        self.now_us = 0
        self.wall_s = WALL_S
        self.known = Known()
        self.server = Server()
        self.lost_by_server: set[Identity] = set()
        self.used: set[Identity] = set()
        self.stale: list[dict[int, RangeSet]] = []
        self.saved: tuple[Path, Known] | None = None
        self.spool: Spool

    @initialize()
    def begin(self) -> None:
        self.open()
        self.spool.set_anchor(ANCHOR)

    def open(self) -> None:
        self.now_us += 1000
        boot = Boot(f"boot-{self.boots}", self.now_us)
        self.spool = Spool.open(
            self.path, SMALL, boot, self.wall_s, draw_epoch=lambda: self.random.randrange(1, 1 << 63)
        )

    def teardown(self) -> None:
        try:
            if hasattr(self, "spool"):
                self.spool.set_anchor(ANCHOR)
                self.server.drain(self.spool, self.wall_s)
                self.all_accounted_for()
                self.spool.close()
        finally:
            shutil.rmtree(self.folder)

    def all_accounted_for(self) -> None:
        """Once everything has arrived, the ledger of each epoch is one range, but for what the server itself lost."""
        assert everything(self.spool) == []
        for book in self.spool.books().epochs:
            missing = RangeSet.below(book.next) - self.server.settled.get(book.epoch, RangeSet())
            assert {Identity(book.epoch, seq) for seq in missing.members()} <= self.lost_by_server
            assert book.held == RangeSet()

    # -- what the gateway does

    @rule(readings=st.integers(1, 50), size=st.sampled_from([50, 900, 4_000, 30_000]), many=st.integers(1, 8))
    def append(self, readings: int, size: int, many: int) -> None:
        for _ in range(many):
            self.now_us += 1000
            identity = self.spool.append(body(size, len(self.used)), readings, self.now_us, self.now_us + 10)
            assert identity is not None
            assert identity not in self.used
            self.used.add(identity)
            self.known.sealed[identity] = readings

    @rule(readings=st.integers(1, 5))
    def lose(self, readings: int) -> None:
        self.spool.record_loss("overrun", readings, self.now_us, self.now_us + 5)
        self.known.unsealed += readings

    @rule()
    def seal_gaps(self) -> None:
        for identity in self.spool.seal_gaps():
            assert identity not in self.used
            self.used.add(identity)
            self.known.sealed[identity] = 0

    @rule(at=st.integers(0, 20))
    def refused(self, at: int) -> None:
        waiting = everything(self.spool)
        if waiting:
            self.spool.drop(waiting[at % len(waiting)], "too_large")

    @rule(hours=st.sampled_from([1, 30, 80]))
    def time_passes(self, hours: int) -> None:
        self.wall_s += hours * 3600
        self.spool.free_replayed(self.wall_s)

    @rule()
    def clock(self) -> None:
        self.spool.set_anchor(ANCHOR)

    # -- what the server does

    @rule(most=st.integers(1, 30))
    def deliver(self, most: int) -> None:
        self.server.deliver(self.spool, most)

    @rule()
    def receipt(self) -> None:
        self.stale.append(dict(self.server.settled))
        self.apply(self.server.settled)

    @rule(part=st.integers(0, 40), span=st.integers(1, 10))
    def partial_receipt(self, part: int, span: int) -> None:
        window = RangeSet([(part, part + span)])
        self.apply({epoch: ranges & window for epoch, ranges in self.server.settled.items()})

    @rule(at=st.integers(0, 9))
    def stale_receipt(self, at: int) -> None:
        if self.stale:
            old = self.stale[at % len(self.stale)]
            # What the server has lost since it also takes out of receipts that are still under way: its ledger is new.
            self.apply({e: r & self.server.settled.get(e, RangeSet()) for e, r in old.items()})

    def apply(self, settled: dict[int, RangeSet]) -> None:
        before = self.spool.usage().batches
        count = self.spool.apply_receipt(LEDGER, settled, self.wall_s)
        assert before - self.spool.usage().batches == count

    @precondition(lambda self: self.stale)
    @rule(at=st.integers(0, 9))
    def server_is_restored(self, at: int) -> None:
        """From a backup; then the audit."""
        backup = self.stale[at % len(self.stale)]
        now = self.server.settled
        self.server.settled = {e: r & now[e] for e, r in backup.items() if e in now}
        known = self.spool.settled()
        here = set(everything(self.spool))
        for epoch, ranges in known.items():
            gone = ranges - self.server.settled.get(epoch, RangeSet())
            self.spool.take_back(epoch, gone)
        again = set(everything(self.spool))
        assert here <= again
        for epoch, ranges in now.items():
            for seq in (ranges - self.server.settled.get(epoch, RangeSet())).members():
                self.lost_by_server.add(Identity(epoch, seq))

    # -- what happens to the file

    @rule(boot=st.booleans())
    def stop_and_start(self, boot: bool) -> None:
        self.spool.close()
        self.boots += boot
        self.open()

    @rule(boot=st.booleans())
    def crash(self, boot: bool) -> None:
        left = copy_files(self.path, self.folder / f"life-{self.lives}")
        self.lives += 1
        self.spool.close()
        self.path = left
        self.boots += boot
        self.open()

    @rule()
    def save(self) -> None:
        self.saved = (copy_files(self.path, self.folder / f"saved-{self.lives}"), self.known.copy())
        self.lives += 1

    @precondition(lambda self: self.saved is not None)
    @rule()
    def put_back(self) -> None:
        assert self.saved is not None
        path, known = self.saved
        self.spool.close()
        self.path = copy_files(path, self.folder / f"life-{self.lives}")
        self.lives += 1
        self.known = known.copy()
        self.boots += 1
        self.open()

    # -- what must always be so

    @invariant()
    def readings_balance(self) -> None:
        if not hasattr(self, "spool"):
            return
        usage = self.spool.usage()
        whole = usage.whole_file
        assert whole.sealed_readings == sum(self.known.sealed.values())
        assert whole.sealed_readings == whole.settled_readings + sum(whole.dropped.values()) + usage.readings
        assert sum(whole.unsealed.values()) == self.known.unsealed
        assert usage.file_bytes <= SMALL.bound_bytes

    @invariant()
    def nothing_leaves_but_settled_or_dropped(self) -> None:
        if not hasattr(self, "spool"):
            return
        settled = self.spool.settled()
        books = {b.epoch: b for b in self.spool.books().epochs}
        for identity in self.known.sealed:
            book = books.get(identity.epoch)
            if book is None:
                assert self.past(identity)  # a window ago
                continue
            assert identity.seq < book.next
            assert identity.seq in settled[identity.epoch] or identity.seq in book.held
            if identity.seq in settled[identity.epoch]:
                assert self.past(identity)
        for epoch, ranges in settled.items():
            assert not ranges & books[epoch].held

    def past(self, identity: Identity) -> bool:
        return identity.seq in self.server.settled.get(identity.epoch, RangeSet()) or identity in self.lost_by_server

    @invariant()
    def what_waits_can_be_loaded(self) -> None:
        if not hasattr(self, "spool"):
            return
        for identity in everything(self.spool)[:3]:
            batch = self.spool.load(identity, GATEWAY, 3)
            assert batch is not None
            assert batch.envelope.readings == self.known.sealed[identity]


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=70,
    stateful_step_count=35,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
