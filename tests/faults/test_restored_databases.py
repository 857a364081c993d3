"""A database is put back to what it was: the gateways send again what it lacks, and what nobody has is told.

What else may stand behind the same name or the same topics: a re-imaged gateway, two boxes with one identity, the
server of another database. Spools that are put back: `tests/end_to_end/test_rolled_back_spool.py`.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from device_drivers.reading import Reading, Series
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import Kind, encode_data
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from ingest_server.storage.backup.loading import open_backup
from tests.end_to_end.line import GATEWAY, Key, Line, SealedBatch, short_directory
from tests.end_to_end.test_rolled_back_spool import copy_spool, put_back, seal_unheard, tell_and_die
from tests.faults.center import Center

SPOOL = SpoolOptions(1024 * 1024 * 1024, 259_200.0)
STARTS = 75
"""More epochs than a status or a look-back of 64 would hold."""


@pytest.fixture
def line() -> Iterator[Line]:
    directory = short_directory("restored")
    try:
        made = Line(directory, sensors=2)
        yield made
        made.close()
    finally:
        shutil.rmtree(directory)


# -- four ways to put a database back


def tool(line: Line, program: str, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        [str(line.postgres._bin / program), *arguments], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def by_dump(line: Line) -> Callable[[], None]:
    """`pg_dump`; later the database is dropped beneath the server that runs, made anew and filled."""
    dump = tool(line, "pg_dump", "-Fc", "-d", line.dsn)

    def restore() -> None:
        with psycopg.connect(line.postgres.dsn("template1"), autocommit=True) as admin:
            admin.execute("DROP DATABASE postgres WITH (FORCE)")
            admin.execute("CREATE DATABASE postgres TEMPLATE template0")
        # In one transaction: a server that finds half a database would write into it.
        tool(line, "pg_restore", "--single-transaction", "-d", line.dsn, stdin=dump)

    return restore


def by_files(line: Line) -> Callable[[], None]:
    """A copy of the stopped server's folder, as of a snapshot; later the folder is exchanged."""
    line.postgres.stop("fast")
    kept = line.directory / "snapshot"
    subprocess.run(["cp", "-a", str(line.postgres.data), str(kept)], check=True)
    line.postgres.start()

    def restore() -> None:
        line.postgres.kill()
        shutil.rmtree(line.postgres.data)
        subprocess.run(["cp", "-a", str(kept), str(line.postgres.data)], check=True)
        line.postgres.start()

    return restore


def by_rows(line: Line) -> Callable[[], None]:
    """`pg_dump --data-only`; later all rows are deleted and copied in again, under connections that live on."""
    dump = tool(line, "pg_dump", "--data-only", "--schema=iot_service", "-d", line.dsn)

    def restore() -> None:
        tables = [
            name
            for (name,) in line.query(
                "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'iot_service'::regnamespace"
                " AND relkind = 'r' ORDER BY 1"
            )
        ]
        names = ", ".join(str(name) for name in tables)
        script = f"BEGIN;\nLOCK TABLE {names};\nSET session_replication_role = replica;\n"
        script += "".join(f"DELETE FROM {name};\n" for name in tables)
        tool(
            line, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", line.dsn, stdin=script.encode() + dump + b"\nCOMMIT;\n"
        )

    return restore


def by_command(line: Line) -> Callable[[], None]:
    """`heal7-iot db backup` beside a gateway that goes on; later `db restore` fills a new database."""
    backups = line.directory / "backups"
    made = line._command(["db", "backup", "--dsn", line.dsn, "--to", str(backups)])
    assert made.returncode == 0, made.stderr

    def restore() -> None:
        with psycopg.connect(line.postgres.dsn("template1"), autocommit=True) as admin:
            admin.execute("DROP DATABASE postgres WITH (FORCE)")
            admin.execute("CREATE DATABASE postgres TEMPLATE template0")
        filled = line._command(["db", "restore", str(backups), "--dsn", line.dsn])
        assert filled.returncode == 0, filled.stderr

    return restore


def taken_back(line: Line) -> bool:
    return bool(line.report()["uplink"]["taken_back"] > 0)


_OTHERS = [pytest.param(way, marks=pytest.mark.slow) for way in (by_dump, by_rows, by_files)]


@pytest.mark.parametrize("backup", [by_command, *_OTHERS])
def test_what_a_restored_database_lacks_is_sent_again(line: Line, backup: Callable[[Line], Callable[[], None]]) -> None:
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(300)
    restore = backup(line)
    in_backup = line.committed()
    line.wait("more is committed than the backup has", lambda: line.committed() >= in_backup + 300)
    before = line.committed()
    restore()
    line.wait("the gateway has heard what is lost", lambda: taken_back(line))
    line.wait("it was sent again", lambda: line.committed() > before)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0
    assert line.query("SELECT count(*) FROM iot_service.data_gaps") == [(0,)]
    assert line.ingest is not None
    assert line.ingest.poll() is None, "the server lived through it"


@pytest.mark.slow
def test_a_database_from_before_the_gateway_gets_everything(line: Line) -> None:
    """Not even the gateway's name was in the backup, nor its devices."""
    restore = by_dump(line)
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(300)
    line.kill("gateway")
    line.start_gateway()
    line.wait_committed(300)
    restore()
    line.wait("the gateway has heard what is lost", lambda: taken_back(line))
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0


def free_settled(line: Line) -> None:
    """Four days go by in the stopped gateway's spool: what was settled is past its replay window."""
    spool = Spool.open(line.spool, SPOOL, Boot("four days later", 0), None)
    try:
        while spool.free_replayed(time.time() + 4 * 86_400):
            pass
    finally:
        spool.close()


def data_readings(batches: dict[Key, SealedBatch]) -> int:
    return sum(len(b.readings) for b in batches.values() if b.kind == Kind.DATA)


def presumed(line: Line) -> tuple[int, int]:
    """(readings that were presumed lost, those of them that came after all)."""
    ((told, corrected),) = line.query(
        "SELECT COALESCE(sum(readings), 0)::int, COALESCE(sum(corrected), 0)::int FROM iot_service.data_gaps"
        " WHERE reason = 'presumed_lost'"
    )
    return int(str(told)), int(str(corrected))


@pytest.mark.slow
def test_what_is_older_than_the_replay_window_is_presumed_lost_and_corrected_if_it_arrives(line: Line) -> None:
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    line.stop_gateway()
    kept_by_backup = line.committed()
    restore = by_dump(line)
    line.start_gateway()
    line.wait_committed(400)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    everything = line.sealed()
    card = copy_spool(line, "card")
    free_settled(line)
    assert data_readings(line.sealed()) == 0
    restore()
    lost = data_readings(everything) - kept_by_backup
    assert line.committed() == kept_by_backup
    line.start_gateway()
    line.wait("the loss is told", lambda: presumed(line) != (0, 0))
    line.wait(
        "nothing is in flight",
        lambda: line.query("SELECT balanced AND in_flight = 0 FROM iot_service.books") == [(True,)],
    )
    assert presumed(line) == (lost, 0), "to the reading"
    assert line.audit() == 0
    line.stop_gateway()
    # A card that was thought lost, with all of it, turns up.
    put_back(line, card)
    line.start_gateway()
    line.wait("all of it arrived", lambda: presumed(line) == (lost, lost))
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once(card)
    assert line.audit() == 0
    assert line.query("SELECT presumed_lost FROM iot_service.books") == [(0,)]


def prepare_spool(line: Line, starts: int, each: int) -> int:
    """A spool as so many starts of a gateway leave it; how many readings it sealed."""
    line.state.mkdir()
    series = Series("prepared", "t", "temperature", "°C", "p", "1")
    now_us = time.time_ns() // 1000
    for n in range(starts):
        spool = Spool.open(line.spool, SPOOL, Boot("of the preparation", n * 1_000_000), None)
        try:
            spool.set_anchor(Anchor(now_us - starts * 1_000_000, 1_000, ClockSource.KERNEL))
            for m in range(2):
                at_us = n * 1_000_000 + m * 10_000
                held = [Reading(series, float(1_000_000 + 1_000 * n + 100 * m + k), at_us + k) for k in range(each)]
                assert spool.append(encode_data(held), each, at_us, at_us + each) is not None
        finally:
            spool.close()
    return starts * 2 * each


@pytest.mark.slow
def test_a_restore_after_many_starts(line: Line) -> None:
    """Each start began an epoch, and the database has forgotten all of them."""
    prepared = prepare_spool(line, STARTS, 5)
    restore = by_dump(line)
    line.start_ingest()
    line.start_gateway()
    line.wait("all starts are committed", lambda: line.committed() >= prepared)
    line.sensors.close()
    line.wait_settled()
    assert line.query("SELECT count(*) >= 75 FROM iot_service.ledger") == [(True,)]
    restore()
    line.wait("the gateway has heard what is lost", lambda: line.report()["uplink"]["taken_back"] >= 2 * STARTS)
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0
    assert line.query("SELECT epochs_with_missing FROM iot_service.books") == [(0,)]


@pytest.mark.slow
def test_a_restore_after_many_real_starts(line: Line) -> None:
    line.start_ingest()
    restore = by_dump(line)
    for n in range(STARTS):
        line.start_gateway()
        line.wait("it runs", line.speaks)
        line.wait_committed(20)
        if n % 3:
            line.kill("gateway")
        else:
            line.stop_gateway()
    line.start_gateway()
    line.wait("it runs", line.speaks)
    settled = line.report()["spool"]["settled"]
    restore()
    # It hears epoch by epoch: nothing may be in flight for a moment after the first few, and it is not done.
    line.wait("all that was lost is there again", lambda: line.committed() >= settled)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0


@pytest.mark.slow
def test_a_re_imaged_gateway_begins_anew_and_what_only_the_old_disk_held_is_told(line: Line) -> None:
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    line.kill("gateway")
    # It tells of what it holds, and its disk is exchanged before it sends that.
    unheard = seal_unheard(line, 200)
    tell_and_die(line, unheard)
    old_disk = copy_spool(line, "old-disk")
    shutil.rmtree(line.state)
    line.start_gateway()
    line.wait_committed(200)
    line.sensors.close()
    line.wait(
        "what only the old disk held is told",
        lambda: (
            line.query("SELECT balanced AND in_flight = 0 AND presumed_lost > 0 FROM iot_service.books") == [(True,)]
        ),
    )
    line.stop_gateway()
    old, new = line.sealed(old_disk), line.sealed()
    assert {key[0] for key in old}.isdisjoint(key[0] for key in new), "a new epoch, though the name is the same"
    arrived = line.numbers("SELECT epoch, committed FROM iot_service.ledger")
    lost = line.numbers(
        "SELECT epoch, sum(readings) FROM iot_service.data_gaps WHERE reason = 'presumed_lost' GROUP BY epoch"
    )
    for epoch in unheard:
        # Told of when it had ended: so to the reading. Of what was sealed after a last heartbeat nobody knows.
        readings = sum(len(batch.readings) for key, batch in old.items() if key[0] == epoch)
        assert arrived.get(epoch, 0) + lost.get(epoch, 0) == readings
    assert sum(lost.values()) > 0
    line.assert_no_row_twice()
    assert line.audit() == 0


class Twin:
    """A second box: a gateway of the same name with a state folder and a sensor of its own."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.state = line.directory / "twin"
        self.name = "gw"

    def start(self) -> subprocess.Popen[bytes]:
        line = self._line
        config = line.directory / "twin.toml"
        config.write_text(
            f'[gateway]\nsite = "test-1"\nname = "{self.name}"\nstate_dir = "{self.state}"\n'
            f'[mqtt]\nport = {line.broker.port}\n[batch]\nlinger_s = 0.1\n[clock]\ntrust = "system"\n'
            "[uplink]\nresend_first_s = 0.5\nresend_longest_s = 2.0\nheartbeat_s = 0.5\nspread_s = 0.0\n"
            f'reconnect_first_s = 0.1\nreconnect_longest_s = 0.5\n[health]\nfile = "{self.state}/health.json"\n'
            "write_s = 0.2\n"
            f'[[driver]]\nkind = "pms5003"\ndevice = "twin-air"\nport = "{line.sensors.sensors[-1].link}"\n'
        )
        return line._spawn("twin", ["gateway", "run", "--config", str(config)])

    @property
    def spool(self) -> Path:
        return self.state / "spool.sqlite3"


@pytest.mark.slow
def test_two_boxes_with_one_identity_are_told_and_their_data_kept_apart(line: Line) -> None:
    twin = Twin(line)
    box = line.sensors.sensors.pop()
    line.start_ingest()
    line.start_gateway()
    line.sensors.sensors.append(box)
    line.wait_committed(100)
    process = twin.start()
    try:
        held = "SELECT count(*) > 0 FROM iot_service.quarantine WHERE reason = 'identity_conflict'"
        line.wait("the newer box is held back", lambda: line.query(held) == [(True,)])
        line.wait("the operator is told", lambda: f"two boxes speak as {GATEWAY}" in line.log("ingest"))
        line.wait_committed(200)
        line.sensors.close()
        process.terminate()
        process.wait()
    finally:
        process.kill()
        process.wait()
    # One of them is stopped; the other's data stand in the table, the twin's in quarantine, none of them twice.
    line.wait_settled()
    line.stop_gateway()
    line._command(["gateways", "resolve", GATEWAY, "--dsn", line.dsn])
    shown = json.loads(line._command(["quarantine", "summary", "--dsn", line.dsn, "--json"]).stdout)
    conflict = next(t for t in shown if t["reason"] == "identity_conflict")
    replayed: list[dict[str, Any]] = json.loads(
        line._command(["quarantine", "replay", "--reason", "identity_conflict", "--dsn", line.dsn, "--json"]).stdout
    )
    assert sum(r["committed"] for r in replayed) == conflict["readings"] > 0
    assert all(r["left"] == 0 for r in replayed)
    # What its spool still held goes as that of a box with a name of its own; here it is sent under the old one.
    again = twin.start()
    try:
        line.wait("the twin's rest has come", lambda: twin_is_drained(line, twin, again.pid))
    finally:
        again.terminate()
        again.wait()
    line.assert_exactly_once(line.spool, twin.spool)
    assert line.audit() == 0


def twin_is_drained(line: Line, twin: Twin, pid: int) -> bool:
    file = twin.state / "health.json"
    if not file.exists():
        return False
    report = json.loads(file.read_text())
    return bool(report["pid"] == pid and report["spool"]["held_batches"] == 0 and report["uplink"]["receipts"] > 0)


def test_the_server_of_another_database_on_the_same_broker_frees_nothing(line: Line) -> None:
    """A staging server takes every batch, too, and tells of it; the gateway believes the first ledger that it met."""
    with psycopg.connect(line.dsn, autocommit=True) as admin:
        admin.execute("CREATE DATABASE staging TEMPLATE template0")
    staging_dsn = line.postgres.dsn("staging")
    line._command(["db", "migrate", "--dsn", staging_dsn])
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    config = line.directory / "staging.toml"
    config.write_text(f'[mqtt]\nport = {line.broker.port}\n[database]\ndsn = "{staging_dsn}"\n')
    staging = line._spawn("staging", ["ingest", "run", "--config", str(config)])

    def staged() -> int:
        with psycopg.connect(staging_dsn) as connection:
            row = connection.execute("SELECT COALESCE(sum(committed), 0)::bigint FROM iot_service.ledger").fetchone()
        return int(str(row[0])) if row is not None else 0

    try:
        line.wait("both servers take batches", lambda: staged() > 200)
        line.wait_committed(200)
        line.kill("ingest")
        before, committed = staged(), line.committed()
        line.wait("only the other server settles", lambda: staged() > before + 300)
        line.wait_held(300)
        assert line.committed() == committed
        line.wait("its receipts were not believed", lambda: line.report()["uplink"]["foreign_receipts"] > 0)
        line.start_ingest()
        line.wait_committed(300)
        line.sensors.close()
        line.wait_settled()
        line.stop_gateway()
        line.assert_exactly_once()
        assert line.audit() == 0
    finally:
        staging.kill()
        staging.wait()


def db(center: Center, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "heal7_iot", "db", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.slow
def test_an_older_backup_and_three_spools_make_a_whole_database() -> None:
    """The newest backup is damaged. Since the one before it a gateway was killed and began anew, another was full of
    what it could not send, and a third was switched off through all of the restore."""
    directory = short_directory("rebuilt")
    center = Center(directory)
    try:
        backups = directory / "backups"
        center.wait("readings arrive", lambda: center.committed() > 500)
        db(center, "backup", "--dsn", center.dsn, "--to", str(backups))
        (older,) = backups.iterdir()
        in_older = open_backup(older).manifest.readings
        assert in_older > 500

        killed, cut, switched_off = center.gateways
        killed.kill()
        killed.start()
        center.wait("so many again", lambda: center.committed() >= 2 * in_older)
        db(center, "backup", "--dsn", center.dsn, "--to", str(backups))
        newer = max(backups.iterdir())
        assert newer != older
        center.proxy.cut(cut.link)
        center.wait("many more", lambda: center.committed() >= 3 * in_older)
        switched_off.terminate()
        for worker in center.workers[:2]:
            worker.terminate()
        before = center.committed()

        ledger = newer / "ledger.copy.zst"
        ledger.write_bytes(ledger.read_bytes()[:-1])
        with psycopg.connect(center.postgres.dsn("template1"), autocommit=True) as admin:
            admin.execute("DROP DATABASE postgres WITH (FORCE)")
            admin.execute("CREATE DATABASE postgres TEMPLATE template0")
        assert "nothing was restored" in db(center, "restore", str(backups), "--dsn", center.dsn, code=1)
        db(center, "restore", str(older), "--dsn", center.dsn)
        assert center.committed() == in_older < before / 2
        center.restored = True

        for worker in center.workers[:2]:
            worker.start()
        center.proxy.mend(cut.link)
        center.wait("what was committed after the backup is there again", lambda: center.committed() > before / 2)
        switched_off.start()
        verdict = center.settle()
        assert verdict.sound, verdict
        # Row by row; and of nothing does a book say that it is missing.
        assert verdict.committed == verdict.sealed >= before
        assert (verdict.presumed_lost, verdict.dropped_with_gap, verdict.quarantined) == (0, 0, 0)
        assert all(center.took_back(gateway) for gateway in center.gateways)
    finally:
        center.close()
        shutil.rmtree(directory)
