"""Erasures reach into quarantine: an entry keeps a whole batch, whichever of its readings it was made for."""

import numpy as np

from gateway.link import wire
from gateway.link.errors import WireError
from ingest_server.decoder import Columns, open_body
from ingest_server.redaction import redacted
from ingest_server.storage.connection import Connection, sql, transaction
from ingest_server.storage.line.erased import Erased, forbidden
from ingest_server.storage.line.group import ERASED, Rejection, tell_dropped
from ingest_server.storage.quarantine.entries import held, read_entry


async def erase_entry(connection: Connection, erased: Erased, quarantine_id: int) -> int | None:
    """Leaves of an entry what waits in it and no erasure names; how many readings that waited were dropped.

    None: it holds nothing that an erasure names, as far as it can be read. An entry of which nothing is left goes.
    Raises StorageError.
    """
    async with transaction(connection):
        found = await read_entry(connection, quarantine_id, lock=True)
        if found is None:
            return None
        entry, payload = found
        try:
            batch = wire.decode(payload, entry.gateway)
            columns = open_body(batch)
            if not isinstance(columns, Columns):
                return None
            series = wire.decode_series(columns.table)
        except WireError:
            return None
        gone = forbidden(columns, erased.of_table(entry.gateway, series))
        if not gone.any():
            return None
        waiting = held(entry, columns)
        left, times_us = waiting & ~gone, columns.times_us[waiting & gone]
        await connection.execute(
            sql("erasure/erase_quarantined"),
            {
                "quarantine_id": quarantine_id,
                "gateway_id": entry.gateway_id,
                "epoch": entry.epoch,
                "left": int(np.count_nonzero(left)),
                "dropped": len(times_us),
                "payload": redacted(batch, columns, left) if left.any() else b"",
            },
        )
        if len(times_us):
            span_us = int(times_us.min()), int(times_us.max())
            dropped = Rejection(ERASED, "", len(times_us), None, span_us)
            await tell_dropped(connection, {(entry.gateway_id, entry.epoch): [(entry.seq, dropped)]}, ERASED)
            await connection.execute(sql("erasure/count_refused"), {"readings": len(times_us)})
    return len(times_us)
