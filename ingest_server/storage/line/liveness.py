"""Who is there: gateways, their instances, their devices; and what their own books say of each epoch."""

from dataclasses import dataclass

from gateway.link.ranges import RangeSet
from gateway.link.status import Status
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.line import group
from ingest_server.storage.line.new_epochs import beyond_bound, unknown_keys
from ingest_server.storage.multirange import to_text

GATEWAY_SILENCE_S = 95.0
"""Three missed heartbeats of 30 s, and a little."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of hearing a status: all that is settled of each epoch that it listed; what an operator must know."""

    settled: dict[int, RangeSet]
    stale: bool
    newly_held: tuple[int, ...]
    presumed_lost: dict[int, int]  # readings, by epoch


async def held_instances(connection: Connection) -> set[tuple[int, int]]:
    """(gateway_id, instance) of every box that speaks under a name which another still uses."""
    with translated():
        cursor = await connection.execute(sql("line/held_instances"))
        return {(gateway, instance) for gateway, instance in await cursor.fetchall()}


async def hear(
    connection: Connection,
    gateway_id: int,
    status: Status,
    *,
    lost_after_s: float,
    device_silence_s: float,
    age_s: float = 0.0,
    new_epochs_per_hour: int = 1_000,
) -> Heard:
    """Enters an online status into the books, in one transaction. age_s: how long ago it arrived."""
    books = {e.epoch: e for e in status.epochs}
    this = {"gateway_id": gateway_id, "instance": status.instance}
    async with transaction(connection):
        spoken = {**this, "beat": status.beat, "age_s": age_s, "sent_at_us": status.sent_at_us}
        cursor = await connection.execute(sql("line/hear_instance"), spoken)
        row = await cursor.fetchone()
        assert row is not None
        stale, conflict = row
        if stale:
            # Overtaken by a later beat of the same process: its book is older than the one we have.
            return Heard({}, True, (), {})
        newly_held: tuple[int, ...] = ()
        if conflict:
            cursor = await connection.execute(sql("line/hold_successors"), this)
            newly_held = tuple(r[0] for r in await cursor.fetchall())
        spool = status.spool
        await connection.execute(
            sql("line/hear_gateway"),
            {
                **this,
                "version": status.version,
                "sent_at_us": status.sent_at_us,
                "bytes": spool.bytes if spool else None,
                "bound_bytes": spool.bound_bytes if spool else None,
                "batches": spool.batches if spool else None,
                "readings": spool.readings if spool else None,
            },
        )
        new = await unknown_keys(connection, [(gateway_id, epoch) for epoch in books])
        beyond = set(await beyond_bound(connection, new, new_epochs_per_hour))
        listed = sorted(epoch for epoch in books if (gateway_id, epoch) not in beyond)
        # All that this transaction may change is locked first, in the order of everybody else: it changes epochs that
        # are listed and epochs that are not, and would otherwise lock a lower one while it holds a higher.
        begun = [key for key in new if key not in beyond]
        if begun:
            await group.make_rows(connection, begun)
        cursor = await connection.execute(sql("line/lock_open_epochs"), {"gateway_id": gateway_id, "epochs": listed})
        locked = [row[0] for row in await cursor.fetchall()]
        await connection.execute(
            sql("line/hear_epochs"),
            {
                "gateway_id": gateway_id,
                "epochs": listed,
                "next_seqs": [books[epoch].next for epoch in listed],
                "sealed": [books[epoch].sealed for epoch in listed],
                "held": [to_text(books[epoch].held) for epoch in listed],
            },
        )
        if status.whole:
            unlisted = [epoch for epoch in locked if epoch not in books]
            await connection.execute(sql("line/forget_unlisted"), {"gateway_id": gateway_id, "epochs": unlisted})
        ours = {"gateway_id": gateway_id, "epochs": locked}
        await connection.execute(sql("line/note_missing"), ours)
        cursor = await connection.execute(sql("line/presume_lost"), {**ours, "silence_s": lost_after_s})
        presumed = {row[0]: row[1] for row in await cursor.fetchall()}
        await connection.execute(sql("line/refresh_devices"), {"gateway_id": gateway_id, "silence_s": device_silence_s})
        settled = await group.read_settled(connection, [(gateway_id, epoch) for epoch in listed])
    # An epoch that was not entered has nothing settled: the answer says so, or it would not be whole.
    return Heard({epoch: settled.get((gateway_id, epoch), RangeSet()) for epoch in books}, False, newly_held, presumed)


async def gateway_left(connection: Connection, name: str, instance: int) -> None:
    """A gateway's last will or goodbye; its devices are inactive from now on."""
    async with transaction(connection):
        cursor = await connection.execute(sql("line/gateway_left"), {"name": name, "instance": instance})
        gone = [row[0] for row in await cursor.fetchall()]
        await connection.execute(sql("line/devices_left"), {"gateways": gone})


async def prune_instances(connection: Connection, silent_days: float) -> int:
    """Forgets processes that have long gone: not a gateway's latest, not held. How many."""
    async with transaction(connection):
        cursor = await connection.execute(sql("line/prune_instances"), {"days": silent_days})
        return cursor.rowcount


async def mark_silent(connection: Connection) -> list[str]:
    """Gateways that went without a word; their names."""
    async with transaction(connection):
        cursor = await connection.execute(sql("line/gateways_fell_silent"), {"silence_s": GATEWAY_SILENCE_S})
        gone = await cursor.fetchall()
        await connection.execute(sql("line/devices_left"), {"gateways": [row[0] for row in gone]})
    return [row[1] for row in gone]
