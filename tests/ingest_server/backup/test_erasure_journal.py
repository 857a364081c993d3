"""The journal of erasures: what is in it comes out, and what is damaged is named."""

from pathlib import Path
from uuid import UUID

import pytest

from ingest_server.storage.erasure import journal
from ingest_server.storage.erasure.erasing import Erasure, Interval
from ingest_server.storage.erasure.journal import JournalError, append, read

FIRST = Erasure(UUID(int=1), "2026-11-21 12:00:00+00", "안나", "on request", "s: all devices", 12, 0, None)
SECOND = Erasure(UUID(int=2), "2026-11-22 12:00:00+00", "x", "y\nz", "t: device d", 0, 0, None)
RULES = [
    Interval("s", None, "-infinity", "2026-11-21 00:00:00+00"),
    Interval("s", "d", "2026-01-01 00:00:00+00", "infinity"),
]


def test_what_is_entered_is_read(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    append(path, FIRST, RULES)
    append(path, SECOND, [])
    assert read(path) == [(FIRST, RULES), (SECOND, [])]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_bit_that_flipped_is_told_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    append(path, FIRST, RULES)
    append(path, SECOND, RULES)
    sound = path.read_bytes()
    second = sound.index(b"\n") + 1
    for place in range(second, len(sound) - 1):
        flipped = bytearray(sound)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(JournalError, match=r"erasures\.jsonl, line 2: "):
            read(path)


def test_a_line_that_was_torn_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    append(path, FIRST, RULES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    append(path, SECOND, RULES)
    with pytest.raises(JournalError, match="line 1: this is no erasure"):
        read(path)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
    assert read(path) == [(SECOND, RULES)]


def test_a_line_of_a_later_version_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "erasures.jsonl"
    with monkeypatch.context() as later:
        later.setattr(journal, "VERSION", 2)
        append(path, FIRST, RULES)
    with pytest.raises(JournalError, match=r"line 1: .*of version 2, and this heal7-iot knows 1"):
        read(path)


def test_a_journal_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        append(tmp_path, FIRST, RULES)
    with pytest.raises(FileNotFoundError):
        append(tmp_path / "none" / "journal", FIRST, RULES)
