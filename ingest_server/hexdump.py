"""Bytes as `hexdump -C` shows them."""

from collections.abc import Iterator

_WIDTH = 16


def hexdump(content: bytes) -> Iterator[str]:
    """A line for 16 bytes: offset, hex, ASCII. Lines that repeat the one before are one `*`; the last is the length."""
    before, starred = b"", False
    for offset in range(0, len(content), _WIDTH):
        row = content[offset : offset + _WIDTH]
        if row == before:
            if not starred:
                yield "*"
            starred = True
            continue
        before, starred = row, False
        halves = (" ".join(f"{byte:02x}" for byte in half) for half in (row[:8], row[8:]))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{offset:08x}  {'  '.join(f'{half:23}' for half in halves)}  |{text}|"
    yield f"{len(content):08x}"
