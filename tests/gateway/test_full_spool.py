"""A spool that fills up while nobody takes anything: what the operator sees, and that every reading is told of."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_drivers.reading import Reading
from gateway.commands import app
from gateway.link import wire
from tests.gateway.ledger_server import LedgerServer, ledger_server
from tests.gateway.running import Condition, running, write_config
from tests.gateway.scripted_driver import Script, reading
from tests.peers.mosquitto import Broker

BOUND = "[spool]\nbound_bytes = 4194304\n"


def bulk(count: int, seed: int) -> list[Reading]:
    """Readings of some 3 KB each that nothing compresses, and that are not thinned: raw frames."""
    rng = random.Random(seed)
    return [replace(reading("a", float("nan"), 1_000 + n), frame=rng.randbytes(3000)) for n in range(count)]


def told(server: LedgerServer) -> dict[str, int]:
    """Readings that arrived, and those in gaps by reason; each batch once."""
    once = {(b.envelope.epoch, b.envelope.seq): b for b in server.batches}
    found = {"arrived": sum(b.envelope.readings for b in once.values())}
    for batch in once.values():
        if batch.envelope.kind == wire.Kind.GAP:
            for gap in wire.decode_gaps(wire.unpack(batch)):
                # A dropped batch may have arrived before it was dropped: only what did not is missing.
                missing = sum(c for seq, c in enumerate(gap.counts, gap.first) if (gap.epoch, seq) not in once)
                found[gap.reason] = found.get(gap.reason, 0) + missing + (gap.readings or 0)
    return found


def taken(given: int) -> Condition:
    """Whether so many readings are sealed or lost."""
    return lambda report: report.spool.sealed + sum(report.spool.unsealed_lost.values()) == given


def status(path: Path) -> str:
    """What the operator reads. The command knows no scripted drivers: it gets the configuration without them."""
    shown = path.with_name("operator.toml")
    shown.write_text(path.read_text().split("[[driver]]")[0])
    return CliRunner().invoke(app, ["status", "--config", str(shown)]).output


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_what_does_not_fit_is_dropped_by_policy_and_told(mosquitto: Broker, tmp_path: Path, policy: str) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port, more=f'{BOUND}when_full = "{policy}"')
    async with running(path, script) as one:
        for n in range(20):
            script.give_readings("a", bulk(100, n))
            await one.until(taken(100 * (n + 1)))
        report = await one.until(taken(2000))
        assert report.spool.file_bytes <= report.spool.bound_bytes
        assert report.spool.fill > 0.9
        kept = report.spool.held_readings
        assert 1000 < kept < 1400
        if policy == "drop_oldest":
            assert report.spool.dropped == {"bound": 2000 - kept}
            assert f"dropped {2000 - kept}" in report.line()
            assert f"dropped   {2000 - kept} readings (bound)" in status(path)
        else:
            assert report.spool.unsealed_lost == {"bound": 2000 - kept}
            assert f"lost before sealing {2000 - kept}" in report.line()
            assert f"unsealed  {2000 - kept} readings (bound)" in status(path)
        async with ledger_server(mosquitto.port) as server:
            await server.until(lambda: told(server) == {"arrived": kept, "bound": 2000 - kept})
            report = await one.until(lambda report: report.spool.held_batches == 0)
            assert report.spool.settled == kept


async def test_thinning_is_seen_and_what_it_leaves_out_is_told(mosquitto: Broker, tmp_path: Path) -> None:
    script = Script()
    path = write_config(tmp_path, mosquitto.port, more=f"{BOUND}thin = true")
    given = 0
    async with running(path, script) as one:
        report = await one.until(lambda _: True)
        assert (report.thinning_age_s, "THINNING" in status(path)) == (None, False)
        while report.spool.fill < 0.8:
            script.give_readings("a", bulk(20, given))
            given += 20
            report = await one.until(taken(given))
        report = await one.until(lambda report: report.thinning_age_s is not None)
        for _ in range(30):
            script.give("a", *[20.0] * 10)
            given += 10
        # How many of them are kept depends on whether a minute turns meanwhile.
        report = await one.until(lambda report: report.readings == given and report.waiting <= 1)
        assert "thinning; " in report.line()
        assert "THINNING since 20" in status(path)
        async with ledger_server(mosquitto.port) as server:
            await one.until(lambda report: report.spool.fill < 0.7)
            script.give("a", 21.0, 21.0, 21.0)
            given += 3
            # All of it is in the spool's book: what the batcher has given up may still be on its way there.
            report = await one.until(
                lambda report: (
                    report.thinning_age_s is None
                    and report.spool.sealed + sum(report.spool.unsealed_lost.values()) == given
                )
            )
            # All of it again.
            sealed = report.spool.sealed
            script.give("a", *[21.0] * 50)
            given += 50
            report = await one.until(lambda report: report.spool.sealed == sealed + 50)
            await server.until(lambda: sum(told(server).values()) == given)
            found = told(server)
            assert set(found) == {"arrived", "thinned"}
            assert 250 < found["thinned"] <= 300
            report = await one.until(lambda report: report.spool.held_batches == 0)
            assert report.spool.unsealed_lost == {"thinned": found["thinned"]}
            assert f"thinned {found['thinned']}; " in report.line()
            assert f"unsealed  {found['thinned']} readings (thinned)" in status(path)
