"""Statuses, receipts and server statuses: JSON that either end may have to read from a stranger."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.link.errors import ControlError
from gateway.link.ranges import RangeSet
from gateway.link.receipts import MAX_ANSWER_SPANS, EpochReceipt, Receipt
from gateway.link.status import MAX_CONTROL, EpochBook, Message, ServerStatus, SpoolBook, Status, parse
from gateway.link.wire import MAX_EPOCH, MAX_SEALED, MAX_SEQ

HEX = st.integers(1, MAX_EPOCH)
RANGES = st.lists(st.tuples(st.integers(0, MAX_SEQ - 9), st.integers(1, 9)), max_size=6).map(
    lambda pairs: RangeSet((first, first + length) for first, length in pairs)
)
BOOKS = st.builds(EpochBook, epoch=HEX, next=st.integers(0, MAX_SEQ), sealed=st.integers(0, MAX_SEALED), held=RANGES)
AMOUNTS = st.integers(0, MAX_EPOCH)
STATUSES = st.builds(
    Status,
    state=st.sampled_from(["online", "offline"]),
    instance=HEX,
    beat=AMOUNTS,
    nonce=AMOUNTS,
    version=st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
    sent_at_us=st.none() | st.integers(-(2**62), 2**62),
    epochs=st.lists(BOOKS, max_size=4, unique_by=lambda book: book.epoch).map(tuple),
    whole=st.booleans(),
    spool=st.none() | st.builds(SpoolBook, bytes=AMOUNTS, bound_bytes=AMOUNTS, batches=AMOUNTS, readings=AMOUNTS),
)
RECEIPTS = st.builds(
    Receipt,
    ledger=st.uuids().map(str),
    epochs=st.lists(st.builds(EpochReceipt, epoch=HEX, settled=RANGES), max_size=4).map(tuple),
    nonce=st.none() | AMOUNTS,
)
SERVER = st.builds(
    ServerStatus,
    state=st.sampled_from(["online", "offline"]),
    wire=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    ledger=st.uuids().map(str),
    worker=st.just("b41c"),
)
KINDS: list[type[Message]] = [Status, Receipt, ServerStatus]
GOOD_STATUS: dict[str, Any] = {
    "v": 1,
    "state": "online",
    "instance": "0000000000005f0c",
    "beat": 17,
    "nonce": "00000000000009ab",
    "version": "0.1.0",
    "sent_at_us": 1795255200000000,
    "epochs": [{"epoch": "03d9000000000000", "next": 120, "sealed": 118034, "held": [[118, 120]]}],
    "spool": {"bytes": 81234, "bound_bytes": 1073741824, "batches": 2, "readings": 1990},
}


@given(STATUSES | RECEIPTS | SERVER)
def test_what_is_written_is_read(message: Message) -> None:
    assert parse(type(message), message.payload()) == message


def test_the_status_of_the_document_is_read() -> None:
    status = parse(Status, json.dumps(GOOD_STATUS | {"later": {"x": 1}}).encode())
    assert (status.instance, status.beat, status.nonce) == (0x5F0C, 17, 0x9AB)
    assert status.epochs[0].held == RangeSet([(118, 120)])
    written = json.loads(status.payload())
    assert {key: written[key] for key in GOOD_STATUS} == GOOD_STATUS


def test_a_last_will_has_only_state_and_instance() -> None:
    will = parse(Status, b'{"v": 1, "state": "offline", "instance": "0000000000005f0c"}')
    assert (will.state, will.instance, will.epochs) == ("offline", 0x5F0C, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(KINDS), st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@example(Status, b"[" * 100_000)
@example(Status, b'{"v":1,"state":"online","instance":"0000000000000001","version":"\\ud800"}')
@example(Receipt, b'{"v":1,"ledger":"x","epochs":[{"epoch":"0000000000000001","settled":[[' + b"9" * 5000 + b",1]]}]}")
@example(ServerStatus, b"\xff\xfe")
def test_junk_raises_control_errors_and_nothing_else(kind: type[Message], junk: bytes) -> None:
    with pytest.raises(ControlError):
        parse(kind, junk)


@given(st.sampled_from(sorted(GOOD_STATUS)), JSON)
def test_a_status_with_one_key_of_junk_is_read_or_refused(key: str, junk: object) -> None:
    payload = json.dumps(GOOD_STATUS | {key: junk}).encode()
    try:
        status = parse(Status, payload)
    except ControlError:
        return
    assert parse(Status, status.payload()) == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2},
        {"state": "away"},
        {"instance": "5F0C000000000000"},
        {"instance": "5f0c"},
        {"instance": "0000000000000000"},
        {"instance": "8000000000000000"},
        {"instance": "+000000000005f0c"},
        {"instance": "000000000000_f0c"},
        {"instance": "٠" * 16},
        {"beat": -1},
        {"version": "x" * 65},
        {"epochs": GOOD_STATUS["epochs"] * 2},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"next": MAX_SEQ + 1}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"sealed": MAX_SEALED + 1}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": [[3, 3]]}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": [[-1, 3]]}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": [[1, True]]}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": [[1, 2, 3]]}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": [[0, MAX_SEQ + 1]]}]},
        {"epochs": [GOOD_STATUS["epochs"][0] | {"held": "[0,1)"}]},
    ],
    ids=str,
)
def test_a_status_beyond_its_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ControlError, match=r"^Status: \w+"):
        parse(Status, json.dumps(GOOD_STATUS | wrong).encode())


def test_too_much_is_refused_before_it_is_parsed() -> None:
    padding = json.dumps(GOOD_STATUS).encode()
    assert parse(Status, padding.ljust(MAX_CONTROL)).beat == 17
    with pytest.raises(ControlError, match="more than"):
        parse(Status, padding.ljust(MAX_CONTROL + 1))


def test_the_longest_answer_of_one_epoch_can_be_read() -> None:
    longest = RangeSet((MAX_SEQ - 3 * n - 2, MAX_SEQ - 3 * n) for n in range(MAX_ANSWER_SPANS))
    receipt = Receipt(ledger="0f8fad5b-d9cb-469f-a165-70867728950e", epochs=(EpochReceipt(epoch=1, settled=longest),))
    assert parse(Receipt, receipt.payload()) == receipt
