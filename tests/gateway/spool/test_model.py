"""The spool against a plain list of batches, through crashes, damage, stale receipts and files that were put back.

The list says what every batch must be: here or not, settled or not, dropped with its loss or not. Whatever leaves the
file must have been settled, or have left its loss. What the list knows of the future that a rollback took away it
forgets, as the file does; the server does not.
"""

import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.link.ranges import RangeSet
from gateway.link.wire import decode_gaps, unpack
from gateway.spool.errors import ForeignLedger
from gateway.spool.rows import batch_id, split_id
from gateway.spool.settlement import hour_of
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity, WhenFull
from tests.gateway.spool.support import (
    ANCHOR,
    GATEWAY,
    LEDGER,
    SMALL,
    WALL_S,
    WINDOW_S,
    Server,
    body,
    copy_files,
    everything,
)

WINDOW_H = WINDOW_S / 3600


@dataclass(frozen=True)
class Sealed:
    """A batch. names: what it tells the loss of, where it is of gaps; boot: the how-manieth."""

    readings: int
    crc: int
    boot: int
    names: frozenset[Identity] | None = None


@dataclass
class Known:
    """What of the file's past the file is to remember.

    sealed: in the order of sealing. received: settled by a receipt, and in which hour (None: clock unknown). freed:
    settled for good. vanished: rows that were damaged so that nothing of them could be believed. unsealed: readings
    by reason. anchored: of boots up to this one the clock is known.
    """

    sealed: dict[Identity, Sealed] = field(default_factory=dict)
    received: dict[Identity, int | None] = field(default_factory=dict)
    freed: set[Identity] = field(default_factory=set)
    vanished: set[Identity] = field(default_factory=set)
    unsealed: Counter[str] = field(default_factory=Counter)
    anchored: int = -1

    def copy(self) -> "Known":
        return Known(
            dict(self.sealed),
            dict(self.received),
            set(self.freed),
            set(self.vanished),
            self.unsealed.copy(),
            self.anchored,
        )


@dataclass(frozen=True)
class Rows:
    """What lies in the file: batches, and losses of batches with their reason and number of readings."""

    present: frozenset[Identity] = frozenset()
    lost: dict[Identity, tuple[str, int]] = field(default_factory=dict)


class SpoolMachine(RuleBasedStateMachine):
    """Operations on one spool, several lives of its file, and one server."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.path = self.folder / "spool.sqlite"
        self.random = random.Random(5)
        self.options = SMALL
        self.copies = 0
        self.boot = 0
        self.now_us = 0
        self.wall_s = WALL_S
        self.known = Known()
        self.rows = Rows()
        self.server = Server()
        self.lost_by_server: set[Identity] = set()
        self.used: set[Identity] = set()
        self.stale: list[dict[int, RangeSet]] = [{}]
        self.saved: tuple[Path, Known] | None = None
        self.spool: Spool | None = None

    @initialize(when_full=st.sampled_from(["drop_oldest", "drop_newest"]))
    def begin(self, when_full: WhenFull) -> None:
        self.options = replace(SMALL, when_full=when_full)
        self.open()
        self.clock()

    @property
    def running(self) -> Spool:
        assert self.spool is not None
        return self.spool

    def open(self) -> None:
        self.now_us += 1000
        boot = Boot(f"boot-{self.boot}", self.now_us)
        self.spool = Spool.open(
            self.path, self.options, boot, self.wall_s, draw_epoch=lambda: self.random.randrange(1, 1 << 63)
        )
        assert self.spool.epoch not in {identity.epoch for identity in self.used}
        self.time_has_passed()

    def teardown(self) -> None:
        try:
            if self.spool is not None:
                self.clock()
                self.server.drain(self.spool, self.wall_s)
                self.all_accounted_for()
                self.spool.close()
        finally:
            shutil.rmtree(self.folder)

    def all_accounted_for(self) -> None:
        """Once everything has arrived, the ledger of each epoch is one range, but for what the server itself lost."""
        assert everything(self.running) == []
        for book in self.running.books().epochs:
            missing = RangeSet.below(book.next) - self.server.settled.get(book.epoch, RangeSet())
            assert {Identity(book.epoch, seq) for seq in missing.members()} <= self.lost_by_server | self.known.vanished
            assert book.held == RangeSet()

    # -- the list

    def look(self) -> Rows:
        """What lies in the file now."""
        connection = self.running._connection
        names = dict(connection.execute("SELECT epoch_no, epoch FROM epochs").fetchall())

        def identity(key: int) -> Identity:
            number, seq = split_id(key)
            return Identity(names[number], seq)

        lost = connection.execute("SELECT batch, reason, readings FROM losses WHERE batch IS NOT NULL").fetchall()
        return Rows(
            frozenset(identity(key) for (key,) in connection.execute("SELECT id FROM batches")),
            {identity(key): (reason, readings) for key, reason, readings in lost},
        )

    def settled(self, rows: Rows) -> set[Identity]:
        """What the spool must take for settled: what it was told, and what gaps name that are."""
        told = self.known.received.keys() | self.known.freed
        for identity in told & rows.present:
            told |= self.known.sealed[identity].names or frozenset()
        return told

    def unsent(self, rows: Rows) -> list[Identity]:
        """What waits to be sent, in order."""
        settled = self.settled(rows)
        return [identity for identity in self.known.sealed if identity in rows.present and identity not in settled]

    def key(self, identity: Identity) -> int:
        (number,) = self.running._connection.execute(
            "SELECT epoch_no FROM epochs WHERE epoch = ?", (identity.epoch,)
        ).fetchone()
        return batch_id(number, identity.seq)

    def seal(self, identity: Identity, sealed: Sealed) -> None:
        assert identity not in self.used
        self.used.add(identity)
        self.known.sealed[identity] = sealed

    # -- what the gateway does

    def append_one(self, readings: int, size: int) -> None:
        batch = body(size, len(self.used))
        self.now_us += 1000
        identity = self.running.append(batch, readings, self.now_us, self.now_us + 10)
        if identity is None:
            assert self.options.when_full == "drop_newest"
            assert not self.look().present & self.settled(self.look()), "settled batches make room first"
            self.known.unsealed["bound"] += readings
        else:
            self.seal(identity, Sealed(readings, batch.crc, self.boot))

    @rule(readings=st.integers(1, 50), size=st.sampled_from([50, 900, 4_000, 30_000]), many=st.integers(1, 8))
    def append(self, readings: int, size: int, many: int) -> None:
        for _ in range(many):
            self.append_one(readings, size)

    @rule(many=st.integers(5, 15))
    def append_in_an_outage(self, many: int) -> None:
        """So much that the spool comes to its bound."""
        for n in range(many):
            self.append_one(n + 1, 30_000)

    @rule(readings=st.integers(1, 50), size=st.sampled_from([50, 30_000]))
    def group(self, readings: int, size: int) -> None:
        """One work of which fails, after it has done something."""

        def fail(spool: Spool) -> None:
            spool.record_loss("overrun", 1_000_000, self.now_us, self.now_us)
            spool.append(body(size, 1), 1, self.now_us, self.now_us)
            raise ZeroDivisionError

        outcomes = self.running.group(
            [lambda _: self.append_one(readings, size), fail, lambda _: self.append_one(readings + 1, 50)]
        )
        assert [type(outcome.error) for outcome in outcomes] == [type(None), ZeroDivisionError, type(None)]

    @rule(readings=st.integers(1, 5))
    def lose(self, readings: int) -> None:
        self.running.record_loss("overrun", readings, self.now_us, self.now_us + 5)
        self.known.unsealed["overrun"] += readings

    @rule()
    def seal_gaps(self) -> None:
        untold = set(self.rows.lost) - self.told_of()
        may = self.boot <= self.known.anchored and not any(self.known.sealed[i].names for i in self.unsent(self.rows))
        made = self.running.seal_gaps()
        assert made or not may or not untold
        for identity in made:
            batch = self.running.load(identity, GATEWAY, 3)
            assert batch is not None
            gaps = decode_gaps(unpack(batch))
            named = {Identity(g.epoch, seq): n for g in gaps for seq, n in enumerate(g.counts, g.first)}
            assert all(named[i] == self.known.sealed[i].readings for i in named)
            assert named.keys() <= untold
            untold -= named.keys()
            self.seal(identity, Sealed(0, batch.body.crc, self.boot, frozenset(named)))
        assert not made or not untold

    def told_of(self) -> set[Identity]:
        """What gap batches name that are in the file."""
        return {i for gap in self.rows.present for i in self.known.sealed[gap].names or ()}

    @rule(at=st.integers(0, 20), gap=st.booleans())
    def refused(self, at: int, gap: bool) -> None:
        """By the broker: one batch of gaps, or any."""
        waiting = [i for i in everything(self.running) if not gap or self.known.sealed[i].names is not None]
        if waiting:
            self.running.drop(waiting[at % len(waiting)], "too_large")

    @rule(hours=st.sampled_from([1, 30, 80]))
    def time_passes(self, hours: int) -> None:
        self.wall_s += hours * 3600
        count = self.running.free_replayed(self.wall_s)
        before = self.rows.present
        self.time_has_passed()
        assert count == len(before - self.look().present)

    def time_has_passed(self) -> None:
        """The replay window of some is over; that of others, settled while the clock was unknown, begins."""
        now = hour_of(self.wall_s)
        here = self.look().present
        for identity, hour in list(self.known.received.items()):
            if hour is None:
                self.known.received[identity] = now
            if hour is None or hour + 1 + WINDOW_H > now:
                assert identity in here or identity not in self.rows.present
            else:
                assert identity not in here
                del self.known.received[identity]
                self.known.freed.add(identity)

    @rule()
    def clock(self) -> None:
        self.running.set_anchor(ANCHOR)
        self.known.anchored = self.boot

    # -- what the server does

    @rule(most=st.integers(1, 30))
    def deliver(self, most: int) -> None:
        self.server.deliver(self.running, most)

    @rule()
    def connected(self) -> None:
        """All goes as it should."""
        self.clock()
        self.seal_gaps()
        self.server.deliver(self.running)
        self.receipt(clock=True)

    @rule(clock=st.booleans())
    def receipt(self, clock: bool) -> None:
        self.stale.append(dict(self.server.settled))
        self.apply(self.server.settled, clock=clock)

    @rule(first=st.integers(0, 40), span=st.integers(1, 10), at=st.integers(0, 9))
    def odd_receipts(self, first: int, span: int, at: int) -> None:
        """Of a part; out of date; of what is not sealed; of another database."""
        window = RangeSet([(first, first + span)])
        self.apply({epoch: ranges & window for epoch, ranges in self.server.settled.items()})
        # What the server has lost since it also takes out of receipts that are still under way: its ledger is new.
        old = self.stale[at % len(self.stale)]
        self.apply({e: r & self.server.settled.get(e, RangeSet()) for e, r in old.items()})
        last = self.running.ends()[-1]
        self.apply({last.epoch: RangeSet([(last.seq, last.seq + 5)]), 1: RangeSet.below(7)})
        with pytest.raises(ForeignLedger):
            self.running.apply_receipt("another", {e.epoch: RangeSet.below(e.seq + 1) for e in self.running.ends()}, 0)

    def apply(self, settled: dict[int, RangeSet], *, clock: bool = True) -> None:
        before = self.running.usage().batches
        count = self.running.apply_receipt(LEDGER, settled, self.wall_s if clock else None)
        assert before - self.running.usage().batches == count
        for identity in self.known.sealed:
            if identity.seq in settled.get(identity.epoch, ()) and identity not in self.known.freed:
                self.known.received.setdefault(identity, hour_of(self.wall_s) if clock else None)

    @rule(at=st.integers(0, 9), busy=st.booleans())
    def server_is_restored(self, at: int, busy: bool) -> None:
        """From a backup; then the audit. busy: it has taken all that there was until now."""
        if busy:
            self.connected()
            self.the_file_is_as_the_list()
        backup = self.stale[at % len(self.stale)]
        now = self.server.settled
        self.server.settled = {e: r & now[e] for e, r in backup.items() if e in now}
        for epoch, ranges in now.items():
            for seq in (ranges - self.server.settled.get(epoch, RangeSet())).members():
                self.lost_by_server.add(Identity(epoch, seq))
        for epoch, ranges in self.running.settled().items():
            self.take_back(epoch, ranges - self.server.settled.get(epoch, RangeSet()))

    def take_back(self, epoch: int, ranges: RangeSet) -> None:
        before = set(self.unsent(self.rows))
        count = self.running.take_back(epoch, ranges)
        for identity in list(self.known.received):
            here = identity in self.rows.present or identity in self.rows.lost
            if identity.epoch == epoch and identity.seq in ranges and here:
                del self.known.received[identity]
        assert before <= set(self.unsent(self.rows))
        assert len(self.unsent(self.rows)) - len(before) == count

    # -- what happens to the file

    @rule(boot=st.booleans(), clean=st.booleans())
    def stop_and_start(self, boot: bool, clean: bool) -> None:
        self.running.close(clean=clean)
        self.boot += boot
        self.open()
        assert self.tells_of_an_unclean_stop() is not clean

    @rule(boot=st.booleans())
    def crash(self, boot: bool) -> None:
        left = self.copied(self.path)
        self.running.close()
        self.path = left
        self.boot += boot
        self.open()
        assert self.tells_of_an_unclean_stop()

    def copied(self, path: Path) -> Path:
        self.copies += 1
        return copy_files(path, self.folder / f"copy-{self.copies}")

    def tells_of_an_unclean_stop(self) -> bool:
        """Whether this opening does."""
        (told,) = self.running._connection.execute(
            "SELECT count(*) FROM losses WHERE reason = 'unclean_stop' AND to_us = ?", (self.now_us,)
        ).fetchone()
        return bool(told)

    @rule()
    def save(self) -> None:
        self.saved = (self.copied(self.path), self.known.copy())

    @precondition(lambda self: self.saved is not None)
    @rule()
    def put_back(self) -> None:
        assert self.saved is not None
        path, known = self.saved
        self.running.close()
        self.path = self.copied(path)
        self.known = known.copy()
        self.rows = Rows()
        self.boot += 1
        self.open()

    @rule(at=st.integers(0, 20), whole_row=st.booleans())
    def rot(self, at: int, whole_row: bool) -> None:
        """A stored batch is not what was written any more: its body, or what stands beside it."""
        waiting = everything(self.running)
        if not waiting:
            return
        identity = waiting[at % len(waiting)]
        change = "readings = readings + 1" if whole_row else "body = zeroblob(length(body))"
        self.running._connection.execute(f"UPDATE batches SET {change} WHERE id = ?", (self.key(identity),))
        assert self.running.load(identity, GATEWAY, 3) is None
        if whole_row:
            self.known.vanished.add(identity)
        else:
            assert self.look().lost[identity] == ("bad_copy", self.known.sealed[identity].readings)

    # -- what must always be so

    @invariant()
    def the_file_is_as_the_list(self) -> None:
        if self.spool is not None:
            self.nothing_leaves_but_settled_or_with_its_loss()
            self.the_books_are_those_of_the_list()
            self.the_totals_are_those_of_the_list()
            self.what_waits_can_be_sent_in_order()

    def nothing_leaves_but_settled_or_with_its_loss(self) -> None:
        before, rows = self.rows, self.look()
        settled = self.settled(rows)
        for identity in before.present - rows.present:
            # With the batch of gaps the losses go that it names: settled for good.
            self.known.freed |= (self.known.sealed[identity].names or frozenset()) if identity in settled else set()
        settled = self.settled(rows)
        for identity in before.present - rows.present:
            assert identity in settled or identity in rows.lost or identity in self.known.vanished
        assert before.lost.keys() - rows.lost.keys() <= settled, "a loss is forgotten before it was told"
        for identity, (_, readings) in rows.lost.items():
            assert readings == self.known.sealed[identity].readings
            assert identity not in rows.present
        self.drops_are_of_the_oldest_or_newest(rows)
        self.rows = rows

    def drops_are_of_the_oldest_or_newest(self, rows: Rows) -> None:
        """And settled batches went first."""
        new = [i for i, (reason, _) in rows.lost.items() if reason == "bound" and i not in self.rows.lost]
        if not new or not self.rows.present:
            return
        kept = [i for i in self.unsent(rows) if self.known.sealed[i].names is None]
        order = list(self.known.sealed)
        if self.options.when_full == "drop_oldest":
            assert max(order.index(i) for i in new) < min((order.index(i) for i in kept), default=len(order))
        assert not rows.present & self.settled(rows) & self.rows.present

    def the_books_are_those_of_the_list(self) -> None:
        rows, settled = self.rows, self.settled(self.rows)
        books = {book.epoch: book for book in self.running.books().epochs}
        told = self.running.settled()
        epochs: dict[int, list[Identity]] = {}
        for identity in self.known.sealed:
            epochs.setdefault(identity.epoch, []).append(identity)
        for epoch, batches in epochs.items():
            if epoch not in books:
                assert set(batches) <= settled | self.known.vanished  # and a window has passed
                assert not rows.present & set(batches)
                continue
            assert books[epoch].next == len(batches)
            assert set(told[epoch].members()) == {i.seq for i in batches if i in settled}
            held = {i for i in batches if (i in rows.present or i in rows.lost) and i not in settled}
            assert set(books[epoch].held.members()) == {i.seq for i in held}
            by_fate = [held, settled & set(batches), (self.known.vanished & set(batches)) - held - settled]
            assert books[epoch].sealed == sum(self.known.sealed[i].readings for fate in by_fate for i in fate)

    def the_totals_are_those_of_the_list(self) -> None:
        usage = self.running.usage()
        whole = usage.whole_file
        assert usage.readings == sum(self.known.sealed[i].readings for i in self.unsent(self.rows))
        assert whole.sealed_readings == sum(batch.readings for batch in self.known.sealed.values())
        vanished = sum(self.known.sealed[i].readings for i in self.known.vanished)
        assert whole.sealed_readings == whole.settled_readings + sum(whole.dropped.values()) + usage.readings + vanished
        assert whole.unsealed == +self.known.unsealed
        assert usage.file_bytes <= self.options.bound_bytes

    def what_waits_can_be_sent_in_order(self) -> None:
        waiting = everything(self.running)
        assert waiting == [i for i in self.unsent(self.rows) if self.known.sealed[i].boot <= self.known.anchored]
        for identity in waiting[:3]:
            batch = self.running.load(identity, GATEWAY, 3)
            assert batch is not None
            sealed = self.known.sealed[identity]
            assert (batch.envelope.readings, batch.body.crc) == (sealed.readings, sealed.crc)


HEALTH = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=60,
    stateful_step_count=35,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=HEALTH,
)


class LongerLives(SpoolMachine):
    """The same, more often and for longer."""


TestLongerLives = pytest.mark.slow(LongerLives.TestCase)
TestLongerLives.settings = settings(TestSpool.settings, max_examples=120, stateful_step_count=80)
