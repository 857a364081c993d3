"""Sealing: when, how large, and what is refused."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.reading import Reading, Series
from gateway.batcher import MIN_BODY, Batcher, Sealed, reading_fault
from gateway.link import wire
from gateway.link.anchor import Anchor, ClockSource
from tests.gateway.scripted_driver import reading

MOST = wire.MAX_PAYLOAD - wire.ENVELOPE_ROOM


def opened(sealed: Sealed) -> dict[str, object]:
    envelope = wire.Envelope(wire.Kind.DATA, "s/g", 1, 0, sealed.readings, 0, Anchor(0, 0, ClockSource.SYSTEM), 1)
    payload = wire.encode(wire.Batch(envelope, sealed.body))
    assert len(payload) <= wire.MAX_PAYLOAD
    return wire.unpack(wire.decode(payload, "s/g"))


def test_a_batch_lingers_from_its_first_reading() -> None:
    batcher = Batcher(linger_s=1.0, max_readings=100)
    assert batcher.due_s() == math.inf
    assert batcher.add([reading("a", 1.0)], now_s=10.0) == []
    assert batcher.add([reading("a", 2.0)], now_s=10.9) == []
    assert batcher.due_s() == 11.0
    (sealed,) = batcher.seal()
    assert (sealed.readings, batcher.due_s(), batcher.seal()) == (2, math.inf, [])


def test_a_full_batch_is_sealed_at_once_and_the_rest_lingers_anew() -> None:
    batcher = Batcher(linger_s=1.0, max_readings=3)
    sealed = batcher.add([reading("a", float(n), 1000 + n) for n in range(7)], now_s=5.0)
    assert [one.readings for one in sealed] == [3, 3]
    assert [(one.first_us, one.last_us) for one in sealed] == [(1000, 1002), (1003, 1005)]
    assert (batcher.waiting(), batcher.due_s()) == (1, 6.0)


def test_readings_out_of_order_give_the_interval_that_they_span() -> None:
    batcher = Batcher(1.0, 100)
    batcher.add([reading("a", 1.0, 500), reading("a", 2.0, 200), reading("a", 3.0, 300)], 0.0)
    (sealed,) = batcher.seal()
    assert (sealed.first_us, sealed.last_us) == (200, 500)


def test_incompressible_frames_are_spread_over_batches_that_fit() -> None:
    from random import Random

    frames = [Random(n).randbytes(3000) for n in range(100)]
    batcher = Batcher(1.0, 1000)
    raw = [replace(reading("a", math.nan, n), frame=frame) for n, frame in enumerate(frames)]
    sealed = batcher.add(raw, 0.0) + batcher.seal()
    assert sum(one.readings for one in sealed) == 100
    assert len(sealed) == 3
    found: list[bytes] = []
    for one in sealed:
        content = opened(one)["frames"]
        assert isinstance(content, dict)
        found += content.values()
    assert found == frames


def test_a_limit_that_the_broker_sets_later_splits_what_is_there() -> None:
    batcher = Batcher(1.0, 1000)
    batcher.add([reading("a", 1.1**n, n * n * 997) for n in range(500)], 0.0)
    batcher.limit_body(2000)
    sealed = batcher.seal()
    assert len(sealed) > 1
    assert sum(one.readings for one in sealed) == 500
    assert all(len(one.body.stored) <= 2000 for one in sealed)
    batcher.limit_body(None)
    batcher.add([reading("a", 1.1**n, n * n * 997) for n in range(500)], 0.0)
    assert len(batcher.seal()) == 1


def test_a_reading_that_fits_nowhere_is_refused_and_counted() -> None:
    from random import Random

    batcher = Batcher(1.0, 1000)
    batcher.limit_body(1)
    noise = Random(1).randbytes(MIN_BODY)
    batcher.add([replace(reading("a", math.nan, 77), frame=noise), reading("a", 1.0, 78)], 0.0)
    sealed = batcher.seal()
    assert [one.readings for one in sealed] == [1]
    refused = batcher.refused()
    assert refused is not None
    assert (refused.readings, refused.first_us, refused.last_us) == (1, 77, 77)
    assert batcher.refused() is None


BAD = [
    replace(reading("a", 1.0), value="1.0"),  # type: ignore[arg-type]
    replace(reading("a", 1.0), value=None),  # type: ignore[arg-type]
    replace(reading("a", 1.0), value=2**60),
    replace(reading("a", 1.0), taken_at_us=-1),
    replace(reading("a", 1.0), taken_at_us=2**63),
    replace(reading("a", 1.0), taken_at_us=1.5),  # type: ignore[arg-type]
    replace(reading("a", 1.0), reliability=101),
    replace(reading("a", 1.0), causes=2**32),
    reading("", 1.0),
    reading("a\n", 1.0),
    reading("x" * 129, 1.0),
    replace(reading("a", 1.0), series=Series("a", "b", "c", 5, "", "")),  # type: ignore[arg-type]
    replace(reading("a", 1.0), series=Series("a", "b", "c", ["unit"], "", "")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_reading_that_no_batch_can_hold_is_refused_and_harms_no_other(bad: Reading) -> None:
    batcher = Batcher(1.0, 100)
    batcher.add([reading("a", 1.0), bad, reading("b", 2.0)], 0.0)
    (sealed,) = batcher.seal()
    assert sealed.readings == 2
    assert opened(sealed)
    refused = batcher.refused()
    assert refused is not None
    assert refused.readings == 1
    assert refused.fault


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0, 5])
def test_what_the_server_is_to_judge_is_not_refused(value: float) -> None:
    assert reading_fault(reading("a", value)) is None


def test_a_flood_of_bad_readings_costs_no_memory_and_says_when() -> None:
    batcher = Batcher(1.0, 100)
    batcher.add((replace(reading("a", 1.0, n), reliability=999) for n in range(10_000)), 0.0)
    refused = batcher.refused()
    assert refused is not None
    assert (refused.readings, refused.first_us, refused.last_us) == (10_000, 0, 9_999)


_READINGS = st.lists(
    st.builds(
        lambda device, value, at, frame: replace(reading(device, value, at), frame=frame),
        st.text(min_size=1, max_size=30),
        st.floats(),
        st.integers(0, 2**62 - 1),
        st.none() | st.binary(max_size=400),
    ),
    max_size=60,
)


@given(_READINGS, st.integers(1, 20), st.integers(MIN_BODY, 3000))
def test_every_reading_is_sealed_once_or_refused_and_every_batch_fits(
    readings: list[Reading], max_readings: int, max_body: int
) -> None:
    batcher = Batcher(1.0, max_readings)
    batcher.limit_body(max_body)
    sealed = batcher.add(readings, 0.0) + batcher.seal()
    refused = batcher.refused()
    assert sum(one.readings for one in sealed) + (refused.readings if refused else 0) == len(readings)
    for one in sealed:
        assert 1 <= one.readings <= max_readings
        assert len(one.body.stored) <= max_body
        opened(one)
