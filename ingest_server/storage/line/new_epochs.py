"""How many epochs a gateway may begin in an hour.

An epoch is a row of the ledger, which stays for long: a gateway that invents epochs must not fill the database. What
is beyond the bound is not refused, it waits: the gateway keeps it, sends it again, and finds room in another hour.
"""

from collections.abc import Sequence

from ingest_server.storage.connection import Connection, sql, translated
from ingest_server.storage.line.group import Key


async def unknown_keys(connection: Connection, keys: Sequence[Key]) -> list[Key]:
    """Those of the keys that the ledger has no row of, sorted."""
    wanted = sorted(keys)
    with translated():
        cursor = await connection.execute(
            sql("line/known_epochs"), {"gateways": [k[0] for k in wanted], "epochs": [k[1] for k in wanted]}
        )
        known = {(gateway, epoch) for gateway, epoch in await cursor.fetchall()}
    return [key for key in wanted if key not in known]


async def beyond_bound(connection: Connection, new: Sequence[Key], per_hour: int) -> list[Key]:
    """Those of the unknown keys whose gateway has begun too many epochs within the last hour."""
    if not new:
        return []
    with translated():
        cursor = await connection.execute(sql("line/recent_epochs"), {"gateways": sorted({k[0] for k in new})})
        left = {gateway: per_hour - begun for gateway, begun in await cursor.fetchall()}
    beyond = []
    for key in new:
        left[key[0]] -= 1
        if left[key[0]] < 0:
            beyond.append(key)
    return beyond
