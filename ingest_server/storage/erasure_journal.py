"""Erasures in a file of their own: a database that is restored from an older backup has forgotten them.

JSON lines, one for each erasure, only ever appended to.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from ingest_server.storage.erasure import Erasure, Interval


def append(path: Path, erasure: Erasure, rules: Sequence[Interval]) -> None:
    """Adds an erasure; on disk when this returns. Raises OSError."""
    entry = {"erasure": {**asdict(erasure), "erasure_id": str(erasure.erasure_id)}, "rules": [asdict(r) for r in rules]}
    new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # In one write: two that append at once must not mingle.
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        if os.write(file, line) != len(line):
            raise OSError(f"{path}: written in part only: the disk is full")
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        # A file whose name is not on disk is gone after a power cut, however well it was written.
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> list[tuple[Erasure, list[Interval]]]:
    """Every erasure, in the order in which they were added. Raises OSError, and ValueError for a damaged line."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            told = entry["erasure"]
            erasure = Erasure(**{**told, "erasure_id": UUID(told["erasure_id"])})
            found.append((erasure, [Interval(**rule) for rule in entry["rules"]]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: this is no erasure ({error}); restore the file") from error
    return found
