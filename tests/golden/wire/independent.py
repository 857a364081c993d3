"""A second reader and writer of wire format 1, written from WIRE.md's text alone.

It imports nothing of ours. What it and `gateway.link.wire` disagree on is a fault of one of them or of the text.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgpack
import zstandard

# WIRE.md §2, the table of the envelope, row by row.
ENVELOPE = "<4s B B B B H H I Q Q Q q Q Q I I I".replace(" ", "")
FIELDS = (
    "magic",
    "version",
    "kind",
    "encoding",
    "source",
    "e",
    "g",
    "readings",
    "epoch",
    "seq",
    "before",
    "offset",
    "uncertainty",
    "instance",
    "b",
    "length",
    "body_crc",
)
NAME_AT = 76
SOURCES = ("kernel", "system", "estimated")
KINDS = ("data", "gap")


class Fate(Exception):
    """A batch that is not sound: `damaged`, `unsupported` or `unusable` (WIRE.md §4)."""

    def __init__(self, fate: str, why: str) -> None:
        super().__init__(f"{fate}: {why}")
        self.fate = fate


@dataclass
class Plan:
    """A batch to be written, sound by default; every field may be made to lie."""

    body: bytes
    readings: int
    kind: int = 0
    gateway: bytes = b"seoul-1/lobby"
    epoch: int = 0x03D9_0000_0000_0001
    seq: int = 0
    before: int = 0
    offset: int = 1_795_255_200_000_000
    uncertainty: int = 2_000
    source: int = 0
    instance: int = 0x5F0C
    encoding: int = 0
    version: int = 1
    magic: bytes = b"H7IB"
    extension: bytes = b""
    lies: dict[str, int] = field(default_factory=dict)

    def payload(self) -> bytes:
        """The bytes as WIRE.md §2 has them, then with the lies told under right checksums."""
        stored = zstandard.ZstdCompressor(level=3).compress(self.body) if self.encoding == 1 else self.body
        return self.around(stored, len(self.body))

    def around(self, stored: bytes, length: int) -> bytes:
        """The envelope around a body that is stored already."""
        values: dict[str, Any] = {
            "magic": self.magic,
            "version": self.version,
            "kind": self.kind,
            "encoding": self.encoding,
            "source": self.source,
            "e": NAME_AT + len(self.gateway) + len(self.extension) + 4,
            "g": len(self.gateway),
            "readings": self.readings,
            "epoch": self.epoch,
            "seq": self.seq,
            "before": self.before,
            "offset": self.offset,
            "uncertainty": self.uncertainty,
            "instance": self.instance,
            "b": len(stored),
            "length": length,
            "body_crc": zlib.crc32(stored),
        } | self.lies
        head = struct.pack(ENVELOPE, *(values[name] for name in FIELDS)) + self.gateway + self.extension
        return head + struct.pack("<I", zlib.crc32(head)) + stored


def data_body(
    series: list[list[Any]],
    rows: list[tuple[int, int, float, int]],
    *,
    causes: list[int] | None = None,
    frames: dict[int, bytes] | None = None,
    other: dict[str, Any] | None = None,
) -> bytes:
    """The map of kind data. rows: (monotonic µs, series, value, reliability)."""
    n = len(rows)
    times = [row[0] for row in rows]
    content: dict[str, Any] = {
        "series": msgpack.packb(series),
        "t": struct.pack(f"<{n}q", *(t - p for t, p in zip(times, [0, *times], strict=False))),
        "s": struct.pack(f"<{n}H", *(row[1] for row in rows)),
        "v": struct.pack(f"<{n}d", *(row[2] for row in rows)),
        "q": bytes(row[3] for row in rows),
    }
    if causes is not None:
        content["c"] = struct.pack(f"<{n}I", *causes)
    if frames is not None:
        content["frames"] = frames
    packed: bytes = msgpack.packb(content | (other or {}))
    return packed


def gap(
    reason: str,
    epoch: int,
    first: int,
    counts: list[int],
    readings: int | None = 0,
    interval: tuple[int | None, int | None] = (None, None),
) -> dict[str, Any]:
    """One entry of `gaps`."""
    return {
        "reason": reason,
        "epoch": epoch,
        "first": first,
        "counts": counts,
        "readings": readings,
        "from": interval[0],
        "to": interval[1],
    }


def gap_body(gaps: list[dict[str, Any]]) -> bytes:
    packed: bytes = msgpack.packb({"gaps": gaps})
    return packed


def read(payload: bytes, topic_gateway: str) -> dict[str, Any]:
    """What a sound batch says. Raises Fate. In the order of WIRE.md §4."""
    if len(payload) < 8 or payload[:4] != b"H7IB":
        raise Fate("damaged", "magic")
    if payload[4] != 1:
        raise Fate("unsupported", f"version {payload[4]}")
    if len(payload) < 80 or len(payload) > 131_072:
        raise Fate("damaged", "size")
    f: dict[str, Any] = dict(zip(FIELDS, struct.unpack_from(ENVELOPE, payload), strict=True))
    if f["e"] < f["g"] + 80 or f["e"] + f["b"] != len(payload):
        raise Fate("damaged", "lengths")
    if zlib.crc32(payload[: f["e"] - 4]) != int.from_bytes(payload[f["e"] - 4 : f["e"]], "little"):
        raise Fate("damaged", "checksum of the envelope")
    stored = payload[f["e"] :]
    if zlib.crc32(stored) != f["body_crc"]:
        raise Fate("damaged", "checksum of the body")
    if payload[NAME_AT : NAME_AT + f["g"]] != topic_gateway.encode():
        raise Fate("damaged", "another gateway's name")
    for name, least, most in (
        ("epoch", 1, 2**63 - 1),
        ("seq", 0, 2**62 - 1),
        ("readings", 0, 32_768),
        ("before", 0, 2**53),
        ("instance", 1, 2**63 - 1),
    ):
        if not least <= f[name] <= most:
            raise Fate("damaged", f"{name} out of bounds")
    content = _body(f, stored)
    said = {
        "kind": KINDS[f["kind"]],
        "gateway": topic_gateway,
        "epoch": f"{f['epoch']:016x}",
        "seq": f["seq"],
        "readings_before": f["before"],
        "clock": {"offset_us": f["offset"], "uncertainty_us": f["uncertainty"], "source": SOURCES[f["source"]]},
        "instance": f"{f['instance']:016x}",
    }
    return said | (_gaps(content) if f["kind"] == 1 else _data(f, content))


def _body(f: dict[str, Any], stored: bytes) -> dict[Any, Any]:
    if f["kind"] not in (0, 1) or f["encoding"] not in (0, 1) or f["source"] not in (0, 1, 2):
        raise Fate("unusable", "kind, encoding or clock source")
    if (f["readings"] == 0) != (f["kind"] == 1):
        raise Fate("unusable", "kind and number of readings")
    if f["length"] > 1_048_576:
        raise Fate("unusable", "a body that is too large")
    content = stored
    if f["encoding"] == 1:
        content = _one_frame(stored)
    if len(content) != f["length"]:
        raise Fate("unusable", "length of the body")
    return _map(content)


def _one_frame(stored: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=2**23).decompressobj()
    try:
        content = reader.decompress(stored)
    except zstandard.ZstdError as error:
        raise Fate("unusable", str(error)) from error
    if not reader.eof or reader.unused_data:
        raise Fate("unusable", "not one whole zstd frame")
    return content


def _unpacked(content: bytes) -> Any:
    try:
        return msgpack.unpackb(content, strict_map_key=False)
    except Exception as error:
        raise Fate("unusable", f"msgpack: {error}") from error


def _map(content: bytes) -> dict[Any, Any]:
    found = _unpacked(content)
    if not isinstance(found, dict):
        raise Fate("unusable", "not a map")
    return found


def _data(f: dict[str, Any], content: dict[Any, Any]) -> dict[str, Any]:
    n = f["readings"]
    columns = {}
    for key, code, size in (("t", "q", 8), ("s", "H", 2), ("v", "d", 8), ("q", "B", 1), ("c", "I", 4)):
        column = content.get(key, bytes(4 * n) if key == "c" else None)
        if not isinstance(column, bytes) or len(column) != size * n:
            raise Fate("unusable", f"column {key}")
        columns[key] = struct.unpack(f"<{n}{code}", column)
    table = _table(content.get("series"))
    if max(columns["s"]) >= len(table):
        raise Fate("unusable", "series out of the table")
    if max(columns["q"]) > 100:
        raise Fate("unusable", "reliability")
    times, at = [], 0
    for difference in columns["t"]:
        at += difference
        times.append(at)
    if abs(f["offset"]) >= 2**62 or any(abs(t) >= 2**62 for t in times):
        raise Fate("unusable", "times beyond 64 bits")
    cap, bits = _clock(f)
    frames = content.get("frames") or {}
    if not isinstance(frames, dict):
        raise Fate("unusable", "frames")
    for index, frame in frames.items():
        if type(index) is not int or not 0 <= index < n or not isinstance(frame, bytes):
            raise Fate("unusable", "frames")
    return {
        "series": table,
        "recorded_at_us": [t + f["offset"] for t in times],
        "series_index": list(columns["s"]),
        "value": [v.hex() for v in columns["v"]],
        "reliability": [min(q, cap) for q in columns["q"]],
        "causes": [c | bits for c in columns["c"]],
        "frames": {str(index): frame.hex() for index, frame in frames.items()},
    }


def _clock(f: dict[str, Any]) -> tuple[int, int]:
    """WIRE.md §3: what the clock's uncertainty costs."""
    doubt = f["uncertainty"]
    cap = 100 if doubt <= 1_000_000 else 80 if doubt <= 60_000_000 else 50 if doubt <= 3_600_000_000 else 20
    return cap, (2 if cap < 100 else 0) | (4 if f["source"] == 2 else 0)


def _table(packed: Any) -> list[list[str]]:
    rows = _unpacked(packed) if isinstance(packed, bytes) else None
    if not isinstance(rows, list) or not 1 <= len(rows) <= 4_096:
        raise Fate("unusable", "series")
    table = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 6:
            raise Fate("unusable", "a series")
        for text in row[:6]:
            if not isinstance(text, str) or len(text.encode()) > 128 or any(ord(c) < 32 or ord(c) == 127 for c in text):
                raise Fate("unusable", "a name")
        if not (row[0] and row[1] and row[2]):
            raise Fate("unusable", "an empty name")
        table.append(row[:6])
    return table


def _gaps(content: dict[Any, Any]) -> dict[str, Any]:
    gaps = content.get("gaps")
    if not isinstance(gaps, list):
        raise Fate("unusable", "gaps")
    said = [_gap(entry) for entry in gaps]
    if len(said) > 4_096 or sum(len(g["counts"]) for g in said) > 4_096:
        raise Fate("unusable", "too many seqs")
    return {"gaps": said}


def _gap(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise Fate("unusable", "a gap")
    reason, counts = entry.get("reason"), entry.get("counts")
    if not isinstance(reason, str) or not 1 <= len(reason) <= 32 or not reason.isprintable():
        raise Fate("unusable", "reason")
    if not isinstance(counts, list) or any(type(c) is not int or not 0 <= c <= 32_768 for c in counts):
        raise Fate("unusable", "counts")
    epoch, first = entry.get("epoch"), entry.get("first")
    if type(epoch) is not int or not 0 <= epoch <= 2**63 - 1 or (counts and epoch == 0):
        raise Fate("unusable", "epoch")
    if type(first) is not int or not 0 <= first <= 2**62 - len(counts):
        raise Fate("unusable", "first")
    for key, least in (("readings", 0), ("from", -(2**63 - 1)), ("to", -(2**63 - 1))):
        number = entry.get(key)
        if number is not None and (type(number) is not int or not least <= number <= 2**63 - 1):
            raise Fate("unusable", key)
    return {
        "reason": reason,
        "epoch": f"{epoch:016x}",
        "first": first,
        "counts": counts,
        "readings": entry.get("readings"),
        "from": entry.get("from"),
        "to": entry.get("to"),
    }
