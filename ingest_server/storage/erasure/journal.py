"""Erasures outside the database: a backup that is older than an erasure must not bring its rows back.

One JSON document a line, with a checksum; only ever appended to, each line on disk before `append` returns.
"""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from ingest_server.storage.erasure.erasing import Erasure, Interval

VERSION = 1
"""Of a line. Whoever reads a later one says so, rather than to enforce a part of it."""


class JournalError(ValueError):
    """A line of the journal is not what was written; the message names file and line."""


def append(path: Path, erasure: Erasure, intervals: Sequence[Interval]) -> None:
    """Enters an erasure that is in force. Raises OSError; then it may not be in the journal."""
    told = asdict(erasure) | {"erasure_id": str(erasure.erasure_id)}
    entry: dict[str, object] = {
        "version": VERSION,
        "erasure": told,
        "rules": [asdict(interval) for interval in intervals],
    }
    line = json.dumps(entry | {"crc32": _crc32(entry)}, ensure_ascii=False).encode() + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        end = os.fstat(handle).st_size
        # A line that a power cut tore stays a line of its own: one that is glued to it would be lost with it.
        if end and os.pread(handle, 1, end - 1) != b"\n":
            line = b"\n" + line
        # In one write: two that append at once must not mingle.
        if os.write(handle, line) != len(line):
            raise OSError(f"{path}: written in part only: the disk is full")
        os.fsync(handle)
    finally:
        os.close(handle)
    # A file whose name is not on disk is gone after a power cut, however well it was written.
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> list[tuple[Erasure, list[Interval]]]:
    """Every erasure in it, in the order of entry. Raises OSError, and JournalError for a damaged line."""
    lines = enumerate(path.read_bytes().splitlines(), 1)
    # An empty line is what an editor leaves, and what stands before an entry that follows a torn one.
    return [_parsed(path, number, line) for number, line in lines if line.strip()]


def _parsed(path: Path, number: int, line: bytes) -> tuple[Erasure, list[Interval]]:
    try:
        entry = json.loads(line)
        if entry.pop("crc32") != _crc32(entry):
            raise ValueError("its checksum is not that of its content")
        if entry["version"] != VERSION:
            raise ValueError(f"it is of version {entry['version']}, and this heal7-iot knows {VERSION}")
        told = entry["erasure"]
        erasure = Erasure(**told | {"erasure_id": UUID(told["erasure_id"])})
        rules = [Interval(**rule) for rule in entry["rules"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise JournalError(
            f"{path}, line {number}: this is no erasure ({why}): restore the file from a copy, or remove the line and"
            " erase again what it named"
        ) from error
    return erasure, rules


def _crc32(entry: dict[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(entry, ensure_ascii=False, sort_keys=True).encode()):08x}"
