"""Columns arrive in PostgreSQL as the values that they are."""

import math

import numpy as np
import pytest

from ingest_server.storage.arrays import Float8s, Int4s, Int8s, float8s, int4s, int8s
from tests.peers.postgres import Database

_CASES = [
    ("int[]", int4s(np.array([0, -1, 2**31 - 1, -(2**31)], dtype=np.int32)), [0, -1, 2**31 - 1, -(2**31)]),
    ("bigint[]", int8s(np.array([0, -1, 2**63 - 1, -(2**63)], dtype=np.int64)), [0, -1, 2**63 - 1, -(2**63)]),
    ("float8[]", float8s(np.array([0.1, -math.inf, 5e-324])), [0.1, -math.inf, 5e-324]),
    ("int[]", int4s(np.array([], dtype=np.int32)), []),
]


@pytest.mark.parametrize(("kind", "column", "expected"), _CASES)
def test_a_column_arrives(
    kind: str, column: Int4s | Int8s | Float8s, expected: list[float], any_database: Database
) -> None:
    assert any_database.query(f"SELECT pg_typeof(%s)::text = %s::regtype::text, %s::{kind}", column, kind, column) == [
        (True, expected)
    ]
