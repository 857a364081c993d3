"""Frames of one batch, device, profile and firmware as bytes: times, lengths and frames, compressed together.

zstd of: n (u32), n times (i64, Unix µs), n lengths (u32), the frames one after the other; integers little-endian.
"""

import struct
from collections.abc import Sequence

import numpy as np
import zstandard

_COUNT = struct.Struct("<I")
_LEVEL = 3


def pack(frames: Sequence[tuple[int, bytes]]) -> bytes:
    """Of (time, frame), n of them."""
    times = np.array([at_us for at_us, _ in frames], "<i8")
    lengths = np.array([len(frame) for _, frame in frames], "<u4")
    content = b"".join([_COUNT.pack(len(frames)), times.tobytes(), lengths.tobytes(), *(frame for _, frame in frames)])
    return zstandard.ZstdCompressor(level=_LEVEL).compress(content)


def unpack(content: bytes) -> list[tuple[int, bytes]]:
    """What `pack` was given."""
    plain = zstandard.ZstdDecompressor().decompress(content)
    (count,) = _COUNT.unpack_from(plain)
    times = np.frombuffer(plain, "<i8", count, _COUNT.size)
    lengths = np.frombuffer(plain, "<u4", count, _COUNT.size + times.nbytes)
    ends = np.cumsum(lengths, dtype=np.int64) + _COUNT.size + times.nbytes + lengths.nbytes
    spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    return [(at_us, plain[start:end]) for at_us, (start, end) in zip(times.tolist(), spans, strict=True)]
