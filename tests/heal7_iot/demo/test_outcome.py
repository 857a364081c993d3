"""When the books balance, and when they must not."""

from dataclasses import replace

import pytest

from heal7_iot.demo.books import DatabaseBook, SpoolBook
from heal7_iot.demo.observation import CommitLatency
from heal7_iot.demo.outcome import Result, balanced, summary, verdict

_SPOOL = SpoolBook(batches=9, sealed=100, settled=97, dropped=3, never_sealed=0)
_DATABASE = DatabaseBook(
    gateways=1, committed=95, quarantined=2, dropped=3, presumed_lost=0, duplicates=1, rows=95, rows_twice=0
)


def test_a_drop_and_a_quarantine_are_accounted_for() -> None:
    assert balanced(_SPOOL, _DATABASE)


@pytest.mark.parametrize(
    ("spool", "database"),
    [
        ({"sealed": 101}, {}),  # one more that nobody knows of
        ({"settled": 96}, {}),  # one is still under way
        ({}, {"committed": 94, "rows": 94}),  # the ledger lost one
        ({}, {"rows": 94}),  # a row is missing
        ({}, {"rows": 96}),  # one too many
        ({}, {"rows_twice": 1}),  # one too many, hidden by one that is missing
        ({}, {"dropped": 2}),  # the two books differ on a drop
    ],
)
def test_whatever_is_wrong_in_one_book_shows(spool: dict[str, int], database: dict[str, int]) -> None:
    broken = Result(1.0, "nats", replace(_SPOOL, **spool), replace(_DATABASE, **database), CommitLatency())
    assert not balanced(broken.spool, broken.database)
    assert summary(broken)["balanced"] is False
    assert "DO NOT BALANCE" in verdict(broken)
