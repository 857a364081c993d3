"""A spool that overflows, thinning or not, and the real ledger afterwards: each reading is a row, or in a gap."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import RELEASED_S
from gateway.link import wire
from gateway.spool.store import Spool
from gateway.spool.values import SpoolOptions
from tests.gateway.spool.support import GATEWAY, SMALL, WALL_S, everything, opened
from tests.gateway.test_sealer import feeding, values
from tests.ingest_server.line import Line, books_of, running_line
from tests.ingest_server.line import values as rows
from tests.peers.postgres import Database

OVERFLOWING_S = 60


async def drain(spool: Spool, line: Line) -> None:
    """Until the spool has nothing left that it could send."""
    while True:
        spool.seal_gaps()
        batches = [spool.load(identity, GATEWAY, 7) for identity in everything(spool)]
        if not batches:
            return
        await line.settle(*(wire.encode(batch) for batch in batches if batch is not None), gateway=GATEWAY)
        for _, receipt in line.receipts:
            spool.apply_receipt(receipt.ledger, {e.epoch: e.settled for e in receipt.epochs}, WALL_S)
        line.receipts.clear()


@pytest.mark.parametrize("thin", [False, True], ids=["whole", "thinned"])
@pytest.mark.parametrize("options", [SMALL, replace(SMALL, when_full="drop_newest")], ids=lambda o: o.when_full)
async def test_what_overflowed_is_in_gaps_and_all_else_in_the_table(
    tmp_path: Path, database: Database, options: SpoolOptions, thin: bool
) -> None:
    rng = random.Random(7)
    path = tmp_path / "spool.sqlite"
    async with feeding(path, options, thin=thin) as one:
        while await one.fill() < 0.97:
            await one.seconds(1, rng)
        await one.seconds(OVERFLOWING_S, rng)
        given = one.given
    with opened(path, options, now_us=one.now_us) as spool:
        sealed = values(spool)
        whole = spool.usage().whole_file
        lost = Counter(whole.dropped) + Counter(whole.unsealed)
        assert lost["bound"] > 500
        assert (lost["thinned"] > 1000) == thin
        async with running_line(database) as line:
            await drain(spool, line)
        assert spool.usage().batches == 0
    # Nothing twice, nothing but what was sealed and not dropped.
    assert rows(database) == sorted(sealed)
    books = await books_of(database, GATEWAY)
    assert (books.committed, books.dropped) == (len(sealed), sum(whole.dropped.values()))
    assert (books.sealed, books.quarantined, books.presumed_lost) == (whole.sealed_readings, 0, 0)
    assert (books.in_flight, books.balanced) == (0, True)
    told = database.query(
        "SELECT reason, sum(readings)::bigint, min(from_at), max(to_at),"
        " bool_and(to_at >= from_at AND from_at > to_timestamp(%s)) FROM iot_service.data_gaps GROUP BY reason",
        RELEASED_S,
    )
    assert {row[0]: row[1] for row in told} == dict(lost)
    assert all(row[4] for row in told)
    # Every reading that a device gave.
    assert books.committed + sum(lost.values()) == given
