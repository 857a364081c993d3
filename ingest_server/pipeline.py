"""From deliveries to committed groups, receipts and acknowledgements, in that order.

Invariants kept here (docs/invariants.md): nothing is acknowledged or receipted before COMMIT (4); what waits here is
never the only copy (5): the gateways' spools have it until they see the receipt.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.link import wire
from gateway.link.backoff import FullJitter
from gateway.link.errors import DamagedBatch, UnsupportedVersion, UnusableBatch
from gateway.link.ranges import RangeSet
from gateway.link.wire import Batch
from ingest_server.counters import Counters
from ingest_server.decoder import Columns, open_body
from ingest_server.errors import BatchRejected, StorageUnavailable
from ingest_server.receipts import Receipts
from ingest_server.screening import AcceptedTime, screen
from ingest_server.source import Delivery, MqttSource
from ingest_server.storage import group
from ingest_server.storage.catalogue import Table
from ingest_server.storage.group import Entry, Key, Rejection, SettledMeanwhile
from ingest_server.storage.liveness import held_instances
from ingest_server.storage.writer import Writer, WriterOptions

log = logging.getLogger(__name__)

MAX_GROUP_READINGS = 100_000
"""Readings in one transaction: columns and COPY bytes of a group are in memory at once. A gap batch counts as many as
the seqs that it may name."""
MAX_GROUP_BYTES = 8_388_608
"""Bytes of the unpacked bodies of a group: a batch of one reading may unpack to 1 MiB of names or raw frames."""

_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.2, 10.0
_DETAIL = 200
_REFUSED = "refused_by_database"


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery whose envelope has been read."""

    delivery: Delivery
    batch: Batch


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
        retention_days: int,
        wall_us: Callable[[], int],
        clock_s: Callable[[], float],
    ) -> None:
        self._source = source
        self._options = writer
        self._receipts = receipts
        self._counters = counters
        self._group_batches = group_batches
        self._retention_days = retention_days
        self._wall_us = wall_us
        self._clock_s = clock_s
        self._writer: Writer | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; a group that was begun is finished, unless the database is away."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            while not stop.is_set():
                arriving = asyncio.create_task(self._source.batches(self._group_batches), name="batches")
                await asyncio.wait([arriving, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done():
                    arriving.cancel()
                    return
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
        retry = False
        while opened:
            try:
                if self._writer is None:
                    self._writer = await Writer.open(self._options)
                settled = await self._write(self._writer, opened, count_duplicates=not retry)
                break
            # BatchRejected, this far up, is no batch's fault: names were refused that the wire allows.
            except (StorageUnavailable, BatchRejected) as error:
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
        now = self._clock_s()
        self._counters.latencies_s.extend(now - o.delivery.arrived_s for o in opened)
        self._counters.batches += len(opened)
        self._receipts.send(opened_keys(opened), settled)
        for o in opened:
            o.delivery.ack()

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
        self, writer: Writer, opened: Sequence[Opened], *, count_duplicates: bool
    ) -> dict[tuple[str, int], RangeSet]:
        """Settles every batch; what is settled then, by (gateway, epoch)."""
        await writer.catalogue.confirm(self._receipts.ledger_id)
        numbers = {o.delivery.gateway: await writer.catalogue.gateway_id(o.delivery.gateway) for o in opened}
        names = {number: name for name, number in numbers.items()}
        # (a) A redelivery inside one group is one batch.
        unique: dict[tuple[int, int, int], Opened] = {}
        for o in opened:
            e = o.batch.envelope
            unique.setdefault((numbers[e.gateway], e.epoch, e.seq), o)
        result: dict[Key, RangeSet] = {}
        duplicate_keys = [numbers_key(o, numbers) for o in opened if unique[identity(o, numbers)] is not o]
        while True:
            # (b) What the ledger has already is left out before it is unpacked.
            identities = list(unique)
            before = await group.settled_positions(writer.connection, identities)
            duplicate_keys += [identities[n][:2] for n in before]
            for n in before:
                del unique[identities[n]]
            if not unique:
                break
            try:
                entries = await self._entries(writer, list(unique.items()))
                result |= await self._write_entries(writer, entries)
                break
            except SettledMeanwhile:
                self._counters.conflicts += 1
        if duplicate_keys:
            if count_duplicates:
                self._counters.duplicates += len(duplicate_keys)
                await group.count_duplicates(writer.connection, duplicate_keys)
            open_keys = sorted(set(duplicate_keys) - set(result))
            if open_keys:
                result |= await group.read_settled(writer.connection, open_keys)
        return {(names[number], epoch): settled for (number, epoch), settled in result.items()}

    async def _entries(self, writer: Writer, fresh: Sequence[tuple[tuple[int, int, int], Opened]]) -> list[Entry]:
        held = await held_instances(writer.connection)
        bodies: dict[int, Columns | list[wire.Gap] | UnusableBatch] = {}
        for n, (_, o) in enumerate(fresh):
            try:
                bodies[n] = open_body(o.batch)
            except UnusableBatch as error:
                bodies[n] = error
        # A box that is held back claims no devices. Its gaps are taken: they name epochs of its own alone, and what is
        # in quarantine as a gap could never be released.
        apart = {
            n
            for n, ((number, _, _), o) in enumerate(fresh)
            if (number, o.batch.envelope.instance) in held and not isinstance(bodies[n], list)
        }
        wanted = [
            (fresh[n][1].delivery.gateway, body.table)
            for n, body in bodies.items()
            if isinstance(body, Columns) and n not in apart
        ]
        tables = await writer.catalogue.tables(wanted, self._clock_s())
        accepted = AcceptedTime.at(self._wall_us(), self._retention_days)
        entries = []
        for n, ((number, _, _), o) in enumerate(fresh):
            body = bodies[n]
            if n in apart:
                entries.append(_whole(number, o, "identity_conflict", "another box speaks under this name"))
            elif isinstance(body, UnusableBatch):
                entries.append(_whole(number, o, "unusable", str(body)))
            elif isinstance(body, Columns):
                table = tables[o.delivery.gateway, body.table]
                entries.append(_data(number, o, body, table, accepted))
            else:
                entries.append(Entry(number, o.batch.envelope, o.delivery.payload, gaps=tuple(body)))
        return entries

    async def _write_entries(
        self, writer: Writer, entries: Sequence[Entry], *, again: bool = False
    ) -> dict[Key, RangeSet]:
        try:
            settled = await group.write_group(writer.connection, writer.partitions, entries)
        except BatchRejected as error:
            if not again:
                # A partition that an operator detached is refused like a bad row: look again before anybody is blamed.
                writer.partitions.forget()
                return await self._write_entries(writer, entries, again=True)
            if len(entries) == 1:
                if _is_refused(entries[0]):
                    # It is not the content that is refused, but what this connection believes, such as the number of
                    # a gateway that an operator has deleted: the next connection asks anew.
                    raise StorageUnavailable(f"cannot even quarantine: {error}") from error
                log.error("the database refuses a batch: %s; it goes to quarantine", error)
                return await self._write_entries(writer, [_refused(entries[0], str(error))])
            # One poisons the group: each on its own, so that the others commit.
            settled = {}
            for entry in entries:
                settled |= await self._write_entries(writer, [entry], again=True)
            return settled
        self._counters.groups += 1
        self._counters.committed += sum(len(e.rows) for e in entries if e.rows is not None)
        self._counters.quarantined += sum(r.readings for e in entries for r in e.rejections)
        return settled

    async def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close()


def _worth_a_line(count: int) -> bool:
    """The first ten, then ever more rarely: a gateway that repeats itself must not flood the journal."""
    return count <= 10 or count & (count - 1) == 0


def identity(o: Opened, numbers: dict[str, int]) -> tuple[int, int, int]:
    e = o.batch.envelope
    return numbers[e.gateway], e.epoch, e.seq


def numbers_key(o: Opened, numbers: dict[str, int]) -> Key:
    return identity(o, numbers)[:2]


def opened_keys(opened: Sequence[Opened]) -> dict[tuple[str, int], RangeSet]:
    """The seqs of a group, by (gateway, epoch)."""
    seqs: dict[tuple[str, int], list[int]] = {}
    for o in opened:
        seqs.setdefault((o.delivery.gateway, o.batch.envelope.epoch), []).append(o.batch.envelope.seq)
    return {key: RangeSet.of(s) for key, s in seqs.items()}


def _whole(number: int, o: Opened, reason: str, detail: str) -> Entry:
    rejection = Rejection(reason, detail[:_DETAIL], o.batch.envelope.readings, None)
    return Entry(number, o.batch.envelope, o.delivery.payload, rejections=(rejection,))


def _data(number: int, o: Opened, columns: Columns, table: Table | UnusableBatch, accepted: AcceptedTime) -> Entry:
    if isinstance(table, UnusableBatch):
        return _whole(number, o, "unusable", str(table))
    if int(columns.series.max()) >= len(table.ids):
        detail = f"reading of series {int(columns.series.max())}, the table has {len(table.ids)}"
        return _whole(number, o, "unusable", detail)
    rows, rejections = screen(columns, table, accepted)
    return Entry(number, o.batch.envelope, o.delivery.payload, rows, rejections=rejections)


def _refused(entry: Entry, detail: str) -> Entry:
    rejection = Rejection(_REFUSED, detail[:_DETAIL], entry.envelope.readings, None)
    return replace(entry, rows=None, gaps=(), rejections=(rejection,))


def _is_refused(entry: Entry) -> bool:
    return any(r.reason == _REFUSED for r in entry.rejections)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
