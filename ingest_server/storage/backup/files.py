"""The files of a backup: written compressed, synced and counted; read back whole, or only for their checksum."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from ingest_server.storage.backup.errors import DamagedBackup, NotWritten

_LEVEL = 3
_READ_BYTES = 1 << 20
_WAITING = 4
"""Blocks that wait for the compressor: a slow disk must hold up the COPY, not fill the memory."""


def open_new(path: Path) -> int:
    """A file that only its owner reads: it holds what rooms' sensors saw."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_whole(path: Path, content: bytes) -> None:
    """Raises NotWritten."""
    try:
        with open(open_new(path), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror}") from error


class CompressedFile:
    """Takes blocks, and compresses and writes them in a thread, while the next block comes from the database.

    On disk at the end of its `with`. Raises NotWritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []
        self.bytes = 0
        try:
            self._file = open(open_new(path), "wb")  # noqa: SIM115 -- closed at the end of our own `with`
        except OSError as error:
            raise NotWritten(f"{path}: {error.strerror}") from error

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def write(self, block: bytes) -> None:
        self._submit(block)
        while len(self._waiting) > _WAITING:
            self._waiting.pop(0).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._waiting:
                done = self._waiting.pop(0)
                if kind is None:
                    done.result()
            if kind is None:
                self._end()
        finally:
            self._thread.shutdown()
            try:
                self._file.close()
            except OSError as fault:
                if kind is None:
                    raise NotWritten(f"{self._path}: {fault.strerror}") from fault

    def _submit(self, block: bytes) -> None:
        self._waiting.append(self._thread.submit(self._append, block))

    def _append(self, block: bytes) -> None:
        self._put(self._compressor.compress(block))

    def _end(self) -> None:
        self._put(self._compressor.flush())
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise NotWritten(f"{self._path}: {error.strerror}") from error

    def _put(self, compressed: bytes) -> None:
        self._hash.update(compressed)
        self.bytes += len(compressed)
        try:
            self._file.write(compressed)
        except OSError as error:
            raise NotWritten(f"{self._path}: {error.strerror}") from error


def decompressed(path: Path) -> Iterator[tuple[bytes, int]]:
    """The content in blocks, each with how many bytes of the file were read for it. Raises DamagedBackup."""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            before = 0
            while block := reader.read(_READ_BYTES):
                at = file.tell()
                yield block, at - before
                before = at
    except zstandard.ZstdError as error:
        raise DamagedBackup(f"{path}: {error}: take another backup") from error
    except OSError as error:
        raise DamagedBackup(f"{path}: {error.strerror}") from error


def hashed(path: Path) -> Iterator[tuple[int, str]]:
    """Bytes that were read since, and the checksum so far. Raises DamagedBackup."""
    so_far = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                so_far.update(block)
                yield len(block), so_far.hexdigest()
    except FileNotFoundError as error:
        raise DamagedBackup(f"{path}: it is missing: take another backup") from error
    except OSError as error:
        raise DamagedBackup(f"{path}: {error.strerror}") from error
