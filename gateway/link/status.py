"""What gateway and server say of themselves: JSON, small, read by people too (WIRE.md §5, §7)."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, field_validator

from gateway.link.errors import ControlError
from gateway.link.ranges import RangeSet
from gateway.link.wire import MAX_EPOCH, MAX_SEALED, MAX_SEQ

MAX_CONTROL = 262_144
"""Bytes of a status or receipt: more is refused before it is parsed. The 2,000 longest ranges of one epoch fit."""


def _from_hex(value: object) -> object:
    if isinstance(value, int):
        return value
    # int() alone would take signs, underscores and other alphabets' digits.
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{16}", value):
        raise ValueError("is not 16 hex digits")
    return int(value, 16)


def _to_ranges(value: object) -> RangeSet:
    if isinstance(value, RangeSet):
        return value
    if not isinstance(value, list):
        raise ValueError("is not an array of ranges")  # pydantic reports ValueError, lets TypeError through
    ranges: list[tuple[int, int]] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(n) is int and n <= MAX_SEQ for n in pair):
            raise ValueError(f"{pair!r:.60} is not a range [first, end]")
        ranges.append((pair[0], pair[1]))
    return RangeSet(ranges)


Hex64 = Annotated[
    int,
    BeforeValidator(_from_hex),
    Field(ge=0, le=MAX_EPOCH),
    PlainSerializer(lambda n: f"{n:016x}", return_type=str),
]
"""A number above 2^53, which JSON readers would round: 16 hex digits."""
Ranges = Annotated[RangeSet, BeforeValidator(_to_ranges), PlainSerializer(lambda r: [list(p) for p in r])]


class Message(BaseModel):
    """A control message: unknown keys are skipped, so that a later version may add some."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="ignore")

    v: Literal[1] = 1

    def payload(self) -> bytes:
        return self.model_dump_json(exclude_none=False).encode()


class EpochBook(BaseModel):
    """The gateway's book of one epoch."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="ignore")

    epoch: Annotated[Hex64, Field(ge=1)]
    next: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    sealed: Annotated[int, Field(ge=0, le=MAX_SEALED)]
    held: Ranges


class SpoolBook(BaseModel):
    """How full the gateway's spool is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bytes: Annotated[int, Field(ge=0, le=MAX_EPOCH)]
    bound_bytes: Annotated[int, Field(ge=0, le=MAX_EPOCH)]
    batches: Annotated[int, Field(ge=0, le=MAX_EPOCH)]
    readings: Annotated[int, Field(ge=0, le=MAX_EPOCH)]


class Status(Message):
    """A gateway's status; its last will has only `state` and `instance`."""

    state: Literal["online", "offline"]
    instance: Annotated[Hex64, Field(ge=1)]
    beat: Annotated[int, Field(ge=0, le=MAX_EPOCH)] = 0
    nonce: Hex64 = 0
    version: Annotated[str, Field(max_length=64)] = ""
    sent_at_us: int | None = None
    epochs: tuple[EpochBook, ...] = ()
    whole: bool = True
    spool: SpoolBook | None = None

    @field_validator("epochs")
    @classmethod
    def _each_once(cls, epochs: tuple[EpochBook, ...]) -> tuple[EpochBook, ...]:
        if len({book.epoch for book in epochs}) != len(epochs):
            raise ValueError("an epoch is listed twice")
        return epochs


class ServerStatus(Message):
    """Whether the server takes batches, and of which wire versions."""

    state: Literal["online", "offline"]
    wire: tuple[int, ...] = ()
    ledger: str = ""
    worker: str = ""


_M = TypeVar("_M", bound=Message)


def parse(kind: type[_M], payload: bytes) -> _M:
    """A control message. Raises ControlError, which names the first fault."""
    if len(payload) > MAX_CONTROL:
        raise ControlError(f"{kind.__name__} of {len(payload)} bytes, more than {MAX_CONTROL}")
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ControlError(f"{kind.__name__}: {where or 'payload'}: {first['msg']}") from error
