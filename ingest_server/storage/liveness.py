"""Who is there: gateways, their instances, their devices; and what their own books say of each epoch."""

from dataclasses import dataclass

from gateway.link.ranges import RangeSet
from gateway.link.status import Status
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.group import read_settled
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
        cursor = await connection.execute(sql("held_instances"))
        return {(gateway, instance) for gateway, instance in await cursor.fetchall()}


async def hear(
    connection: Connection, gateway_id: int, status: Status, *, lost_after_s: float, device_silence_s: float
) -> Heard:
    """Enters an online status into the books, in one transaction."""
    epochs = sorted(status.epochs, key=lambda e: e.epoch)
    this = {"gateway_id": gateway_id, "instance": status.instance}
    async with transaction(connection):
        cursor = await connection.execute(sql("hear_instance"), {**this, "beat": status.beat})
        row = await cursor.fetchone()
        assert row is not None
        stale, conflict = row
        if stale:
            # Overtaken by a later beat of the same process: its book is older than the one we have.
            return Heard({}, True, (), {})
        newly_held: tuple[int, ...] = ()
        if conflict:
            cursor = await connection.execute(sql("hold_successors"), this)
            newly_held = tuple(r[0] for r in await cursor.fetchall())
        spool = status.spool
        await connection.execute(
            sql("hear_gateway"),
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
        await connection.execute(
            sql("hear_epochs"),
            {
                "gateway_id": gateway_id,
                "epochs": [e.epoch for e in epochs],
                "next_seqs": [e.next for e in epochs],
                "sealed": [e.sealed for e in epochs],
                "held": [to_text(e.held) for e in epochs],
            },
        )
        listed = {"gateway_id": gateway_id, "epochs": [e.epoch for e in epochs]}
        if status.whole:
            await connection.execute(sql("forget_unlisted"), listed)
        await connection.execute(sql("note_missing"), {"gateway_id": gateway_id})
        cursor = await connection.execute(sql("presume_lost"), {"gateway_id": gateway_id, "silence_s": lost_after_s})
        presumed = {row[0]: row[1] for row in await cursor.fetchall()}
        await connection.execute(sql("refresh_devices"), {"gateway_id": gateway_id, "silence_s": device_silence_s})
        settled = await read_settled(connection, [(gateway_id, e.epoch) for e in epochs])
    return Heard({e.epoch: settled[gateway_id, e.epoch] for e in epochs}, False, newly_held, presumed)


async def gateway_left(connection: Connection, name: str, instance: int) -> None:
    """A gateway's last will or goodbye; its devices are inactive from now on."""
    async with transaction(connection):
        cursor = await connection.execute(sql("gateway_left"), {"name": name, "instance": instance})
        gone = [row[0] for row in await cursor.fetchall()]
        await connection.execute(sql("devices_left"), {"gateways": gone})


async def mark_silent(connection: Connection) -> list[str]:
    """Gateways that went without a word; their names."""
    async with transaction(connection):
        cursor = await connection.execute(sql("gateways_fell_silent"), {"silence_s": GATEWAY_SILENCE_S})
        gone = await cursor.fetchall()
        await connection.execute(sql("devices_left"), {"gateways": [row[0] for row in gone]})
    return [row[1] for row in gone]
