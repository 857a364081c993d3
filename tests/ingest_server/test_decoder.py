"""Whatever a body holds, it decodes or it is unusable: another error would end the server, again and again."""

import contextlib

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from gateway.link import wire
from gateway.link.errors import UnusableBatch
from ingest_server.decoder import Columns, open_body
from tests.golden.wire import independent

GATEWAY = "seoul-1/lobby"
GOOD = independent.data_body(
    [["d", "c", "q", "u", "p", "f"]] * 2, [(1_000 + n, n % 2, n / 2, 100) for n in range(5)], frames={1: b"BM"}
)
GAPS = independent.gap_body([independent.gap("bound", 7, 1, [2, 3]), independent.gap("overrun", 0, 0, [], None)])

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=50) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=8,
)
keys = st.sampled_from(["series", "t", "s", "v", "q", "c", "frames", "gaps", "reason", "epoch", "counts"])
bodies = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(keys, anything, max_size=7).map(msgpack.packb),
    st.tuples(st.sampled_from([GOOD, GAPS]), st.integers(0), st.binary(max_size=3)).map(
        lambda x: x[0][: x[1] % len(x[0])] + x[2] + x[0][x[1] % len(x[0]) + len(x[2]) :]
    ),
)


@given(bodies, st.integers(0, 6), st.integers(0, 3), st.integers(0, 3), st.integers(-(2**63), 2**63 - 1))
def test_any_body_decodes_or_is_unusable(body: bytes, readings: int, kind: int, source: int, offset: int) -> None:
    plan = independent.Plan(body, readings, kind=kind, source=source, offset=offset)
    batch = wire.decode(plan.payload(), GATEWAY)
    with contextlib.suppress(UnusableBatch):
        columns = open_body(batch)
        if isinstance(columns, Columns):
            assert len(columns.times_us) == len(columns.values) == readings
            wire.decode_series(columns.table)
