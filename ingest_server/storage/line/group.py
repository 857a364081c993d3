"""The group transaction: readings and their ledger entry, together or not at all.

Invariants kept here (docs/invariants.md): readings and their ledger entry commit in one PostgreSQL transaction (3);
nothing is settled before COMMIT (4). Both rest on the order of steps in `write_group`: the ledger is claimed last,
so that workers run their COPYs side by side, and looked at a second time under the lock, so that what another
worker settled meanwhile undoes this attempt whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.link.ranges import RangeSet
from gateway.link.wire import Envelope, Gap
from ingest_server.errors import StorageError
from ingest_server.storage.arrays import float8s, int4s, int8s
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.frames.keeping import FrameBlock, keep
from ingest_server.storage.line.partitions import Partitions
from ingest_server.storage.line.quarantine_bound import Candidate, QuarantineBound
from ingest_server.storage.line.quarantine_bound import keep as keep_quarantined
from ingest_server.storage.line.rollup_log import COPY_LOG, log_bytes
from ingest_server.storage.line.rows import Rows
from ingest_server.storage.line.rules import require_rules
from ingest_server.storage.multirange import from_multirange, to_text

Key = tuple[int, int]
"""(gateway_id, epoch): one row of the ledger."""

ERASED = "erased"
"""Reason of a rejection whose readings are kept nowhere, in quarantine neither: an erasure forbids it. The payload of
an entry is without them, and the indices of other rejections are those of that payload."""

_LAST_YEAR_9999_US = 253_402_300_799_000_000


@dataclass(frozen=True, slots=True)
class Rejection:
    """Readings of one batch that go to quarantine: those at `indices` of its payload, or all where it is None.

    span_us: first and last of their times, Unix µs, where they are known.
    """

    reason: str
    detail: str
    readings: int
    indices: tuple[int, ...] | None
    span_us: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch as it shall be settled: its rows, its gaps, and what of it is quarantined.

    rules: number of the rules that its readings were screened by. frames: that are kept of what it brought.
    """

    gateway_id: int
    envelope: Envelope
    payload: bytes
    rows: Rows | None = None
    gaps: tuple[Gap, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    rules: int = 0
    frames: tuple[FrameBlock, ...] = ()

    @property
    def key(self) -> Key:
        return self.gateway_id, self.envelope.epoch


@dataclass(frozen=True, slots=True)
class Written:
    """What a group came to. settled: all that its keys have settled then. The others in readings, of this group alone.

    dropped: found no room in quarantine. What gaps name is not counted here.
    """

    settled: dict[Key, RangeSet]
    committed: int
    quarantined: int
    dropped: int


class SettledMeanwhile(StorageError):
    """Another worker settled one of these batches after the first look: repeat the whole group."""


@dataclass(slots=True)
class Claim:
    """What a group adds to one row of the ledger."""

    settled: RangeSet = field(default_factory=RangeSet)
    next_seq: int = 0
    sealed: int = 0
    committed: int = 0
    quarantined: int = 0
    dropped: int = 0
    found: int = 0


async def known(connection: Connection, batches: Sequence[tuple[int, int, int]]) -> dict[int, tuple[bool, bool]]:
    """Of batches (gateway_id, epoch, seq), by position: whether settled, whether presumed lost. Others are absent."""
    cursor = await connection.execute(
        sql("line/ledger_view"),
        {
            "gateways": [b[0] for b in batches],
            "epochs": [b[1] for b in batches],
            "seqs": [b[2] for b in batches],
        },
    )
    return {n: (settled, presumed) for n, settled, presumed in await cursor.fetchall()}


async def settled_positions(connection: Connection, batches: Sequence[tuple[int, int, int]]) -> set[int]:
    """The unlocked look at the ledger: positions of what is settled already."""
    with translated():
        return {n for n, (settled, _) in (await known(connection, batches)).items() if settled}


async def count_duplicates(connection: Connection, keys: Sequence[Key]) -> None:
    """Batches that came again and were left out."""
    async with transaction(connection):
        # An UPDATE of several rows locks them in the order of its plan, which is nobody's.
        await connection.execute(sql("line/lock_ledger"), _named(keys))
        await connection.execute(sql("line/count_duplicates"), _named(keys))


async def read_settled(connection: Connection, keys: Sequence[Key]) -> dict[Key, RangeSet]:
    """What is settled of each key; keys that the ledger does not know are absent."""
    with translated():
        return {key: settled for key, (settled, _) in (await _read_ledger(connection, keys)).items()}


async def write_group(
    connection: Connection,
    partitions: Partitions,
    entries: Sequence[Entry],
    bound: QuarantineBound,
) -> Written:
    """Writes and settles entries with different identities in one transaction.

    Raises SettledMeanwhile and RulesChanged (nothing was written: repeat from the first look), BatchRejected (nothing
    was written), StorageUnavailable (the outcome may be unknown: repeat, the ledger tells).
    """
    batches = [e.rows for e in entries if e.rows is not None]
    rules = [e.rules for e in entries if e.rows is not None or e.rejections]
    if batches:
        await partitions.ensure(connection, np.concatenate([rows.times_us for rows in batches]))
    async with transaction(connection):
        if batches:
            await partitions.prepare(connection)
            await copy_rows(connection, batches, min(rules))
            if frames := [block for e in entries for block in e.frames]:
                await keep(connection, frames)
        elif rules:
            # Quarantine keeps nothing either that was screened by older rules.
            await require_rules(connection, min(rules))
        return await _claim(connection, entries, bound)


async def copy_rows(connection: Connection, batches: Sequence[Rows], rules: int) -> None:
    """Writes rows, what they change of the rollups, and the latest of each series, within the caller's transaction.

    rules: number of the rules that the rows were screened by. Raises RulesChanged.
    """
    await require_rules(connection, rules)
    rows = Rows.joined(list(batches)).by_series()
    for statement, content in rows.copies():
        async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            await copy.write(content)
    async with connection.cursor() as cursor, cursor.copy(COPY_LOG) as copy:
        await copy.write(log_bytes(rows, batches))
    latest = rows.latest()
    await connection.execute(
        sql("line/upsert_latest"),
        {
            "series_ids": int4s(latest.series_ids),
            "times_us": int8s(latest.times_us),
            "values": float8s(latest.values),
            "reliability": int4s(latest.reliability),
            "causes": int4s(latest.causes),
        },
    )


async def _claim(connection: Connection, entries: Sequence[Entry], bound: QuarantineBound) -> Written:
    keys = sorted({e.key for e in entries} | {(e.gateway_id, g.epoch) for e in entries for g in e.gaps if g.epoch})
    await lock(connection, keys)
    # The second look: a statement of its own, so that it sees what was committed while this one waited for the lock.
    seen = await known(connection, [(e.gateway_id, e.envelope.epoch, e.envelope.seq) for e in entries])
    if any(settled for settled, _ in seen.values()):
        raise SettledMeanwhile("another worker settled a batch of this group")
    claims = {key: Claim() for key in keys}
    for n, entry in enumerate(entries):
        await _claim_entry(connection, claims[entry.key], entry, presumed_lost=n in seen)
    not_kept = await _quarantine(connection, claims, entries, bound)
    if any(e.gaps for e in entries):
        await claim_gaps(connection, claims, [(e.gateway_id, g) for e in entries for g in e.gaps])
    settled = await settle(connection, claims)
    committed, quarantined = (sum(getattr(c, part) for c in claims.values()) for part in ("committed", "quarantined"))
    return Written(settled, committed, quarantined, not_kept)


async def make_rows(connection: Connection, keys: Sequence[Key]) -> None:
    """Makes the ledger's rows of these keys where they are missing, and locks none that is there."""
    await connection.execute(sql("line/make_ledger_rows"), _named(sorted(keys)))


async def lock(connection: Connection, keys: Sequence[Key]) -> None:
    """Makes the ledger's rows of these keys where they are missing, and holds them until the transaction ends.

    Every transaction that changes several rows of the ledger makes them before it locks any, and locks them in this
    order: two that met in another order would wait for each other.
    """
    await make_rows(connection, keys)
    await connection.execute(sql("line/lock_ledger"), _named(keys))


def _named(keys: Sequence[Key]) -> dict[str, list[int]]:
    return {"gateways": [k[0] for k in keys], "epochs": [k[1] for k in keys]}


async def settle(connection: Connection, claims: dict[Key, Claim]) -> dict[Key, RangeSet]:
    """Adds the claims to rows that the transaction has locked; what these have settled then."""
    keys = sorted(claims)
    cursor = await connection.execute(
        sql("line/settle"),
        {
            **_named(keys),
            "settled": [to_text(claims[k].settled) for k in keys],
            "next_seqs": [claims[k].next_seq for k in keys],
            "sealed": [claims[k].sealed for k in keys],
            "committed": [claims[k].committed for k in keys],
            "quarantined": [claims[k].quarantined for k in keys],
            "dropped": [claims[k].dropped for k in keys],
            "found": [claims[k].found for k in keys],
        },
    )
    return {(row[0], row[1]): from_multirange(row[2]) for row in await cursor.fetchall()}


async def _claim_entry(connection: Connection, claim: Claim, entry: Entry, *, presumed_lost: bool) -> None:
    e = entry.envelope
    this = RangeSet([(e.seq, e.seq + 1)])
    claim.settled |= this
    claim.next_seq = max(claim.next_seq, e.seq + 1)
    claim.sealed = max(claim.sealed, e.readings_before + e.readings)
    claim.committed += len(entry.rows) if entry.rows is not None else 0
    if presumed_lost:
        claim.found += e.readings
        await _correct_presumed(connection, entry.key, this, e.readings)


async def _quarantine(
    connection: Connection, claims: dict[Key, Claim], entries: Sequence[Entry], bound: QuarantineBound
) -> int:
    """Enters what is to be quarantined, as far as there is room; how many readings found none."""
    rejected = [(entry, rejection) for entry in entries for rejection in entry.rejections]
    keepable = [(entry, rejection) for entry, rejection in rejected if rejection.reason != ERASED]
    kept = await keep_quarantined(connection, [_candidate(entry, rejection) for entry, rejection in keepable], bound)
    full: dict[Key, list[tuple[int, Rejection]]] = {}
    for (entry, rejection), entered in zip(keepable, kept, strict=True):
        if entered:
            claims[entry.key].quarantined += rejection.readings
        else:
            full.setdefault(entry.key, []).append((entry.envelope.seq, rejection))
    erased: dict[Key, list[tuple[int, Rejection]]] = {}
    for entry, rejection in rejected:
        if rejection.reason == ERASED:
            erased.setdefault(entry.key, []).append((entry.envelope.seq, rejection))
    if erased:
        dropped = await _drop(connection, claims, erased, ERASED)
        await connection.execute(sql("erasure/count_refused"), {"readings": dropped})
    return await _drop(connection, claims, full, "quarantine_bound")


async def _drop(
    connection: Connection, claims: dict[Key, Claim], gone: dict[Key, list[tuple[int, Rejection]]], reason: str
) -> int:
    """Counts as dropped what is kept nowhere, and tells of it; how many readings."""
    if not gone:
        return 0
    for key, found in gone.items():
        claims[key].dropped += sum(r.readings for _, r in found)
    await tell_dropped(connection, gone, reason)
    return sum(r.readings for found in gone.values() for _, r in found)


async def tell_dropped(connection: Connection, gone: dict[Key, list[tuple[int, Rejection]]], reason: str) -> None:
    """Enters a gap of what was dropped, (seq, readings) by row of the ledger, or lets that of this hour grow."""
    spans = {k: [r.span_us for _, r in found if r.span_us is not None] for k, found in gone.items()}
    await connection.execute(
        sql("line/tell_dropped"),
        {
            "reason": reason,
            "gateways": [k[0] for k in gone],
            "epochs": [k[1] for k in gone],
            "seqs": [to_text(RangeSet.of(seq for seq, _ in found)) for found in gone.values()],
            "readings": [sum(r.readings for _, r in found) for found in gone.values()],
            "from_us": [date(min((s[0] for s in spans[k]), default=None)) for k in gone],
            "to_us": [date(max((s[1] for s in spans[k]), default=None)) for k in gone],
        },
    )


def _candidate(entry: Entry, rejection: Rejection) -> Candidate:
    e, r = entry.envelope, rejection
    return Candidate(
        entry.gateway_id, e.epoch, e.seq, e.instance, r.reason, r.detail, r.readings, r.indices, entry.payload
    )


async def claim_gaps(connection: Connection, claims: dict[Key, Claim], gaps: Sequence[tuple[int, Gap]]) -> None:
    """Claims what the gaps (gateway_id, gap) newly settle and tells of it. The transaction has locked their rows."""
    keys = sorted({(gateway_id, g.epoch) for gateway_id, g in gaps if g.epoch})
    before = await _read_ledger(connection, keys)
    told: list[tuple[int, int | None, str | None, str, int | None, int | None, int | None]] = []
    for gateway_id, gap in gaps:
        newly = RangeSet()
        dropped: int | None = gap.readings
        if gap.counts:
            key = (gateway_id, gap.epoch)
            claim = claims[key]
            settled, presumed = before[key]
            named = RangeSet([(gap.first, gap.first + len(gap.counts))])
            # The first settlement wins: a gap counts only what nobody settled before it.
            newly = named - settled - claim.settled
            if not newly:
                continue
            dropped = sum(gap.counts[seq - gap.first] for seq in newly.members())
            claim.settled |= newly
            claim.next_seq = max(claim.next_seq, newly.end())
            claim.dropped += dropped
            found = newly & presumed
            if found:
                readings = sum(gap.counts[seq - gap.first] for seq in found.members())
                claim.found += readings
                await _correct_presumed(connection, key, found, readings)
        seqs = to_text(newly) if newly else None
        interval = date(gap.from_us), date(gap.to_us)
        told.append((gateway_id, gap.epoch or None, seqs, gap.reason, dropped, *interval))
    columns = ("gateways", "epochs", "seqs", "reasons", "readings", "from_us", "to_us")
    await connection.execute(
        sql("line/insert_gaps"), {column: [row[n] for row in told] for n, column in enumerate(columns)}
    )


async def _correct_presumed(connection: Connection, key: Key, seqs: RangeSet, readings: int) -> None:
    await connection.execute(
        sql("line/correct_presumed"),
        {"gateway_id": key[0], "epoch": key[1], "seqs": to_text(seqs), "found": readings},
    )


async def _read_ledger(connection: Connection, keys: Sequence[Key]) -> dict[Key, tuple[RangeSet, RangeSet]]:
    cursor = await connection.execute(sql("line/read_ledger"), _named(keys))
    return {(row[0], row[1]): (from_multirange(row[2]), from_multirange(row[3])) for row in await cursor.fetchall()}


def date(unix_us: int | None) -> int | None:
    # A gap with an absurd date is still a gap: better undated than refused by the database.
    return unix_us if unix_us is not None and 0 <= unix_us <= _LAST_YEAR_9999_US else None
