"""Wrote the files in `v1/`, once: `python -m tests.golden.wire.make_v1 DIRECTORY`. They are never written again.

It uses the independent writer, so that the vectors are no echo of the code that they test. Kept to show how each was
made; a new vector goes into a new file beside the old ones.
"""

import hashlib
import json
import random
import struct
import sys
from pathlib import Path
from typing import Any

import msgpack
import zstandard

from tests.golden.wire.independent import Fate, Plan, data_body, gap, gap_body, read

GATEWAY = "seoul-1/lobby"
HALL = ["hall-1", "temperature", "temperature", "°C", "bthome_v2", "2.1"]
HUMID = ["hall-1", "humidity", "humidity", "%", "bthome_v2", "2.1"]
KOREAN = ["체험관-로비-미세먼지", "pm2_5", "pm2_5", "µg/m³", "plantower_pms5003", ""]
UNKNOWN = ["hall-2", "frame", "frame", "", "", "9.9"]
ONE = data_body([HALL], [(1_000_000, 0, 21.5, 100)])


def many() -> bytes:
    """1,000 readings of four series, out of order here and there, with causes."""
    draw = random.Random(7)
    table = [HALL, HUMID, KOREAN, ["hall-1", "temperature-2", "temperature", "°C", "bthome_v2", "2.1"]]
    rows = [
        (5_000_000 + 100_000 * n - draw.choice((0, 0, 0, 350_000)), n % 4, draw.randrange(4000) / 128, 100 - n % 7)
        for n in range(1000)
    ]
    return data_body(table, rows, causes=[1 if n % 50 == 0 else 0 for n in range(1000)])


def flipped(payload: bytes, at: int) -> bytes:
    return payload[:at] + bytes([payload[at] ^ 0x10]) + payload[at + 1 :]


def patched(body: bytes, **values: Any) -> bytes:
    content = msgpack.unpackb(body) | values
    packed: bytes = msgpack.packb({k: v for k, v in content.items() if v is not None})
    return packed


def sound() -> dict[str, tuple[str, bytes]]:
    good = {
        "one_reading": ("the smallest data batch: one reading, its body as it is", Plan(ONE, 1).payload()),
        "thousand_readings": (
            "1,000 readings of four series, some out of order, zstd, with cause bits, not the first of its epoch",
            Plan(many(), 1000, encoding=1, seq=17, before=16_000).payload(),
        ),
        "causes": (
            "every cause bit of §3, and bits that nobody knows yet, which are kept",
            Plan(
                data_body([HALL], [(n, 0, 20.0 + n, 60) for n in range(7)], causes=[0, 1, 2, 4, 8, 16, 0x8000_0400]),
                7,
            ).payload(),
        ),
        "unknown_firmware": (
            "raw frames of firmware that no profile knows: profile empty, value NaN; the second reading is known",
            Plan(
                data_body(
                    [UNKNOWN, HALL],
                    [(1, 0, float("nan"), 0), (2, 1, 20.0, 100), (3, 0, float("nan"), 0)],
                    frames={0: bytes.fromhex("424d001c"), 2: b""},
                ),
                3,
            ).payload(),
        ),
        "uncompressed": (
            "a body of some size stored as it is, which is as good as zstd",
            Plan(data_body([HALL, HUMID], [(1_000_000 * n, n % 2, n / 4, 100) for n in range(64)]), 64).payload(),
        ),
        "korean_names": (
            "names beyond ASCII, and one of exactly 128 bytes",
            Plan(
                data_body(
                    [KOREAN, ["가" * 42 + "ab", "t", "temperature", "°C", "p", "f"]], [(1, 0, 3.0, 90), (2, 1, 4.0, 90)]
                ),
                2,
            ).payload(),
        ),
        "estimated_clock": (
            "a boot that was never synchronised: source 2, one day of doubt; and monotonic times before 0",
            Plan(
                data_body([HALL], [(-5_000_000, 0, 19.0, 100), (86_400_000_000, 0, 19.5, 100)]),
                2,
                source=2,
                uncertainty=86_400_000_000,
            ).payload(),
        ),
        "not_finite": (
            "NaN and the infinities: the batch is sound, a server quarantines these readings one by one",
            Plan(
                data_body(
                    [HALL], [(n, 0, v, 100) for n, v in enumerate((1.0, float("nan"), float("inf"), float("-inf")))]
                ),
                4,
            ).payload(),
        ),
        "later_writer": (
            "what a later writer may add: an extension of the envelope, a key of the body, an element of a series",
            Plan(
                data_body([[*HALL, "calibrated"]], [(1, 0, 20.0, 100)], other={"raw": b"\x01", "x": [1, 2]}),
                1,
                extension=b"later",
            ).payload(),
        ),
        "frame_of_unknown_size": (
            "a zstd frame that does not state its size, as a streaming writer makes it",
            Plan(b"", 1, encoding=1).around(zstandard.ZstdCompressor(write_content_size=False).compress(ONE), len(ONE)),
        ),
        "bounds": (
            "the greatest seq, epoch, instance and readings before",
            Plan(ONE, 1, seq=2**62 - 1, epoch=2**63 - 1, instance=2**63 - 1, before=2**53).payload(),
        ),
        "gap_counts": (
            "a gap of three seqs of its own epoch and one of an older epoch",
            Plan(
                gap_body(
                    [
                        gap(
                            "bound",
                            0x03D9_0000_0000_0001,
                            4,
                            [500, 0, 32_768],
                            0,
                            (1_795_255_100_000_000, 1_795_255_200_000_000),
                        ),
                        gap("bad_copy", 0x0001_0000_0000_0009, 2**62 - 1, [7]),
                    ]
                ),
                0,
                kind=1,
                seq=7,
                before=33_268,
            ).payload(),
        ),
        "gap_unsealed": (
            "readings that were lost before they were sealed: a known number, an unknown one, a reason of tomorrow",
            Plan(
                gap_body(
                    [
                        gap("unclean_stop", 0, 0, [], None, (1_795_255_100_000_000, None)),
                        gap("overrun", 0, 0, [], 12),
                        gap("sunspots", 0, 0, [], 1),
                    ]
                ),
                0,
                kind=1,
                encoding=1,
            ).payload(),
        ),
        "gap_empty": (
            "a gap batch that names nothing; it settles its own seq",
            Plan(gap_body([]), 0, kind=1).payload(),
        ),
    }
    return {f"good_{name}": value for name, value in good.items()}


def damaged() -> dict[str, tuple[str, bytes]]:
    one = Plan(ONE, 1).payload()
    body_at = 76 + len(GATEWAY) + 4
    bad = {
        "empty": ("no bytes at all", b""),
        "magic_only": ("shorter than 8 bytes", b"H7IB\x01"),
        "alien": ("somebody else's JSON", b'{"temperature": 21.5, "device": "hall-1"}'),
        "envelope_bit": ("one bit of the seq flipped", flipped(one, 24)),
        "name_bit": ("one bit of the gateway's name flipped", flipped(one, 80)),
        "body_bit": ("one bit of the body flipped", flipped(one, body_at + 20)),
        "checksum_bit": ("one bit of the envelope's checksum flipped", flipped(one, body_at - 1)),
        "truncated_body": ("the last byte is missing", one[:-1]),
        "truncated_envelope": ("cut within the envelope", one[:50]),
        "truncated_after_version": ("the 8 bytes that are always read, and nothing else", one[:8]),
        "trailing": ("one byte too many", one + b"\0"),
        "envelope_short": ("E leaves no room for the name", Plan(ONE, 1, lies={"e": 80}).payload()),
        "envelope_long": ("E reaches beyond the payload", Plan(ONE, 1, lies={"e": 65_535}).payload()),
        "body_length": ("B is one too small", Plan(ONE, 1, lies={"b": len(ONE) - 1}).payload()),
        "name_length": (
            "G takes the checksum for a part of the name",
            Plan(ONE, 1, lies={"g": len(GATEWAY) + 4}).payload(),
        ),
        "other_gateway": ("the name is not the topic's", Plan(ONE, 1, gateway=b"seoul-1/attic").payload()),
        "epoch_0": ("epoch 0, everything else right: nothing to settle", Plan(ONE, 1, epoch=0).payload()),
        "epoch_64_bits": ("epoch 2⁶³", Plan(ONE, 1, epoch=2**63).payload()),
        "seq_2_62": ("seq 2⁶²", Plan(ONE, 1, seq=2**62).payload()),
        "readings_32769": ("more readings than a batch holds", Plan(ONE, 32_769).payload()),
        "before_64_bits": ("readings before of 2⁵³ + 1", Plan(ONE, 1, before=2**53 + 1).payload()),
        "instance_0": ("instance 0", Plan(ONE, 1, instance=0).payload()),
        "too_large": (
            "one byte more than 128 KiB, all else right",
            Plan(ONE + bytes(131_073 - len(one)), 1).payload(),
        ),
    }
    return {f"damaged_{name}": value for name, value in bad.items()}


def unsupported() -> dict[str, tuple[str, bytes]]:
    one = Plan(ONE, 1).payload()
    bad = {
        "version_2": ("version 2 under right checksums", Plan(ONE, 1, version=2).payload()),
        "version_0": ("version 0", Plan(ONE, 1, version=0).payload()),
        "version_255_cut": ("an unknown version is not read beyond its 8 bytes", one[:4] + b"\xff" + one[5:8]),
    }
    return {f"unsupported_{name}": value for name, value in bad.items()}


def unusable() -> dict[str, tuple[str, bytes]]:
    packed = zstandard.ZstdCompressor().compress(ONE)
    claims = zstandard.ZstdCompressor().compress(bytes(1_000_000))
    z = Plan(ONE, 1, encoding=1)
    bodies = {
        "t_short": ("column t has 7 bytes", patched(ONE, t=bytes(7))),
        "s_long": ("column s has one value too many", patched(ONE, s=bytes(4))),
        "v_missing": ("no column v", patched(ONE, v=None)),
        "q_as_text": ("column q is a string", patched(ONE, q="a")),
        "c_short": ("column c has 3 bytes", patched(ONE, c=bytes(3))),
        "series_index": ("the reading names a series that the table does not have", patched(ONE, s=b"\x01\x00")),
        "series_empty": ("an empty series table", patched(ONE, series=msgpack.packb([]))),
        "series_not_binary": ("series is an array, not binary", patched(ONE, series=[HALL])),
        "series_of_five": ("a series of five strings", patched(ONE, series=msgpack.packb([HALL[:5]]))),
        "series_number": ("a device that is a number", patched(ONE, series=msgpack.packb([[7, *HALL[1:]]]))),
        "device_empty": ("a device without a name", patched(ONE, series=msgpack.packb([["", *HALL[1:]]]))),
        "device_long": ("a device's name of 129 bytes", patched(ONE, series=msgpack.packb([["가" * 43, *HALL[1:]]]))),
        "device_control": ("a device's name with U+0000", patched(ONE, series=msgpack.packb([["hall\0", *HALL[1:]]]))),
        "device_not_utf8": (
            "a device's name that is not UTF-8",
            patched(ONE, series=msgpack.packb([HALL]).replace(b"hall-1", b"hall\xff1")),
        ),
        "reliability_101": ("reliability 101", patched(ONE, q=b"\x65")),
        "time_overflow": ("monotonic time 2⁶³ − 1", patched(ONE, t=struct.pack("<q", 2**63 - 1))),
        "frames_index": ("a frame of a reading that the batch does not have", patched(ONE, frames={1: b"x"})),
        "frames_text": ("a frame that is text", patched(ONE, frames={0: "x"})),
        "not_a_map": ("the body is an array", msgpack.packb([1, 2, 3])),
        "not_msgpack": ("the body is a byte that MessagePack never uses", b"\xc1"),
        "trailing_msgpack": ("a byte after the body's map", ONE + b"\xc0"),
        "nested": ("a body that nests 2,000 deep", b"\x91" * 2_000 + b"\xc0"),
    }
    bad = {name: (shows, Plan(body, 1).payload()) for name, (shows, body) in bodies.items()}
    gaps = {
        "gap_without_epoch": ("a gap that names seqs of epoch 0", gap("bound", 0, 0, [1])),
        "gap_first_negative": ("a gap of seq −1", gap("bound", 1, -1, [1])),
        "gap_beyond_seqs": ("a gap that reaches beyond the greatest seq", gap("bound", 1, 2**62 - 1, [1, 1])),
        "gap_too_many": ("a gap of 4,097 seqs", gap("bound", 1, 0, [1] * 4_097)),
        "gap_reason": ("a gap without a reason", gap("", 1, 0, [1])),
        "gap_count": ("a gap of a batch of 32,769 readings", gap("bound", 1, 0, [32_769])),
    }
    bad |= {name: (shows, Plan(gap_body([g]), 0, kind=1).payload()) for name, (shows, g) in gaps.items()}
    bad |= {
        "kind_2": ("a kind that nobody knows", Plan(ONE, 1, kind=2).payload()),
        "encoding_2": ("a body encoding that nobody knows", Plan(ONE, 1, lies={"encoding": 2}).payload()),
        "source_3": ("a clock source that nobody knows", Plan(ONE, 1, source=3).payload()),
        "data_of_none": ("kind data with 0 readings", Plan(data_body([HALL], []), 0).payload()),
        "gap_with_readings": ("kind gap with one reading", Plan(gap_body([]), 1, kind=1).payload()),
        "offset_overflow": ("a clock offset of 2⁶²", Plan(ONE, 1, offset=2**62).payload()),
        "length_small": ("the stated length is less than the body's", z.around(packed, len(ONE) - 1)),
        "length_large": ("the stated length is more than the body's", z.around(packed, len(ONE) + 1)),
        "length_plain": (
            "encoding 0 with a length that is not B",
            Plan(ONE, 1, lies={"length": len(ONE) + 1}).payload(),
        ),
        "zstd_claims_more": ("a frame of 1,000,000 bytes behind a length of 100", z.around(claims, 100)),
        "zstd_beyond_bound": ("a length of 2³² − 1", z.around(packed, 2**32 - 1)),
        "zstd_cut": ("half a zstd frame", z.around(packed[: len(packed) // 2], len(ONE))),
        "zstd_trailing": ("a byte after the zstd frame", z.around(packed + b"\0", len(ONE))),
        "zstd_two_frames": ("two zstd frames", z.around(packed + packed, len(ONE))),
        "zstd_none": ("encoding 1 around what is no zstd frame", z.around(ONE, len(ONE))),
    }
    return {f"unusable_{name}": value for name, value in bad.items()}


def main(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for made in (sound(), damaged(), unsupported(), unusable()):
        for name, (shows, payload) in made.items():
            entry: dict[str, Any] = {"file": f"{name}.bin", "shows": shows, "topic": GATEWAY}
            try:
                entry |= {"fate": "sound", "decoded": read(payload, GATEWAY)}
            except Fate as fate:
                entry |= {"fate": fate.fate}
            expected = "sound" if name.startswith("good_") else name.split("_")[0]
            assert entry["fate"] == expected, (name, entry)
            (directory / entry["file"]).write_bytes(payload)
            entries.append(entry)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (directory / "vectors.json").write_text(f"[\n{lines}\n]\n")
    sums = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}"
        for f in sorted(directory.iterdir())
        if f.suffix in (".bin", ".json")
    ]
    (directory / "SHA256SUMS").write_text("\n".join(sums) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
