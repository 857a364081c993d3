"""NumPy's columns as PostgreSQL's arrays of one dimension. psycopg would walk a list, element by element, into text."""

import struct
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format

# As array_send in PostgreSQL's arrayfuncs.c writes it: dimensions, flags, the type's oid, for each dimension its size
# and lower bound; then each element's length and bytes.
_HEAD = struct.Struct(">i i i i i")

_TYPES = {"int4": (23, ">i4"), "int8": (20, ">i8"), "float8": (701, ">f8")}
_RECEIVED = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float8": ">f8"}
_ARRAY_OIDS = {"int4": 1007, "int8": 1016, "float8": 1022}


class Int4s(bytes):
    """A parameter of type int[]; made by `int4s`."""


class Int8s(bytes):
    """A parameter of type bigint[]; made by `int8s`."""


class Float8s(bytes):
    """A parameter of type float8[]; made by `float8s`."""


def int4s(values: NDArray[np.int32] | NDArray[np.int64]) -> Int4s:
    """n integers of 32 bits."""
    return Int4s(_packed(values, "int4"))


def int8s(values: NDArray[np.int64]) -> Int8s:
    """n integers of 64 bits."""
    return Int8s(_packed(values, "int8"))


def float8s(values: NDArray[np.float64]) -> Float8s:
    """n floats of 64 bits."""
    return Float8s(_packed(values, "float8"))


def _packed(values: NDArray[Any], name: str) -> bytes:
    oid, dtype = _TYPES[name]
    elements = np.empty(len(values), dtype=[("length", ">i4"), ("value", dtype)])
    elements["length"] = np.dtype(dtype).itemsize
    elements["value"] = values
    return _HEAD.pack(1, 0, oid, len(values), 1) + elements.tobytes()


def received(sent: bytes | None, name: str) -> NDArray[Any]:
    """The elements of what array_send gave for an array of one dimension without nulls; of none for a null."""
    dtype = _RECEIVED[name]
    elements = [("length", ">i4"), ("value", dtype)]
    return np.frombuffer(b"" if sent is None else sent, elements, offset=0 if sent is None else _HEAD.size)["value"]


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


for _kind, _name in ((Int4s, "int4"), (Int8s, "int8"), (Float8s, "float8")):
    psycopg.adapters.register_dumper(_kind, type(f"{_name}Dumper", (_ArrayDumper,), {"oid": _ARRAY_OIDS[_name]}))
