"""The ledger under workers that settle overlapping batches at the same time, interleaved round trip by round trip.

What must hold whatever the order and the faults: the rows of each settled batch are in the table exactly once, or it
is named by one gap; the counters are the sums of what is there; a receipt or an acknowledgement is of something that
was committed before. Plans that once failed are kept as examples.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from device_drivers.reading import Series
from gateway.link.ranges import RangeSet
from gateway.link.receipts import Receipt
from gateway.link.status import EpochBook, parse
from gateway.link.wire import Gap
from ingest_server import pipeline as pipeline_module
from ingest_server.counters import Counters
from ingest_server.errors import StorageUnavailable
from ingest_server.pipeline import Pipeline
from ingest_server.receipts import Receipts
from ingest_server.storage import connection as connection_module
from ingest_server.storage.line import liveness
from ingest_server.storage.line.quarantine_bound import QuarantineBound
from ingest_server.storage.line.writer import Writer
from tests.ingest_server.interleaving import Fault, Interleaving, Stepped
from tests.ingest_server.line import (
    NOW_US,
    RETENTION_DAYS,
    TOPICS,
    HandFed,
    data,
    gap,
    reading,
    running_line,
    status,
    writer_options,
)
from tests.peers.postgres import Database

EPOCHS = (11, 22)
GROUP = 3
"""Batches that one transaction settles at most."""


@dataclass(frozen=True)
class Data:
    """Seal a batch with so many good readings, and so many that go to quarantine."""

    epoch: int = 0
    good: int = 1
    bad: int = 0


@dataclass(frozen=True)
class Dropped:
    """Seal a gap that names sealed batches of data, as far as there are such: `count` from `first` on."""

    about: int = 0
    first: int = 0
    count: int = 1
    epoch: int = 0


@dataclass(frozen=True)
class Plan:
    """A whole run.

    work: for each worker the batches, by their place in `sealed`, that reach it. order: whose turn is next, modulo how
    many could go. faults: from which turn on what befalls whoever has that turn. heard: a heartbeat beside the
    workers, of a gateway that holds nothing of this epoch. restored: what was done by the workers' second round is
    taken back. room: entries that fit into quarantine.
    """

    sealed: tuple[Data | Dropped, ...]
    work: tuple[tuple[int, ...], ...]
    order: tuple[int, ...] = ()
    faults: tuple[tuple[int, Fault], ...] = ()
    heard: int | None = None
    restored: bool = False
    room: int = 100


@dataclass(frozen=True)
class Sealed:
    """A batch of the gateway's. names: of a gap: epoch, first seq, end."""

    epoch: int
    seq: int
    payload: bytes
    good: tuple[float, ...]
    bad: int
    names: tuple[int, int, int] | None = None

    @property
    def readings(self) -> int:
        return len(self.good) + self.bad


_runs = itertools.count(1)


class Gateway:
    """One that has sealed what a plan says. Each run has one of its own: they share a database."""

    def __init__(self, steps: Sequence[Data | Dropped]) -> None:
        number = next(_runs)
        self.name = f"model/{number}"
        self.series = Series(f"device-{number}", "t", "temperature", "°C", "p", "1")
        self.batches: list[Sealed] = []
        for step in steps:
            self._seal(step)

    def of(self, epoch: int) -> list[Sealed]:
        return [b for b in self.batches if b.epoch == epoch]

    def book(self, epoch: int, held: RangeSet) -> EpochBook:
        own = self.of(epoch)
        return EpochBook(epoch=epoch, next=len(own), sealed=sum(b.readings for b in own), held=held)

    def _seal(self, step: Data | Dropped) -> None:
        epoch = EPOCHS[step.epoch]
        seq, before = len(self.of(epoch)), sum(b.readings for b in self.of(epoch))
        if isinstance(step, Data):
            good = tuple(float(100 * len(self.batches) + n) for n in range(step.good))
            values = (*good, *[float("nan")] * step.bad)
            held = [reading(v, NOW_US + n, self.series) for n, v in enumerate(values)]
            payload = data(seq, held, before=before, epoch=epoch, gateway=self.name)
            self.batches.append(Sealed(epoch, seq, payload, good, step.bad))
            return
        about = self.of(EPOCHS[step.about])
        named = list(itertools.takewhile(lambda b: b.names is None, about[step.first :][: step.count]))
        gaps = [Gap("bound", EPOCHS[step.about], step.first, tuple(b.readings for b in named), 0, None, None)]
        payload = gap(seq, gaps if named else [], before=before, epoch=epoch, gateway=self.name)
        names = (EPOCHS[step.about], step.first, step.first + len(named))
        self.batches.append(Sealed(epoch, seq, payload, (), 0, names))


class Books:
    """What the database holds of one gateway, as everybody else sees it at this moment."""

    def __init__(self, monitor: psycopg.Connection[TupleRow], gateway: Gateway) -> None:
        self.monitor = monitor
        self._gateway = gateway

    def run(self, statement: str) -> None:
        """`%(name)s` in it is the gateway."""
        self.monitor.execute(statement.encode(), {"name": self._gateway.name})

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.monitor.execute(statement.encode(), {"name": self._gateway.name}).fetchall()

    def settled(self) -> set[tuple[int, int]]:
        rows = self.query(f"SELECT epoch, lower(r), upper(r) FROM {OF_LEDGER}, unnest(settled) AS r WHERE {OURS}")
        return {(epoch, seq) for epoch, first, end in rows for seq in range(first, end)}

    def check(self) -> None:
        """Every invariant, at any moment at which nobody is in the middle of a transaction, and at others."""
        rows = Counter(value for (value,) in self.query(f"SELECT value FROM {OF_READINGS} WHERE {OURS}"))
        settled = self.settled()
        named = Counter(
            (epoch, seq)
            for epoch, first, end in self.query(
                f"SELECT epoch, lower(r), upper(r) FROM {OF_GAPS}, unnest(seqs) AS r WHERE {OURS} AND reason = 'bound'"
            )
            for seq in range(first, end)
        )
        apart: Counter[tuple[int, int]] = Counter()
        for epoch, seq, readings in self.query(f"SELECT epoch, seq, readings FROM {OF_QUARANTINE} WHERE {OURS}"):
            apart[epoch, seq] += readings
        for batch in self._gateway.batches:
            key = batch.epoch, batch.seq
            written = [rows.pop(value, 0) for value in batch.good]
            if key not in settled:
                assert not any(written), f"{key} has rows and is not settled"
                assert not apart[key], f"{key} is in quarantine and is not settled"
                assert not named[key], f"{key} is named by a gap and is not settled"
            elif batch.names is None:
                assert named[key] <= 1, f"{key} is dropped twice"
                expected = 0 if named[key] else 1
                assert written == [expected] * len(batch.good), f"{key} has rows {written}, {named[key]} gaps"
                assert apart[key] <= (0 if named[key] else batch.bad)
        assert not rows, f"rows of nothing that was sealed: {rows}"
        self._check_counters(settled)

    def _check_counters(self, settled: set[tuple[int, int]]) -> None:
        sums = ", ".join(f"COALESCE(sum({part}), 0)::int" for part in ("committed", "quarantined", "dropped", "lost"))
        ((committed, quarantined, dropped, lost),) = self.query(f"SELECT {sums} FROM {OF_LEDGER} WHERE {OURS}")
        assert self._sum(f"count(*) FROM {OF_READINGS} WHERE {OURS}") == committed
        assert self._sum(f"sum(readings) FROM {OF_QUARANTINE} WHERE {OURS}") == quarantined
        gaps = f"FROM {OF_GAPS} WHERE {OURS} AND reason"
        assert self._sum(f"sum(readings) {gaps} <> 'presumed_lost'") == dropped
        assert self._sum(f"sum(readings - corrected) {gaps} = 'presumed_lost'") == lost
        presumed = {
            (epoch, seq)
            for epoch, first, end in self.query(
                f"SELECT epoch, lower(r), upper(r) FROM {OF_LEDGER}, unnest(presumed_lost) AS r WHERE {OURS}"
            )
            for seq in range(first, end)
        }
        assert not presumed & settled
        assert lost == sum(b.readings for b in self._gateway.batches if (b.epoch, b.seq) in presumed)

    def _sum(self, what: str) -> int:
        return int(self.query(f"SELECT COALESCE(({'SELECT ' + what}), 0)::int")[0][0])

    def check_all_settled(self) -> None:
        assert self.settled() == {(b.epoch, b.seq) for b in self._gateway.batches}
        ((balanced, in_flight, lost),) = self.query(
            "SELECT balanced, in_flight, presumed_lost FROM iot_service.books WHERE gateway = %(name)s"
        )
        assert (balanced, in_flight, lost) == (True, 0, 0)


OURS = "gateway_id = (SELECT gateway_id FROM iot_service.gateways WHERE name = %(name)s)"
OF_LEDGER, OF_GAPS, OF_QUARANTINE = "iot_service.ledger", "iot_service.data_gaps", "iot_service.quarantine"
OF_READINGS = (
    "iot_service.sensor_readings JOIN iot_service.series USING (series_id)"
    " JOIN (SELECT device_id, home_gateway_id AS gateway_id FROM iot_service.iot_devices) d USING (device_id)"
)


class Backup:
    """The rows of one gateway at a moment, put back as a restore does: newer ones are gone."""

    TABLES = ("ledger", "data_gaps", "quarantine")

    def __init__(self, books: Books) -> None:
        self._books = books
        for table in self.TABLES:
            # Without what PostgreSQL generates, which a restore does not write either.
            ((names,),) = books.query(
                "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attgenerated = '' AND NOT attisdropped"
                f" AND attnum > 0 AND attrelid = 'iot_service.{table}'::regclass"
            )
            books.run(f"CREATE TEMP TABLE kept_{table} AS SELECT {names} FROM iot_service.{table} WHERE {OURS}")
        books.run(f"CREATE TEMP TABLE kept_readings AS SELECT series_id, value FROM {OF_READINGS} WHERE {OURS}")

    def put_back(self) -> None:
        run = self._books.run
        series = (
            f"SELECT series_id FROM iot_service.series JOIN iot_service.iot_devices USING (device_id) WHERE home_{OURS}"
        )
        with self._books.monitor.transaction():
            run(
                f"DELETE FROM iot_service.sensor_readings r WHERE series_id IN ({series}) AND NOT EXISTS"
                " (SELECT FROM kept_readings k WHERE k.series_id = r.series_id AND k.value = r.value)"
            )
            for table in self.TABLES:
                ((names,),) = self._books.query(
                    "SELECT string_agg(attname, ', ') FROM pg_attribute"
                    f" WHERE attnum > 0 AND attrelid = 'kept_{table}'::regclass"
                )
                run(f"DELETE FROM iot_service.{table} WHERE {OURS}")
                run(
                    f"INSERT INTO iot_service.{table} ({names}) OVERRIDING SYSTEM VALUE"
                    f" SELECT {names} FROM kept_{table}"
                )
        for table in (*self.TABLES, "readings"):
            run(f"DROP TABLE kept_{table}")


class Worker:
    """A pipeline that takes part, and what it says to broker and gateway."""

    def __init__(self, database: Database, books: Books, ledger: str, room: int) -> None:
        self._books = books
        self.source = HandFed()
        self.open: list[Sealed] = []
        self.stop = asyncio.Event()
        counters = Counters()
        self._pipeline = Pipeline(
            self.source,
            writer_options(database, bound=QuarantineBound(entries=room)),
            Receipts(self._publish, TOPICS, ledger, counters),
            counters,
            group_batches=GROUP,
            gather_s=0,
            retention_days=RETENTION_DAYS,
            wall_us=lambda: NOW_US,
            clock_s=lambda: 0.0,
        )

    async def run(self) -> None:
        await self._pipeline.run(self.stop)

    def busy(self) -> bool:
        return bool(self.open)

    def feed(self, batch: Sealed, topic: str) -> None:
        self.open.append(batch)
        self.source.deliver(topic, batch.payload, lambda: self._acknowledged(batch))

    def _acknowledged(self, batch: Sealed) -> None:
        assert (batch.epoch, batch.seq) in self._books.settled(), "acknowledged before COMMIT"
        self.open.remove(batch)

    def _publish(self, _topic: str, payload: bytes) -> bool:
        named = {(e.epoch, seq) for e in parse(Receipt, payload).epochs for seq in e.settled.members()}
        assert named <= self._books.settled(), "a receipt names what is not committed"
        return True


async def play(database: Database, plan: Plan) -> None:
    """Runs the plan and checks the books after each round of it."""
    gateway = Gateway(plan.sealed)
    with psycopg.connect(database.dsn, autocommit=True) as monitor, pytest.MonkeyPatch.context() as patch:
        books = Books(monitor, gateway)
        patch.setattr(connection_module, "AsyncConnection", Stepped)
        patch.setattr(pipeline_module, "_RETRY_FIRST_S", 1e-4)
        patch.setattr(pipeline_module, "_RETRY_LONGEST_S", 1e-3)
        await one_round(database, plan, gateway, books)
        books.check()
        if plan.restored:
            backup = Backup(books)
            # Everything arrives; then the database is as it was before.
            await drain(database, gateway, plan.room)
            books.check_all_settled()
            backup.put_back()
            books.check()
            await one_round(database, plan, gateway, books)
            books.check()
        await drain(database, gateway, plan.room)
        books.check()
        books.check_all_settled()


async def one_round(database: Database, plan: Plan, gateway: Gateway, books: Books) -> None:
    """The workers of the plan, and the heartbeat beside them."""
    ledger = str(database.one("SELECT ledger_id FROM iot_service.ledger_identity"))
    workers = [Worker(database, books, ledger, plan.room) for _ in plan.work]
    interleaving = Interleaving(books.monitor)
    for n, (worker, places) in enumerate(zip(workers, plan.work, strict=True)):
        for place in places:
            worker.feed(gateway.batches[place % len(gateway.batches)], TOPICS.batch(gateway.name))
        interleaving.start(f"worker {n}", worker.run(), worker.busy)
    if plan.heard is not None:
        heartbeat = hear(database, gateway, EPOCHS[plan.heard])
        interleaving.start("heartbeat", heartbeat, lambda: True)
    faults = dict(plan.faults)
    await interleaving.run(chooser(plan.order), faults.get)
    for worker in workers:
        worker.stop.set()
    await interleaving.finish()
    assert interleaving.deadlocks == []


def chooser(order: Sequence[int]) -> Callable[[int], int]:
    turns = iter(order)
    return lambda ready: next(turns, 0) % ready


async def hear(database: Database, gateway: Gateway, holds_nothing_of: int) -> None:
    """Three heartbeats: the first notices that something is missing, the next presumes it lost."""
    try:
        writer = await Writer.open(writer_options(database))
    except StorageUnavailable:
        return
    try:
        number = await writer.catalogue.gateway_id(gateway.name)
        for beat in range(3):
            listed = [
                gateway.book(e, RangeSet() if e == holds_nothing_of else RangeSet.below(len(gateway.of(e))))
                for e in EPOCHS
            ]
            said = status(*listed, beat=beat, instance=beat + 1)
            await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=900)
    except StorageUnavailable:
        return  # A status that cannot be entered is dropped: it repeats.
    finally:
        await writer.close()


async def drain(database: Database, gateway: Gateway, room: int) -> None:
    """The gateway sends everything again, as it does for as long as it has no receipt."""
    async with running_line(database, bound=QuarantineBound(entries=room)) as line:
        await line.settle(*(b.payload for b in gateway.batches), gateway=gateway.name)


small = st.integers(0, 3)
steps = st.one_of(
    st.builds(Data, st.integers(0, 1), st.integers(1, 3), st.sampled_from((0, 0, 0, 1))),
    st.builds(Dropped, st.integers(0, 1), small, st.integers(1, 3), st.integers(0, 1)),
)
plans = st.builds(
    Plan,
    sealed=st.lists(steps, min_size=1, max_size=6).map(tuple),
    work=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple), min_size=2, max_size=3).map(tuple),
    order=st.lists(st.integers(0, 5), max_size=70).map(tuple),
    faults=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(Fault)), max_size=2).map(tuple),
    heard=st.one_of(st.none(), st.integers(0, 1)),
    restored=st.booleans(),
    room=st.sampled_from((100, 100, 1)),
)

QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
LONG = settings(QUICK, max_examples=250, derandomize=False, print_blob=True)


TURN_BY_TURN = (0, 1) * 40


@QUICK
# The same batch reaches two workers, and one of them twice.
@example(Plan((Data(good=2),), ((0,), (0, 0)), TURN_BY_TURN))
# What one worker drops, another writes.
@example(Plan((Data(), Data(), Dropped(count=2)), ((0, 1), (2,)), TURN_BY_TURN))
@example(Plan((Data(), Dropped(epoch=1), Data(1)), ((1, 2), (0, 2)), TURN_BY_TURN, heard=0))
# Each fault where it does most harm, while another worker has the same batches.
@example(Plan((Data(), Data(bad=1)), ((0, 1), (1, 0)), (0,) * 99, ((0, Fault.CUT_AT_COMMIT),)))
@example(Plan((Data(), Data(bad=1)), ((0, 1), (1, 0)), (0,) * 99, ((0, Fault.LOSE_ANSWER),)))
@example(Plan((Data(), Data(bad=1)), ((0, 1), (1, 0)), TURN_BY_TURN, ((20, Fault.DIE_AT_COMMIT),)))
@example(Plan((Data(), Data(bad=1)), ((0, 1), (1, 0)), TURN_BY_TURN, ((20, Fault.DIE_AFTER_COMMIT),)))
# A presumed loss arrives while it is presumed; the last place in quarantine is wanted twice; all of it is taken back.
@example(Plan((Data(), Data(bad=1), Data(1, bad=1)), ((0, 1), (2,)), TURN_BY_TURN, heard=0, restored=True, room=1))
@given(plan=plans)
def test_whatever_the_order_each_batch_is_settled_once(database: Database, plan: Plan) -> None:
    asyncio.run(play(database, plan))


@pytest.mark.slow
@LONG
@given(plan=plans)
def test_whatever_the_order_each_batch_is_settled_once_at_length(database: Database, plan: Plan) -> None:
    asyncio.run(play(database, plan))
