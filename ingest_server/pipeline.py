"""From deliveries to committed groups, receipts and acknowledgements, in that order.

Invariants kept here (docs/invariants.md): nothing is acknowledged or receipted before COMMIT (4); what waits here is
never the only copy (5): the gateways' spools have it until they see the receipt.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.link import wire
from gateway.link.backoff import FullJitter
from gateway.link.errors import DamagedBatch, UnsupportedVersion
from gateway.link.ranges import RangeSet
from gateway.link.wire import Envelope
from ingest_server.counters import Counters
from ingest_server.errors import BatchRejected, StorageUnavailable
from ingest_server.judging import Opened, is_refused, judge, refused
from ingest_server.receipts import Receipts
from ingest_server.screening import AcceptedTime
from ingest_server.source import Delivery, MqttSource
from ingest_server.storage.line import group
from ingest_server.storage.line.group import Entry, Key, SettledMeanwhile
from ingest_server.storage.line.new_epochs import beyond_bound, unknown_keys
from ingest_server.storage.line.rules import RulesChanged
from ingest_server.storage.line.writer import Writer, WriterOptions

log = logging.getLogger(__name__)

MAX_GROUP_READINGS = 100_000
"""Readings in one transaction: columns and COPY bytes of a group are in memory at once. A gap batch counts as many as
the seqs that it may name."""
MAX_GROUP_BYTES = 8_388_608
"""Bytes of the unpacked bodies of a group: a batch of one reading may unpack to 1 MiB of names or raw frames."""

_MAX_BEGUN = 100_000
# Epochs that are remembered as begun.
_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.2, 10.0

Identity = tuple[str, int, int]
"""(gateway, epoch, seq)"""


class Fate(Enum):
    """What became of a batch: only of the first two do receipts tell."""

    SETTLED = auto()
    DUPLICATE = auto()
    POSTPONED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Settling:
    """What became of a group, over all attempts at it. settled: all that the keys which it touched have settled."""

    fates: dict[Identity, Fate] = field(default_factory=dict)
    settled: dict[Key, RangeSet] = field(default_factory=dict)
    repeated: int = 0
    suspects: set[Identity] = field(default_factory=set)


class Pipeline:
    """One worker: takes what has arrived, settles it as a group, answers, takes the next."""

    def __init__(
        self,
        source: MqttSource,
        writer: WriterOptions,
        receipts: Receipts,
        counters: Counters,
        *,
        group_batches: int,
        gather_s: float,
        retention_days: int,
        wall_us: Callable[[], int],
        clock_s: Callable[[], float],
    ) -> None:
        self._source = source
        self._options = writer
        self._receipts = receipts
        self._counters = counters
        self._group_batches = group_batches
        self._gather_s = gather_s
        self._retention_days = retention_days
        self._wall_us = wall_us
        self._clock_s = clock_s
        self._writer: Writer | None = None
        # Epochs that this connection has seen begun: a group of them need not ask.
        self._begun: set[Key] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; a group that was begun is finished, unless the database is away."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            not_before_s = 0.0
            while not stop.is_set():
                arriving = asyncio.create_task(self._source.batches(self._group_batches, not_before_s), name="batches")
                await asyncio.wait([arriving, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done():
                    arriving.cancel()
                    return
                not_before_s = self._clock_s() + self._gather_s
                await self._settle(arriving.result(), stop)
        finally:
            stopping.cancel()
            await self._close()

    async def _settle(self, deliveries: Sequence[Delivery], stop: asyncio.Event) -> None:
        readings, size, opened = 0, 0, list[Opened]()
        for o in map(self._open, deliveries):
            if o is None:
                continue
            more = o.batch.envelope.readings or wire.MAX_GAP_SEQS
            larger = min(o.batch.body.length, wire.MAX_BODY)
            if opened and (readings + more > MAX_GROUP_READINGS or size + larger > MAX_GROUP_BYTES):
                await self._settle_group(opened, stop)
                readings, size, opened = 0, 0, []
            readings += more
            size += larger
            opened.append(o)
        await self._settle_group(opened, stop)

    async def _settle_group(self, opened: Sequence[Opened], stop: asyncio.Event) -> None:
        backoff = FullJitter(_RETRY_FIRST_S, _RETRY_LONGEST_S)
        retry, done = False, _Settling()
        while opened:
            try:
                if self._writer is None:
                    self._writer = await Writer.open(self._options)
                settled = await self._write(self._writer, opened, done, retry=retry)
                break
            except StorageUnavailable as error:
                # Its outcome may be unknown (cut within COMMIT): the next attempt asks the ledger first.
                retry = True
                self._counters.storage_retries += 1
                log.warning("database: %s; nothing is acknowledged, trying again", error)
                await self._close()
                if stop.is_set():
                    return
                await _sleep_unless(stop, backoff.next_s())
        else:
            return
        self._count(done)
        now = self._clock_s()
        self._counters.latencies_s.extend(now - o.delivery.arrived_s for o in opened)
        self._receipts.send(opened_keys(opened), settled)
        for o in opened:
            o.delivery.ack()

    def _count(self, done: _Settling) -> None:
        fates = list(done.fates.values())
        self._counters.settled += fates.count(Fate.SETTLED)
        self._counters.duplicates += fates.count(Fate.DUPLICATE) + done.repeated
        self._counters.postponed += fates.count(Fate.POSTPONED)
        self._counters.refused += fates.count(Fate.REFUSED)

    def _open(self, delivery: Delivery) -> Opened | None:
        try:
            return Opened(delivery, wire.decode(delivery.payload, delivery.gateway))
        except DamagedBatch as error:
            self._counters.damaged += 1
            if _worth_a_line(self._counters.damaged):
                log.warning(
                    "damaged batch from %s: %s; the gateway sends it again (%d so far)",
                    delivery.gateway,
                    error,
                    self._counters.damaged,
                )
        except UnsupportedVersion as error:
            self._counters.unsupported += 1
            if _worth_a_line(self._counters.unsupported):
                log.error("%s: %s; its spool holds the batch until this server is upgraded", delivery.gateway, error)
        delivery.ack()
        return None

    async def _write(
        self, writer: Writer, opened: Sequence[Opened], done: _Settling, *, retry: bool
    ) -> dict[tuple[str, int], RangeSet]:
        """Settles every batch that can be; what is settled then, by (gateway, epoch). retry: after an outage."""
        await writer.catalogue.confirm(self._receipts.ledger_id)
        numbers = await self._numbers(writer, opened, done)
        # (a) A redelivery inside one group is one batch.
        unique: dict[Identity, Opened] = {}
        again: list[Key] = []
        for o in opened:
            e = o.batch.envelope
            if e.gateway in numbers and unique.setdefault(identity(e), o) is not o:
                again.append((numbers[e.gateway], e.epoch))
        done.repeated = len(again)
        keys = {(numbers[gateway], epoch) for gateway, epoch, _ in unique}
        while unique:
            # (b) What the ledger has already is left out before it is unpacked.
            named = list(unique)
            before = await group.settled_positions(writer.connection, [(numbers[g], e, s) for g, e, s in named])
            for gateway, epoch, seq in (named[n] for n in before):
                del unique[gateway, epoch, seq]
                # After an outage nobody has sent it again: an attempt of ours has got through after all.
                fate = done.fates.setdefault((gateway, epoch, seq), Fate.SETTLED if retry else Fate.DUPLICATE)
                if fate is Fate.DUPLICATE:
                    again.append((numbers[gateway], epoch))
            try:
                await self._settle_fresh(writer, [(numbers[g], o) for (g, _, _), o in unique.items()], done)
                break
            except (SettledMeanwhile, RulesChanged):
                self._counters.conflicts += 1
        if again:
            await group.count_duplicates(writer.connection, again)
        if keys - done.settled.keys():
            done.settled |= await group.read_settled(writer.connection, sorted(keys - done.settled.keys()))
        names = {number: name for name, number in numbers.items()}
        return {(names[number], epoch): settled for (number, epoch), settled in done.settled.items()}

    async def _numbers(self, writer: Writer, opened: Sequence[Opened], done: _Settling) -> dict[str, int]:
        """The number of each gateway; those that the database refuses to make are left out."""
        numbers: dict[str, int] = {}
        for gateway in dict.fromkeys(o.delivery.gateway for o in opened):
            try:
                numbers[gateway] = await writer.catalogue.gateway_id(gateway)
            except BatchRejected as error:
                # Without a number there is nothing that its batches could be entered under, in quarantine either.
                own = [identity(o.batch.envelope) for o in opened if o.delivery.gateway == gateway]
                self._leave(own, Fate.REFUSED, done, f"the database refuses the gateway: {error}")
        return numbers

    async def _settle_fresh(self, writer: Writer, fresh: Sequence[tuple[int, Opened]], done: _Settling) -> None:
        if not fresh:
            return
        accepted = AcceptedTime.at(self._wall_us(), self._retention_days)
        entries = await self._admitted(writer, await judge(writer, fresh, accepted, self._clock_s()), done)
        if entries:
            await self._write_entries(writer, entries, done)

    async def _admitted(self, writer: Writer, entries: list[Entry], done: _Settling) -> list[Entry]:
        """Those whose gateway may begin the epochs that they name; the others their gateways send again."""
        named = [{e.key, *((e.gateway_id, g.epoch) for g in e.gaps if g.epoch)} for e in entries]
        wanted = set().union(*named)
        if wanted <= self._begun:
            return entries
        new = await unknown_keys(writer.connection, list(wanted))
        beyond = set(await beyond_bound(writer.connection, new, self._options.new_epochs_per_hour))
        late = [identity(e.envelope) for e, keys in zip(entries, named, strict=True) if keys & beyond]
        if late:
            why = f"it begins more than {self._options.new_epochs_per_hour} epochs in an hour"
            self._leave(late, Fate.POSTPONED, done, why)
        if len(self._begun) > _MAX_BEGUN:
            self._begun.clear()
        self._begun |= wanted - beyond
        return [e for e, keys in zip(entries, named, strict=True) if not keys & beyond]

    async def _write_entries(
        self, writer: Writer, entries: Sequence[Entry], done: _Settling, *, again: bool = False
    ) -> None:
        try:
            written = await group.write_group(writer.connection, writer.partitions, entries, self._options.quarantine)
        except BatchRejected as error:
            if not again:
                # A partition that an operator detached is refused like a bad row: look again before anybody is blamed.
                writer.partitions.forget()
                await self._write_entries(writer, entries, done, again=True)
            elif len(entries) > 1:
                # One poisons the group: it is searched by halves, so that the others commit.
                half = len(entries) // 2
                await self._write_entries(writer, entries[:half], done, again=True)
                await self._write_entries(writer, entries[half:], done, again=True)
            elif not is_refused(entries[0]):
                log.error("the database refuses a batch: %s; it goes to quarantine", error)
                await self._write_entries(writer, [refused(entries[0], str(error))], done, again=True)
            else:
                self._give_up(entries[0], error, done)
            return
        done.settled |= written.settled
        done.fates |= {identity(e.envelope): Fate.SETTLED for e in entries}
        self._counters.groups += 1
        self._counters.committed += written.committed
        self._counters.quarantined += written.quarantined
        self._counters.dropped += written.dropped

    def _give_up(self, entry: Entry, error: BatchRejected, done: _Settling) -> None:
        """For a batch that cannot be kept anywhere: tried once more on another connection, then left to its gateway."""
        this = identity(entry.envelope)
        if this not in done.suspects:
            done.suspects.add(this)
            # It may be what this connection believes that is refused, such as the number of a gateway that an
            # operator has deleted: the next connection asks anew.
            raise StorageUnavailable(f"cannot even quarantine: {error}") from error
        self._leave([this], Fate.REFUSED, done, f"the database refuses even to quarantine: {error}")

    def _leave(self, batches: Sequence[Identity], fate: Fate, done: _Settling, why: str) -> None:
        """Batches that are not settled: the broker forgets them, the gateway's spool holds them."""
        so_far = self._counters.refused + self._counters.postponed
        done.fates |= dict.fromkeys(batches, fate)
        if _worth_a_line(so_far + 1):
            log.error("%s: %s; %d batches wait in its spool", batches[0][0], why, len(batches))

    async def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._begun.clear()
            await writer.close()


def _worth_a_line(count: int) -> bool:
    """The first ten, then ever more rarely: a gateway that repeats itself must not flood the journal."""
    return count <= 10 or count & (count - 1) == 0


def identity(e: Envelope) -> Identity:
    return e.gateway, e.epoch, e.seq


def opened_keys(opened: Sequence[Opened]) -> dict[tuple[str, int], RangeSet]:
    """The seqs of a group, by (gateway, epoch)."""
    seqs: dict[tuple[str, int], list[int]] = {}
    for o in opened:
        seqs.setdefault((o.delivery.gateway, o.batch.envelope.epoch), []).append(o.batch.envelope.seq)
    return {key: RangeSet.of(s) for key, s in seqs.items()}


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
