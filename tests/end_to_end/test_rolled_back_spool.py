"""The spool's file is put back to an older copy, as a restored image or a disk that lied about fsync would."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from gateway.link.wire import Kind
from tests.end_to_end.line import Line

# Old batches wait this long by chance before they are sent: time to kill the gateway when it has told of them.
LONG_SPREAD_S = 300.0


def copy_spool(line: Line, name: str) -> Path:
    """A copy of the file as it is, with its write-ahead log; the gateway must not be running."""
    target = line.directory / name
    target.mkdir()
    for file in line.state.glob("spool.sqlite3*"):
        shutil.copy2(file, target / file.name)
    return target / "spool.sqlite3"


def put_back(line: Line, copy: Path) -> None:
    for file in line.state.glob("spool.sqlite3*"):
        file.unlink()
    for file in copy.parent.glob("spool.sqlite3*"):
        shutil.copy2(file, line.state / file.name)


def seal_unheard(line: Line, readings: int) -> set[int]:
    """The server is killed, and a start of the gateway seals so many that only its spool has; the epochs of that."""
    line.kill("ingest")
    before = line.sealed()
    goal = sum(len(batch.readings) for batch in before.values()) + readings
    line.start_gateway()
    # Of this start: what the one before it has left may be as many.
    line.wait("the gateway sealed more", lambda: line.speaks() and line.report()["spool"]["sealed"] >= goal)
    line.kill("gateway")
    return {epoch for epoch, _ in line.sealed()} - {epoch for epoch, _ in before}


def tell_and_die(line: Line, epochs: set[int]) -> None:
    """The gateway tells the server of all that it holds of these epochs, and is killed before it sends any of that.

    Nothing is read meanwhile: what nobody was told of, nobody could tell of.
    """
    sealed = Counter[int]()
    for (epoch, _), batch in line.sealed().items():
        sealed[epoch] += len(batch.readings)
    line.sensors.pause()
    line.spread_s = LONG_SPREAD_S
    line.start_ingest()
    line.start_gateway()
    # Not only that it holds something: that much the broker has retained from the process before.
    told = "SELECT epoch, sealed FROM iot_service.books_by_epoch"
    line.wait(
        "the server knows of all that the gateway holds",
        lambda: all(line.numbers(told).get(epoch, 0) >= sealed[epoch] for epoch in epochs),
    )
    line.kill("gateway")
    line.spread_s = 0.0
    line.sensors.resume()


def lose_the_newer_copy(line: Line) -> tuple[Path, Path]:
    """An older copy of the spool, and the newer one, of which the server knows but has nothing; the gateway is down."""
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(300)
    line.kill("gateway")
    older = copy_spool(line, "older")
    tell_and_die(line, seal_unheard(line, 300))
    return older, copy_spool(line, "newer")


def test_what_only_the_lost_copy_held_is_presumed_lost(line: Line) -> None:
    older, lost_copy = lose_the_newer_copy(line)
    put_back(line, older)
    line.start_gateway()
    line.wait_committed(300)
    line.sensors.close()
    line.wait(
        "what the lost copy held is presumed lost",
        lambda: (
            line.query("SELECT bool_and(balanced AND in_flight = 0) FROM iot_service.books") == [(True,)]
            and line.query("SELECT sum(presumed_lost) > 0 FROM iot_service.books") == [(True,)]
        ),
    )
    line.stop_gateway()

    # No identity has two bodies, and what is in the table is what either copy sealed and still had.
    lost, kept = line.sealed(lost_copy), line.sealed()
    settled_epochs = {key[0] for key in kept}
    assert all(lost[key] == kept[key] for key in lost.keys() & kept.keys())
    only_lost = {key: batch for key, batch in lost.items() if key not in kept and batch.kind == Kind.DATA}
    told = line.numbers("SELECT epoch, readings FROM iot_service.data_gaps WHERE reason = 'presumed_lost'")
    arrived = line.numbers("SELECT epoch, committed FROM iot_service.ledger")
    for epoch in {key[0] for key in only_lost}:
        sealed = sum(len(batch.readings) for key, batch in only_lost.items() if key[0] == epoch)
        assert told.get(epoch, 0) + arrived.get(epoch, 0) == sealed
    assert sum(told.values()) > 0
    assert settled_epochs
    line.assert_no_row_twice()
    assert line.audit() == 0


@pytest.mark.slow
def test_a_presumed_loss_that_arrives_after_all_corrects_the_books(line: Line) -> None:
    older, newer = lose_the_newer_copy(line)
    put_back(line, older)
    line.start_gateway()
    line.wait(
        "the loss is presumed",
        lambda: line.query("SELECT sum(presumed_lost) > 0 FROM iot_service.books") == [(True,)],
    )
    # What it sealed and had not sent yet would stay with the card that is taken out.
    line.sensors.pause()
    line.wait_settled()
    line.kill("gateway")
    line.sensors.resume()
    rolled_back = copy_spool(line, "rolled-back")

    # The card that was thought lost is found and put in again.
    put_back(line, newer)
    line.start_gateway()
    line.wait(
        "what was presumed lost has arrived",
        lambda: (
            line.query(
                "SELECT sum(corrected) > 0 AND sum(readings) = sum(corrected) FROM iot_service.data_gaps"
                " WHERE reason = 'presumed_lost'"
            )
            == [(True,)]
            and line.query("SELECT sum(presumed_lost) = 0 FROM iot_service.books") == [(True,)]
        ),
    )
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once(line.spool, rolled_back)
    assert line.audit() == 0
