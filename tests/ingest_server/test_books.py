"""The equation, against a ledger of plain Python, with two workers that settle at the same time."""

import asyncio
import copy
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from gateway.link.ranges import RangeSet
from gateway.link.status import EpochBook
from ingest_server.storage.line import liveness
from tests.ingest_server.line import (
    EPOCH,
    GATEWAY,
    books_of,
    data,
    dropped,
    gap,
    open_writer,
    reading,
    running_line,
    status,
    values,
)
from tests.peers.postgres import Database, new_database

EPOCHS = (EPOCH, EPOCH + 1, 7)
STEPS = 12


@dataclass
class Sealed:
    """A batch of the gateway's: what it holds, and what it says of others."""

    payload: bytes
    good: list[float]
    bad: int
    names: tuple[int, int, int] | None = None  # of a gap: epoch, first, end

    @property
    def readings(self) -> int:
        return len(self.good) + self.bad


@dataclass
class Model:
    """The books as they must be. A fate is settled once; only `lost` may turn into another."""

    sealed: dict[int, list[Sealed]] = field(default_factory=lambda: {epoch: [] for epoch in EPOCHS})
    fates: dict[tuple[int, int], str] = field(default_factory=dict)

    def seal(self, draw: random.Random) -> None:
        epoch = draw.choice(EPOCHS)
        seq = len(self.sealed[epoch])
        good = [float(EPOCHS.index(epoch) * 10**6 + seq * 10 + n) for n in range(draw.randrange(1, 5))]
        bad = draw.choice((0, 0, 0, 1, 2))
        held = [reading(v) for v in good] + [reading(float("nan"))] * bad
        payload = data(seq, held, epoch=epoch, before=self.readings(epoch))
        self.sealed[epoch].append(Sealed(payload, good, bad))

    def seal_gap(self, draw: random.Random, not_of: set[tuple[int, int]]) -> Sealed | None:
        """A gap of some seqs, none of which is under way as data in the same moment."""
        about = draw.choice(EPOCHS)
        if not self.sealed[about]:
            return None
        first = draw.randrange(len(self.sealed[about]))
        end = min(first + draw.randrange(1, 4), len(self.sealed[about]))
        if any((about, seq) in not_of for seq in range(first, end)):
            return None
        counts = [self.sealed[about][seq].readings for seq in range(first, end)]
        epoch = draw.choice(EPOCHS)
        seq = len(self.sealed[epoch])
        payload = gap(seq, [dropped(first, counts, epoch=about)], epoch=epoch, before=self.readings(epoch))
        made = Sealed(payload, [], 0, (about, first, end))
        self.sealed[epoch].append(made)
        return made

    def readings(self, epoch: int) -> int:
        return sum(batch.readings for batch in self.sealed[epoch])

    def settle(self, epoch: int, seq: int) -> None:
        """A batch has come, perhaps not for the first time."""
        if not self.is_open(epoch, seq):
            return
        self.fates[epoch, seq] = "written"
        named = self.sealed[epoch][seq].names
        if named is not None:
            about, first, end = named
            for n in range(first, end):
                if self.is_open(about, n):
                    self.fates[about, n] = "dropped"

    def lose(self, epoch: int) -> None:
        for seq in range(len(self.sealed[epoch])):
            self.fates.setdefault((epoch, seq), "lost")

    def is_open(self, epoch: int, seq: int) -> bool:
        return self.fates.get((epoch, seq), "lost") == "lost"

    def seqs(self, epoch: int, *fates: str) -> RangeSet:
        return RangeSet.of(seq for (e, seq), fate in self.fates.items() if e == epoch and fate in fates)

    def unsettled(self, epoch: int) -> RangeSet:
        settled = self.seqs(epoch, "written", "dropped")
        return RangeSet.below(len(self.sealed[epoch])) - settled

    def identities(self) -> Iterator[tuple[int, int]]:
        for epoch, batches in self.sealed.items():
            yield from ((epoch, seq) for seq in range(len(batches)))

    def count(self, fate: str, part: str) -> int:
        held = [self.sealed[e][s] for (e, s), f in self.fates.items() if f == fate]
        return sum(len(b.good) if part == "good" else b.bad if part == "bad" else b.readings for b in held)

    def values(self) -> list[float]:
        return sorted(v for (e, s), f in self.fates.items() if f == "written" for v in self.sealed[e][s].good)


async def heard(database: Database, model: Model, beat: int, holds_nothing_of: int | None = None) -> None:
    """The gateway's book of every epoch."""
    books = [
        EpochBook(
            epoch=epoch,
            next=len(model.sealed[epoch]),
            sealed=model.readings(epoch),
            held=RangeSet() if epoch == holds_nothing_of else model.unsettled(epoch),
        )
        for epoch in EPOCHS
    ]
    async with open_writer(database) as writer:
        number = await writer.catalogue.gateway_id(GATEWAY)
        for n in range(2):
            said = status(*books, beat=beat + n)
            await liveness.hear(writer.connection, number, said, lost_after_s=0, device_silence_s=900)


async def check(database: Database, model: Model) -> None:
    books = await books_of(database)
    assert books.balanced
    assert books.sealed == sum(model.readings(epoch) for epoch in EPOCHS)
    assert books.committed == model.count("written", "good")
    assert books.quarantined == model.count("written", "bad")
    assert books.dropped == model.count("dropped", "all")
    assert books.presumed_lost == model.count("lost", "all")
    assert books.sealed == (books.committed + books.quarantined + books.dropped + books.presumed_lost + books.in_flight)
    for epoch in EPOCHS:
        ((settled, lost),) = database.query(
            "SELECT settled::text, presumed_lost::text FROM iot_service.ledger WHERE epoch = %s", epoch
        )
        assert settled == _text(model.seqs(epoch, "written", "dropped"))
        assert lost == _text(model.seqs(epoch, "lost"))
    assert values(database) == model.values()
    assert database.one("SELECT coalesce(sum(readings), 0) FROM iot_service.quarantine") == books.quarantined
    told = dict(
        database.query(
            "SELECT reason = 'presumed_lost', sum(readings - corrected)::int FROM iot_service.data_gaps GROUP BY 1"
        )
    )
    assert (told.get(False, 0), told.get(True, 0)) == (books.dropped, books.presumed_lost)


def _text(ranges: RangeSet) -> str:
    return "{" + ",".join(f"[{first},{end})" for first, end in ranges) + "}"


@pytest.mark.parametrize("seed", range(4))
async def test_the_books_are_those_of_the_model(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    model = Model()
    with ExitStack() as copies:
        backup: tuple[Database, Model] | None = None
        for step in range(STEPS):
            await one_step(database, model, draw, step)
            if step == STEPS // 3:
                copied = copies.enter_context(new_database(database.server, database.name))
                backup = copied, copy.deepcopy(model)
            if step == 2 * STEPS // 3 and backup is not None:
                # Yesterday's backup is restored. What the gateway has sealed since then it still has, and sends.
                database, fates = backup[0], backup[1].fates
                model.fates = fates
        await drain(database, model)


async def drain(database: Database, model: Model) -> None:
    """All that is open arrives: data as one group, then each gap."""
    still = [i for i in model.identities() if model.is_open(*i)]
    plain = [i for i in still if model.sealed[i[0]][i[1]].names is None]
    groups = [plain, *([i] for i in still if i not in plain)]
    async with running_line(database) as line:
        for group in groups:
            await line.settle(*(model.sealed[epoch][seq].payload for epoch, seq in group))
            for identity in group:
                model.settle(*identity)
    await heard(database, model, 1_000)
    await check(database, model)
    books = await books_of(database)
    assert (books.in_flight, books.presumed_lost) == (0, 0)


async def one_step(database: Database, model: Model, draw: random.Random, step: int) -> None:
    for _ in range(draw.randrange(1, 6)):
        model.seal(draw)
    known = list(model.identities())
    under_way = [draw.sample(known, min(len(known), draw.randrange(6))) for _ in range(2)]
    named = model.seal_gap(draw, {*under_way[0], *under_way[1]})
    payloads = [[model.sealed[e][s].payload for e, s in chosen] for chosen in under_way]
    if named is not None:
        # The same gap may reach both workers; gaps that name each other's seqs would race, as no model can tell.
        payloads[draw.randrange(2)].append(named.payload)
        payloads[draw.randrange(2)].append(named.payload)
    for chosen in under_way:
        # Gaps are repeated only after they were settled: otherwise they would race with what they name.
        chosen[:] = [i for i in chosen if model.sealed[i[0]][i[1]].names is None or not model.is_open(*i)]
    payloads = [
        [p for p in group if p == (named.payload if named else None) or _is_in(model, chosen, p)]
        for group, chosen in zip(payloads, under_way, strict=True)
    ]
    async with running_line(database) as a, running_line(database) as b:
        events = a.feed(*payloads[0]) + b.feed(*payloads[1])
        await asyncio.gather(a.acknowledged(events))
    for identity in {*under_way[0], *under_way[1]}:
        model.settle(*identity)
    if named is not None:
        model.settle(*next((e, s) for e, s in model.identities() if model.sealed[e][s] is named))
    losing = draw.choice((*EPOCHS, None, None, None, None))
    await heard(database, model, 10 * step, losing)
    if losing is not None:
        model.lose(losing)
    await check(database, model)


def _is_in(model: Model, chosen: list[tuple[int, int]], payload: bytes) -> bool:
    return any(model.sealed[e][s].payload == payload for e, s in chosen)
