"""Batches as bytes: wire format version 1 (WIRE.md §2). Sans I/O: no clock, socket or log in here.

Encoding uses `array`, not NumPy, so that an edge device need not carry it; the server decodes the columns in
`ingest_server.decoder`.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

import msgpack
import zstandard

from device_drivers.reading import Reading, Series
from gateway.link.anchor import Anchor, ClockSource
from gateway.link.errors import DamagedBatch, UnsupportedVersion, UnusableBatch
from gateway.link.topics import is_gateway_name

MAGIC = b"H7IB"
VERSION = 1
MAX_PAYLOAD = 131_072
"""Bytes of a whole batch: brokers and clients take this unconfigured; an SD card writes it at once."""
MAX_BODY = 1_048_576
"""Bytes of a decompressed body: what a hostile 128 KiB may make a server allocate."""
MAX_READINGS = 32_768
MAX_SERIES = 4_096
MAX_STRING = 128
MAX_GAP_SEQS = 4_096
MAX_EPOCH = 2**63 - 1
MAX_SEQ = 2**62
"""One more than the greatest seq: so that the end of a range has its place in 64 bits, too."""
MAX_SEALED = 2**53
"""Readings of one epoch: sums over an epoch's book, and over a thousand epochs, stay within 64 bits."""
_MAX_WINDOW = 8_388_608
# Bytes: a zstd frame chooses what its reader must allocate; RFC 8878 asks readers for no more than this.

_FIXED = struct.Struct("<4sBBBBHHIQQQqQQIII")
_CRC = struct.Struct("<I")
_SMALLEST = _FIXED.size + _CRC.size
ENVELOPE_ROOM = _SMALLEST + 129
"""Bytes that an envelope takes at most: what is left of MAX_PAYLOAD is the body's."""

_COMPRESSION_LEVEL = 3


class Kind(IntEnum):
    DATA = 0
    GAP = 1


class Encoding(IntEnum):
    PLAIN = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Body:
    """A sealed body: from here on these bytes never change."""

    encoding: int  # an Encoding, where the writer knew what it did: `unpack` checks
    stored: bytes
    length: int  # when decompressed
    crc: int

    def intact(self) -> bool:
        """Whether the stored bytes are still those that were sealed."""
        return crc32(self.stored) == self.crc


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a server must know before it looks into the body."""

    kind: int  # a Kind, where the writer knew what it did: `unpack` checks
    gateway: str
    epoch: int
    seq: int
    readings: int
    readings_before: int
    anchor: Anchor
    instance: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One sealed batch."""

    envelope: Envelope
    body: Body


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing, and why: either seqs `first …` with `counts` readings each, or unsealed `readings`.

    from_us, to_us: interval of what is missing, Unix µs, None where unknown.
    """

    reason: str
    epoch: int
    first: int
    counts: tuple[int, ...]
    readings: int | None
    from_us: int | None
    to_us: int | None


def encode_data(readings: Sequence[Reading]) -> Body:
    """The body of a data batch. The caller keeps `1 <= len(readings) <= MAX_READINGS`."""
    index: dict[Series, int] = {}
    times, series = array("q"), array("H")
    values, reliabilities, causes = array("d"), array("B"), array("I")
    frames: dict[int, bytes] = {}
    before = 0
    for n, reading in enumerate(readings):
        times.append(reading.taken_at_us - before)
        before = reading.taken_at_us
        series.append(index.setdefault(reading.series, len(index)))
        values.append(reading.value)
        reliabilities.append(reading.reliability)
        causes.append(reading.causes)
        if reading.frame is not None:
            frames[n] = reading.frame
    table = [(s.device, s.channel, s.quantity, s.unit, s.profile, s.firmware) for s in index]
    content: dict[str, object] = {
        "series": msgpack.packb(table),
        "t": _little_endian(times),
        "s": _little_endian(series),
        "v": _little_endian(values),
        "q": reliabilities.tobytes(),
    }
    if any(causes):
        content["c"] = _little_endian(causes)
    if frames:
        content["frames"] = frames
    return pack(content)


def encode_gaps(gaps: Iterable[Gap]) -> Body:
    """The body of a gap batch. The caller keeps to MAX_GAP_SEQS."""
    return pack(
        {
            "gaps": [
                {
                    "reason": g.reason,
                    "epoch": g.epoch,
                    "first": g.first,
                    "counts": g.counts,
                    "readings": g.readings,
                    "from": g.from_us,
                    "to": g.to_us,
                }
                for g in gaps
            ]
        }
    )


def pack(found: dict[str, object]) -> Body:
    """A body of this map; `unpack` gives it back."""
    content = msgpack.packb(found)
    packed = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(content)
    encoding, stored = (Encoding.ZSTD, packed) if len(packed) < len(content) else (Encoding.PLAIN, content)
    return Body(encoding, stored, len(content), crc32(stored))


def _little_endian(column: "array[int] | array[float]") -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def encode(batch: Batch) -> bytes:
    """The payload: envelope and body."""
    e, b = batch.envelope, batch.body
    name = e.gateway.encode()
    head = _FIXED.pack(
        MAGIC,
        VERSION,
        e.kind,
        b.encoding,
        e.anchor.source,
        _SMALLEST + len(name),
        len(name),
        e.readings,
        e.epoch,
        e.seq,
        e.readings_before,
        e.anchor.offset_us,
        e.anchor.uncertainty_us,
        e.instance,
        len(b.stored),
        b.length,
        b.crc,
    )
    head += name
    return head + _CRC.pack(crc32(head)) + b.stored


def decode(payload: bytes, gateway: str) -> Batch:
    """The batch in a payload that came on the topic of `gateway`, its body still packed.

    Raises DamagedBatch and UnsupportedVersion as WIRE.md §4 says; a body that its envelope contradicts is
    found only by `unpack`.
    """
    if len(payload) < 8 or payload[:4] != MAGIC:
        raise DamagedBatch("not a batch: magic is missing")
    if payload[4] != VERSION:
        raise UnsupportedVersion(payload[4])
    if not _SMALLEST <= len(payload) <= MAX_PAYLOAD:
        raise DamagedBatch(f"{len(payload)} bytes, where a batch has {_SMALLEST} to {MAX_PAYLOAD}")
    (_, _, kind, encoding, source, length, name_length, readings, epoch, seq, before, offset, uncertainty) = (
        _FIXED.unpack_from(payload)[:13]
    )
    instance, stored_length, body_length, body_crc = _FIXED.unpack_from(payload)[13:]
    if length < _SMALLEST + name_length or length + stored_length != len(payload):
        raise DamagedBatch(f"lengths {length} + {stored_length} do not make {len(payload)} bytes")
    if crc32(payload[: length - 4]) != _CRC.unpack_from(payload, length - 4)[0]:
        raise DamagedBatch("checksum of the envelope is wrong")
    stored = payload[length:]
    if crc32(stored) != body_crc:
        raise DamagedBatch("checksum of the body is wrong")
    # From here on the bytes are as they were written: what is wrong now was written wrong.
    name = payload[_FIXED.size : _FIXED.size + name_length]
    if name != gateway.encode() or not is_gateway_name(gateway):
        raise DamagedBatch(f"came on the topic of {gateway} but says that it is of {name!r}")
    identity = 1 <= epoch <= MAX_EPOCH and seq < MAX_SEQ and before <= MAX_SEALED and 1 <= instance <= MAX_EPOCH
    if not identity or readings > MAX_READINGS:
        raise DamagedBatch(f"epoch {epoch}, seq {seq}, {readings} readings: out of bounds, nothing to settle")
    anchor = Anchor(offset, uncertainty, source)
    envelope = Envelope(kind, gateway, epoch, seq, readings, before, anchor, instance)
    return Batch(envelope, Body(encoding, stored, body_length, body_crc))


def unpack(batch: Batch) -> dict[str, object]:
    """The map in a batch's body. Raises UnusableBatch."""
    envelope, body = batch.envelope, batch.body
    if envelope.kind not in tuple(Kind) or body.encoding not in tuple(Encoding):
        raise UnusableBatch(f"kind {envelope.kind}, encoding {body.encoding}: at least one is unknown")
    if envelope.anchor.source not in tuple(ClockSource):
        raise UnusableBatch(f"clock source {envelope.anchor.source} is unknown")
    if (envelope.readings == 0) != (envelope.kind == Kind.GAP):
        raise UnusableBatch(f"a batch of kind {envelope.kind} with {envelope.readings} readings")
    if body.length > MAX_BODY:
        raise UnusableBatch(f"body of {body.length} bytes, more than {MAX_BODY}")
    content = _decompress(body) if body.encoding == Encoding.ZSTD else body.stored
    if len(content) != body.length:
        raise UnusableBatch(f"body has {len(content)} bytes, its envelope says {body.length}")
    found = _unpack_msgpack(content)
    if not isinstance(found, dict):
        raise UnusableBatch(f"body is a {type(found).__name__}, not a map")
    return found


def _decompress(body: Body) -> bytes:
    try:
        # A frame states its own size and may lie: checked first, so that no hostile size is allocated.
        claimed = zstandard.frame_content_size(body.stored)
        if claimed > body.length:
            raise UnusableBatch(f"zstd frame claims {claimed} bytes, the envelope {body.length}")
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        return reader.decompress(body.stored, max_output_size=max(body.length, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UnusableBatch(f"zstd: {error}") from error


def _unpack_msgpack(content: bytes) -> object:
    try:
        return msgpack.unpackb(content, strict_map_key=False)
    # RecursionError: nested deeper than the unpacker's stack; TypeError: a map as a map's key.
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise UnusableBatch(f"msgpack: {error}") from error


def decode_series(packed: object) -> list[Series]:
    """The series table of a body. Raises UnusableBatch."""
    if not isinstance(packed, bytes):
        raise UnusableBatch("`series` is not binary")
    table = _unpack_msgpack(packed)
    if not isinstance(table, list) or not 1 <= len(table) <= MAX_SERIES:
        raise UnusableBatch(f"`series` is not an array of 1 to {MAX_SERIES}")
    return [_series(row) for row in table]


def _series(row: object) -> Series:
    if not isinstance(row, list) or len(row) < 6:
        raise UnusableBatch(f"series {row!r:.100} is not an array of 6")
    series = Series(*row[:6])
    fault = series_fault(series)
    if fault:
        raise UnusableBatch(f"series {row!r:.100}: {fault}")
    return series


def series_fault(series: Series) -> str | None:
    """Why WIRE.md does not allow this series; None where it does."""
    for name in ("device", "channel", "quantity", "unit", "profile", "firmware"):
        field = getattr(series, name)
        if not isinstance(field, str):
            return f"{name} is not a string"
        # Lone surrogates have no UTF-8; PostgreSQL's text holds no NUL; no name means a control character.
        if not field.isprintable() and any(ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in field):
            return f"{name} has a control character or half a character"
        if len(field.encode()) > MAX_STRING:
            return f"{name} is longer than {MAX_STRING} bytes"
    if not (series.device and series.channel and series.quantity):
        return "device, channel and quantity may not be empty"
    return None


def decode_gaps(content: dict[str, object]) -> list[Gap]:
    """The gaps of a gap body. Raises UnusableBatch."""
    entries = content.get("gaps")
    if not isinstance(entries, list):
        raise UnusableBatch("`gaps` is not an array")
    gaps = [_gap(entry) for entry in entries]
    if sum(len(g.counts) for g in gaps) > MAX_GAP_SEQS or len(gaps) > MAX_GAP_SEQS:
        raise UnusableBatch(f"more than {MAX_GAP_SEQS} seqs in one gap batch")
    return gaps


def _gap(entry: object) -> Gap:
    if not isinstance(entry, dict):
        raise UnusableBatch(f"gap {entry!r:.100} is not a map")
    reason, counts = entry.get("reason"), entry.get("counts")
    if not isinstance(reason, str) or not 0 < len(reason) <= 32 or not reason.isprintable():
        raise UnusableBatch(f"gap reason {reason!r:.100} is not a short string")
    if not isinstance(counts, list):
        raise UnusableBatch("gap `counts` is not an array")
    epoch = _bounded(entry, "epoch", 0, MAX_EPOCH)
    first = _bounded(entry, "first", 0, MAX_SEQ)
    if epoch is None or first is None or (counts and epoch == 0):
        raise UnusableBatch("gap names seqs but no epoch")
    if first + len(counts) > MAX_SEQ:
        raise UnusableBatch(f"gap of {len(counts)} seqs from {first} on reaches beyond the greatest seq")
    if not all(type(c) is int and 0 <= c <= MAX_READINGS for c in counts):
        raise UnusableBatch("gap `counts` is not an array of numbers of readings")
    return Gap(
        reason,
        epoch,
        first,
        tuple(counts),
        _bounded(entry, "readings", 0, MAX_EPOCH),
        _bounded(entry, "from", -MAX_EPOCH, MAX_EPOCH),
        _bounded(entry, "to", -MAX_EPOCH, MAX_EPOCH),
    )


def _bounded(entry: dict[str, object], key: str, least: int, most: int) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise UnusableBatch(f"gap `{key}` is {value!r:.100}, not a whole number in [{least}, {most}]")
    return value
